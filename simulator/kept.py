"""How many of each user's newest events a run's cloud keeps: a number beside its journal."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

KEEP: Final = 1000
"""Of a cloud that is told nothing else."""
_FILE: Final = "kept.json"


def note_kept(own: Path, flags: Sequence[str]) -> None:
    """Write down beside a run's journal how many events of each user its cloud keeps.

    Args:
        own: the folder of the run.
        flags: ``path=value`` settings that its cloud has taken.
    """
    given = dict(flag.split("=", 1) for flag in flags)
    keep = given.get("history") or os.environ.get("CONCERTO_CLOUD_HISTORY") or str(KEEP)
    (own / _FILE).write_text(json.dumps(int(json.loads(keep))))


def read_kept(own: Path) -> int:
    """What `note_kept` wrote; `KEEP` where it wrote nothing."""
    path = own / _FILE
    return int(path.read_text()) if path.is_file() else KEEP
