"""A process and its memory. Linux only."""

import ctypes
import gc
import os
from pathlib import Path


def resident_bytes(pid: int | None = None) -> int:
    """Resident memory of a process; of this one where none is named.

    Raises:
        OSError: there is no such process, or it is over.
    """
    pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def release_freed_memory() -> None:
    """Give what this process has freed back to the system, where its C library can.

    glibc keeps what lies below the newest piece still in use; after a training that is much.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
