"""Where in the folder of its results a run's cloud and devices leave what they were told."""

from pathlib import Path
from typing import Final

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
