"""concerto check: what is known from outside, measured here."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from shared_models.contract.errors import UnknownName
from simulator.fleet import end_like_ctrl_c
from simulator.history import check_runs
from simulator.history import table as history_table
from simulator.options import console, interrupted, seed_numbers
from simulator.progress import Display
from simulator.published.bands import CHECKS
from simulator.published.measure import measure
from simulator.published.verdict import Finding, all_hold, judge, table, write

FAILED: Final = 1

check = typer.Typer(help=__doc__, no_args_is_help=True)


@check.callback()
def _group() -> None:
    """What is known from outside, measured here."""


@check.command()
def history(
    folder: Annotated[Path, typer.Argument(help="Folder of a run with --faults or --history.")],
) -> None:
    """Hold what devices were promised against what the cloud holds; ends with 1 where it is not."""
    checked = check_runs(folder)
    console().print(history_table(checked))
    if not all(run.holds for run in checked):
        raise typer.Exit(FAILED)


@check.command()
def published(
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"Of {', '.join(CHECKS)}; may be repeated; by default all."),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Model seeds, as in 0,1; by default each check's own.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/published"),
) -> None:
    """Compare figures on MovieLens-100K with published ones; ends with 1 where one is off."""
    chosen = only or list(CHECKS)
    for name in chosen:
        if name not in CHECKS:
            raise UnknownName("check", name, CHECKS)
    own_seeds = seed_numbers(seeds, None)
    shown = console()
    end_like_ctrl_c()
    try:
        findings = asyncio.run(_measure_all(chosen, own_seeds, out, shown))
    except KeyboardInterrupt:
        raise interrupted(out) from None
    shown.print(table(findings))
    shown.print(f"results: {out}", soft_wrap=True, highlight=False)
    if not all_hold(findings):
        raise typer.Exit(FAILED)


async def _measure_all(
    names: Sequence[str], seeds: Sequence[int] | None, out: Path, shown: Console
) -> list[Finding]:
    findings: list[Finding] = []
    with Display(shown) as display:
        for name in names:
            measured = await measure(CHECKS[name], seeds, out / name, display)
            findings += judge(name, CHECKS[name], measured)
            write(findings, out)
    return findings
