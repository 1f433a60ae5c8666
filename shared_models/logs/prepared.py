"""The prepared log: the only hand-over between data, cloud and simulator.

A folder with ``train.parquet``, ``validation.parquet``, ``test.parquet``, ``items.parquet``,
``users.parquet`` and ``log.json``. Event columns:

- ``user`` int32, 0 to U-1; ``item`` int32, 1 to V (0 stands for no item);
- ``at`` float64, seconds; ``seq`` int32, number of the event in the user's life, over all parts;
- labelled exposures also have ``label`` float32 and ``request`` int64. A request below 0 is one
  event of behaviour: the user took the item (label 1) without having been shown any. It is part of
  histories, and nothing to learn to predict or to be judged by;
- exposures out of an original's table also have ``row`` int64, their place in it from 1; behaviour
  has 0.

``items`` and ``users`` map the numbers back to the raw ids (``raw``, text) and hold features. Where
a log tells whom users are like, ``neighbours`` of ``users`` holds raw ids, separated by spaces.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared_models.contract.errors import BadLog, PathMissing

FORMAT: Final = 1
ABOUT: Final = "log.json"
PARTS: Final = ("train", "validation", "test")
TABLES: Final = ("items", "users")
Part = Literal["train", "validation", "test"]


class LogManifest(BaseModel):
    """What a prepared log says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    name: str
    task: Literal["next-item", "labelled-exposures"]
    split: str
    leaks: str = Field(description="What the split lets training know that it should not.")
    users: int
    items: int
    events: Mapping[str, int] = Field(description="Events in each part.")
    truth: Mapping[str, float] = Field(
        default_factory=dict, description="What is known of a synthetic world, such as best_auc."
    )
    hash: str = Field(description="SHA-256 over the content, wherever and however it is stored.")


NEIGHBOURS: Final = "neighbours"
ABOUT_FIELDS: Final = frozenset({"name", "task", "split", "leaks", "truth"})
"""What a log's writer says of it; all else is counted."""


class PreparedLog:
    """A prepared log on disk; frames are read when they are first needed."""

    def __init__(self, folder: Path, manifest: LogManifest) -> None:
        self.folder, self.manifest = folder, manifest

    @property
    def hash(self) -> str:
        """Names the content."""
        return self.manifest.hash

    @property
    def users(self) -> int:
        """Number of users U."""
        return self.manifest.users

    @property
    def items(self) -> int:
        """Number of items V."""
        return self.manifest.items

    @property
    def task(self) -> str:
        """``next-item`` or ``labelled-exposures``."""
        return self.manifest.task

    @cached_property
    def train(self) -> pl.DataFrame:
        """Events to learn from, in order of (user, seq)."""
        return self._frame("train")

    @cached_property
    def validation(self) -> pl.DataFrame:
        """Events after them, to choose by."""
        return self._frame("validation")

    @cached_property
    def test(self) -> pl.DataFrame:
        """Events after those, to replay."""
        return self._frame("test")

    @cached_property
    def item_table(self) -> pl.DataFrame:
        """``item``, ``raw`` and features."""
        return self._frame("items")

    @cached_property
    def user_table(self) -> pl.DataFrame:
        """``user``, ``raw`` and features."""
        return self._frame("users")

    @cached_property
    def events(self) -> pl.DataFrame:
        """All parts together, in order of (user, seq)."""
        return pl.concat([self.train, self.validation, self.test]).sort("user", "seq")

    def _frame(self, name: str) -> pl.DataFrame:
        path = self.folder / f"{name}.parquet"
        try:
            return pl.read_parquet(path)
        except pl.exceptions.PolarsError as error:
            raise BadLog(f"{path} is damaged: prepare the log again") from error


def taken(events: pl.DataFrame) -> pl.DataFrame:
    """What users took: every event, but for what was shown to them in vain."""
    return events.filter(pl.col("label") > 0) if "label" in events.columns else events


def targets(events: pl.DataFrame) -> pl.DataFrame:
    """What a model may be asked to predict: every event, but for mere behaviour."""
    return events.filter(pl.col("request") >= 0) if "request" in events.columns else events


def open_log(folder: Path) -> PreparedLog:
    """Open a prepared log.

    Raises:
        PathMissing: there is none.
        BadLog: it is damaged, or of another format.
    """
    about = folder / ABOUT
    if not about.is_file():
        raise PathMissing(about)
    try:
        fields = json.loads(about.read_text())
        if fields.get("format") != FORMAT:
            raise BadLog(
                f"{about}: format {fields.get('format')}, expected {FORMAT}: prepare again"
            )
        manifest = LogManifest.model_validate(fields)
    except (ValidationError, ValueError, AttributeError) as error:
        raise BadLog(f"{about}: not the description of a prepared log") from error
    missing = [n for n in (*PARTS, *TABLES) if not (folder / f"{n}.parquet").is_file()]
    if missing:
        raise BadLog(f"{folder}: lacks {', '.join(missing)}: prepare it again")
    return PreparedLog(folder, manifest)


def write_log(
    folder: Path, frames: Mapping[str, pl.DataFrame], about: Mapping[str, Any]
) -> PreparedLog:
    """Write a prepared log, all of it or nothing; an older one in its place is replaced.

    Args:
        folder: where.
        frames: the parts and tables by name.
        about: the manifest's fields but ``hash``, ``users``, ``items`` and ``events``.
    """
    counts = {
        "users": len(frames["users"]),
        "items": len(frames["items"]),
        "events": {part: len(frames[part]) for part in PARTS},
    }
    manifest = LogManifest(**about, **counts, hash=_content_hash(frames, about))
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        for name, frame in frames.items():
            frame.write_parquet(draft / f"{name}.parquet")
        (draft / ABOUT).write_text(manifest.model_dump_json(indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return PreparedLog(folder, manifest)


def _content_hash(frames: Mapping[str, pl.DataFrame], about: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(frames):
        for column in frames[name]:
            digest.update(f"{name}.{column.name}.{column.dtype}".encode())
            digest.update(_bytes(column))
    return digest.hexdigest()


def _bytes(column: pl.Series) -> bytes:
    if column.dtype.is_numeric():
        return bytes(column.to_numpy().tobytes())
    return "\x00".join(map(str, column.to_list())).encode()
