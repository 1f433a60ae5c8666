"""Where in the folder of its results a run's cloud and devices leave what they were told."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from shared_models.contract.errors import BadSetting

LOGS: Final = "logs"
JOURNALS: Final = "journals"
JOURNAL: Final = "journal.sqlite"
CONTRIBUTIONS: Final = "contributions.sqlite"
"""Beside the journal, where a cloud puts it by itself."""
BUNDLES: Final = "bundles"
MEMORY: Final = "memory"
HISTORY: Final = "history"


def own_folder(results: Path, run: str) -> Path:
    """Where the cloud of a run keeps what it is told and what it learns from that."""
    return results / JOURNALS / run


def require_writable(results: Path) -> None:
    """See whether results may be left in a folder, which need not be there yet, and inside it.

    Raises:
        BadSetting: they may not.
    """
    for folder in _written(results):
        try:
            there = next(path for path in (folder, *folder.parents) if path.exists())
            with TemporaryFile(dir=there):
                pass
        except OSError as error:
            words = f"{folder} cannot be written: {error.strerror}. Name another folder"
            raise BadSetting("out", words) from error


def _written(results: Path) -> Iterator[Path]:
    """Where files are made or replaced; each one is looked into when those before were."""
    yield from (results, results / LOGS, results / JOURNALS)
    yield from (results / JOURNALS).glob("*/")
