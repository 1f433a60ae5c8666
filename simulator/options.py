"""What the commands share: options, how they read seeds, where they print, how they are cut off."""

import sys
from pathlib import Path
from typing import Annotated, Final

import psutil
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
FaultsFile = Annotated[
    Path | None, typer.Option("--faults", help="YAML file of faults to play; see docs/faults.md.")
]
WithHistory = Annotated[
    bool, typer.Option("--history", help="Write down what the cloud acknowledges, to check it.")
]
Metrics = Annotated[
    str | None,
    typer.Option(
        help="HOST:PORT for Prometheus, or PORT of this machine alone.", envvar="CONCERTO_METRICS"
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder for the results.")]

INTERRUPTED: Final = 130
ANYWHERE: Final = "0.0.0.0:50051"
CloudHost = Annotated[
    str | None,
    typer.Option(
        help="HOST:PORT of a `concerto-cloud host` that is to train and serve.",
        envvar="CONCERTO_CLOUD_HOST",
    ),
]
Serve = Annotated[
    str,
    typer.Option(help="HOST:PORT where that host's clouds are to listen.", envvar="CONCERTO_SERVE"),
]
Listen = Annotated[
    str | None,
    typer.Option(
        help="HOST:PORT where device processes dial in, which then are not started.",
        envvar="CONCERTO_LISTEN",
    ),
]
Tls = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the identities `cloud`, `simulator` and `device`, as far as these run "
        "here: all is mutual TLS.",
        envvar="CONCERTO_TLS",
    ),
]
Plaintext = Annotated[
    bool,
    typer.Option(
        "--plaintext",
        help="In clear, to whoever comes, also off loopback.",
        envvar="CONCERTO_PLAINTEXT",
    ),
]


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


def interrupted(folder: Path) -> typer.Exit:
    """The end of a command that was cut short, which says what it left in ``folder``."""
    begun = psutil.Process().create_time()
    left = any(path.stat().st_mtime >= begun for path in folder.rglob("metrics.json"))
    where = f"what was measured until now lies in {folder}" if left else "nothing is measured yet"
    typer.echo(f"interrupted: {where}", err=True)
    return typer.Exit(INTERRUPTED)
