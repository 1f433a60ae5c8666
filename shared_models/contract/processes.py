"""What the kernel knows of a process. Linux only."""

import os
from pathlib import Path


def resident_bytes(pid: int | None = None) -> int:
    """Resident memory of a process; of this one where none is named.

    Raises:
        OSError: there is no such process, or it is over.
    """
    pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
