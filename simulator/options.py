"""What the commands share: how they read seeds, and where they print."""

import sys

from rich.console import Console

from shared_models.contract.errors import BadSetting


def console() -> Console:
    """A terminal is as wide as it is; a file gets lines that hold a table."""
    return Console(width=None if sys.stdout.isatty() else 120)


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
