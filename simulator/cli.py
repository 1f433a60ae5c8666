"""concerto: run methods on a log, look into bundles, prepare logs, check against the outside."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from shared_models.contract.errors import ConcertoError
from simulator.check_cli import check
from simulator.compose import compose
from simulator.data_cli import data
from simulator.experiment import perform, plan
from simulator.fleet import end_like_ctrl_c
from simulator.inspection import inspect_bundle, open_bundles
from simulator.options import console, seed_numbers
from simulator.progress import Display
from simulator.summary import table

INTERRUPTED: Final = 130

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(data, name="data")
app.add_typer(check, name="check")


@app.command()
def run(
    method: Annotated[
        list[str] | None, typer.Option("--method", help="Method to play; may be repeated.")
    ] = None,
    trunk: Annotated[str | None, typer.Option(help="sasrec, gru4rec or din.")] = None,
    log: Annotated[
        str | None, typer.Option(help="movielens-100k, synthetic, or a CSV or Parquet file.")
    ] = None,
    user_col: Annotated[str | None, typer.Option(help="Column of users in your file.")] = None,
    item_col: Annotated[str | None, typer.Option(help="Column of items in your file.")] = None,
    time_col: Annotated[str | None, typer.Option(help="Column of times in your file.")] = None,
    label_col: Annotated[
        str | None, typer.Option(help="Column of labels, where your file holds exposures.")
    ] = None,
    request_col: Annotated[
        str | None, typer.Option(help="Column that says what was shown together.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="user-tail, global-time or leave-one-out.")
    ] = None,
    devices: Annotated[int | None, typer.Option(help="Number of device processes.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Model seeds, as in 0,1,2.")] = None,
    seed: Annotated[int | None, typer.Option(help="One model seed.")] = None,
    data_seed: Annotated[int | None, typer.Option(help="Chooses test candidates.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="path.to.setting=value; may be repeated.")
    ] = None,
    scenario: Annotated[Path | None, typer.Option(help="YAML file with all of these.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
) -> None:
    """Train methods where that is still to be done, replay the log on devices, report."""
    options = {
        "methods": method,
        "trunk": trunk,
        "log": log,
        "columns": _given(
            user=user_col, item=item_col, time=time_col, label=label_col, request=request_col
        ),
        "split": split,
        "devices": devices,
        "seeds": seed_numbers(seeds, seed),
        "data_seed": data_seed,
        "out": out,
    }
    chosen = compose(scenario, _given(**options), set_ or [])
    shown = console()
    end_like_ctrl_c()
    try:
        with Display(shown) as display:
            results = asyncio.run(perform(plan(chosen), display))
    except KeyboardInterrupt:
        print(f"interrupted: what was measured until now lies in {chosen.folder}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    shown.print(results.summary["protocol"], soft_wrap=True, highlight=False)
    shown.print(table(results.summary))
    shown.print(f"results: {results.folder}", soft_wrap=True, highlight=False)
    shown.print("next: read metrics.json there, or play another --method", highlight=False)


@app.command()
def inspect(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle, or one with released ones.")],
) -> None:
    """Print what a device would know of a bundle, and whether its test vector comes out."""
    for found in open_bundles(bundle):
        inspect_bundle(found, console())


def main() -> None:
    """Run a command; a user meets messages and exit codes, never a stack trace."""
    try:
        app()
    except ConcertoError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _given(**options: Any) -> dict[str, Any]:
    """The options that the user gave."""
    return {name: value for name, value in options.items() if value not in (None, [], {})}


if __name__ == "__main__":
    main()
