"""MovieLens-100K: 100,000 ratings of 1,682 films by 943 people, 1997 and 1998 (GroupLens).

The licence forbids to pass the data on, so it is fetched: from a folder that
``$CONCERTO_MOVIELENS`` names, or out of a wheel on the package index that carries it. The files'
MD5 sums are checked either way. Nothing of the wheel is installed or run.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

import polars as pl

from shared_models.contract.errors import BadLog, PathMissing
from shared_models.logs.source import Source

NAME: Final = "movielens-100k"
_WHEEL: Final = "recbole==1.2.1"
_INSIDE: Final = "recbole/dataset_example/ml-100k"
_MD5: Final = {
    "ml-100k.inter": "a8a8c3f165aedc53f63b5dc0a0463b14",
    "ml-100k.user": "ac50ecbab626dbefa83288a3593f92ab",
    "ml-100k.item": "fb748e97e64d9a35421d06d7083d0959",
}


def read_movielens(cache: Path) -> Source:
    """Every rating as an event; what is known of people and films as features."""
    folder = fetch_movielens(cache)
    events = _table(folder, "inter").select(
        user=pl.col("user_id").cast(pl.Int64),
        item=pl.col("item_id").cast(pl.Int64),
        at=pl.col("timestamp").cast(pl.Float64),
    )
    items = _table(folder, "item").rename({"item_id": "raw", "class": "genres"})
    return Source(NAME, events, items, _table(folder, "user").rename({"user_id": "raw"}))


def fetch_movielens(cache: Path) -> Path:
    """The folder with the data, fetched if it is not there yet.

    Raises:
        BadLog: it cannot be fetched, or is not the data we know.
        PathMissing: ``$CONCERTO_MOVIELENS`` names a folder without it.
    """
    own = os.environ.get("CONCERTO_MOVIELENS")
    folder = Path(own) if own else cache / NAME
    if not own and not folder.is_dir():
        _download(folder)
    for name, md5 in _MD5.items():
        path = folder / name
        if not path.is_file():
            raise PathMissing(path)
        if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != md5:
            raise BadLog(f"{path}: not the file we know (MD5 differs); delete {folder} and retry")
    return folder


def _download(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
        command = ["download", "--quiet", "--no-deps", "--dest", draft, _WHEEL]
        done = subprocess.run(
            [sys.executable, "-m", "pip", *command], check=False, capture_output=True, text=True
        )
        wheels = list(Path(draft).glob("*.whl"))
        if done.returncode or not wheels:
            why = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise BadLog(
                f"{NAME} cannot be fetched ({why}): put {', '.join(_MD5)} into a folder and name "
                "it in CONCERTO_MOVIELENS"
            )
        files = Path(draft) / "files"
        files.mkdir()
        with zipfile.ZipFile(wheels[0]) as wheel:
            for name in _MD5:
                (files / name).write_bytes(wheel.read(f"{_INSIDE}/{name}"))
        files.rename(folder)


def _table(folder: Path, kind: str) -> pl.DataFrame:
    """A tab-separated table whose header says ``name:type``, all as text."""
    table = pl.read_csv(
        folder / f"ml-100k.{kind}", separator="\t", infer_schema=False, quote_char=None
    )
    return table.rename({name: name.partition(":")[0] for name in table.columns})
