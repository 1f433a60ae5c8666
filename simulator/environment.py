"""Where a run took place: versions, machine, and what each process had loaded."""

import os
import platform
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import psutil

from simulator.replay import Account

_PACKAGES: Final = ("concerto-rec", "grpcio", "numpy", "onnxruntime", "polars", "protobuf", "torch")


def describe(clouds: Mapping[int, int], accounts: Iterable[Account]) -> dict[str, Any]:
    """What may explain a measured figure; nothing in it decides a result.

    Args:
        clouds: resident bytes of every cloud process of the experiment, by process id.
        accounts: the last word of each device process.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "packages": {name: _version(name) for name in _PACKAGES},
        "simulator": {
            "pid": os.getpid(),
            "modules": sorted({name.partition(".")[0] for name in sys.modules}),
            "resident_bytes": psutil.Process().memory_info().rss,
        },
        "clouds": [{"pid": pid, "resident_bytes": size} for pid, size in clouds.items()],
        "devices": [
            {
                "pid": account.pid,
                "provider": account.ready.provider,
                "modules": sorted(account.done.modules),
                "resident_bytes": account.done.resident_bytes,
            }
            for account in accounts
        ],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
