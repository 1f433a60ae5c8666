"""A process: its memory and its turns on a core. Linux only."""

import ctypes
import gc
import os
import sys
from contextlib import suppress
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


def schedule_as_batch() -> None:
    """Have the kernel schedule this thread, and all it starts, for throughput: ``SCHED_BATCH``.

    A thread that wakes then waits for its turn, where it would interrupt one that runs. gRPC's own
    threads wake one another several times for each exchange, and on cores that a simulation keeps
    busy most of that is lost in changing between them. Beside work that is not of the simulation
    each waking costs some milliseconds, so it is not for a cloud that serves users.

    A process that was given a policy of its own keeps it, and so do all where the kernel, or a
    container's, allows none. Nothing happens on other systems than Linux.
    """
    if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
