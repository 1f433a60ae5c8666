"""What the commands share: their options, how they read seeds, and where they print."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from shared_models.contract.errors import BadSetting

Trunk = Annotated[str | None, typer.Option(help="sasrec, gru4rec or din.")]
Log = Annotated[
    str | None, typer.Option(help="movielens-100k, synthetic, or a CSV or Parquet file.")
]
UserCol = Annotated[str | None, typer.Option(help="Column of users in your file.")]
ItemCol = Annotated[str | None, typer.Option(help="Column of items in your file.")]
TimeCol = Annotated[str | None, typer.Option(help="Column of times in your file.")]
LabelCol = Annotated[
    str | None, typer.Option(help="Column of labels, where your file holds exposures.")
]
RequestCol = Annotated[str | None, typer.Option(help="Column that says what was shown together.")]
Split = Annotated[str | None, typer.Option(help="user-tail, global-time or leave-one-out.")]
Devices = Annotated[int | None, typer.Option(help="Number of device processes.")]
Seeds = Annotated[str | None, typer.Option(help="Model seeds, as in 0,1,2.")]
Seed = Annotated[int | None, typer.Option(help="One model seed.")]
DataSeed = Annotated[int | None, typer.Option(help="Chooses test candidates.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="path.to.setting=value; may be repeated.")
]
File = Annotated[Path | None, typer.Option(help="YAML file with all of these.")]
Prefix = Annotated[
    Path | None, typer.Option(help="Of a graph's files, for methods that classify nodes.")
]
Out = Annotated[Path | None, typer.Option(help="Folder for the results.")]


def console() -> Console:
    """A terminal is as wide as it is; a file gets lines that hold a table."""
    return Console(width=None if sys.stdout.isatty() else 150)


def seed_numbers(seeds: str | None, seed: int | None) -> list[int] | None:
    """The seeds of ``--seeds 0,1,2`` or ``--seed 0``; None where neither is given.

    Raises:
        BadSetting: both are given, or it is not a list of numbers from 0.
    """
    if seeds is None:
        return None if seed is None else [seed]
    if seed is not None:
        raise BadSetting("seeds", "give --seeds or --seed, not both")
    if not all(part.strip().isdecimal() for part in seeds.split(",")):
        raise BadSetting("seeds", f"expected numbers as in 0,1,2, got {seeds!r}")
    return [int(part) for part in seeds.split(",")]
