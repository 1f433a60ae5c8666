"""concerto: run methods on a log, report what came out, look into bundles, prepare logs."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from shared_models.contract.errors import BadSetting, ConcertoError
from shared_models.contract.processes import schedule_as_batch
from shared_models.exposition import exposed
from simulator.certs_cli import certs
from simulator.check_cli import check
from simulator.compose import compose
from simulator.coordinator import LOOPBACK
from simulator.data_cli import data
from simulator.entries import BASELINES, PRESETS
from simulator.experiment import perform, plan
from simulator.faults import read_faults
from simulator.fleet import end_like_ctrl_c
from simulator.graphs.experiment import perform_on_graph, plan_on_graph, shift_table
from simulator.graphs.scenario import graph_scenario
from simulator.inspection import inspect_bundle, open_bundles
from simulator.links import link
from simulator.metrics import ReplayMetrics
from simulator.options import (
    ANYWHERE,
    CloudHost,
    DataSeed,
    Devices,
    FaultsFile,
    File,
    ItemCol,
    LabelCol,
    Listen,
    Log,
    Metrics,
    Out,
    Plaintext,
    Prefix,
    RequestCol,
    Seed,
    Seeds,
    Serve,
    Set,
    Split,
    TimeCol,
    Tls,
    Trunk,
    UserCol,
    WithHistory,
    console,
    interrupted,
    seed_numbers,
)
from simulator.progress import Display
from simulator.report.page import write_report
from simulator.scenario import Scenario
from simulator.shaper import run_shaper
from simulator.sites import Places, open_sites
from simulator.summary import table
from simulator.top.cli import top

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(data, name="data")
app.add_typer(check, name="check")
app.command()(top)
app.add_typer(certs, name="certs")


@app.command()
def run(
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="Method, or METHOD[path=value,...]; may be repeated."),
    ] = None,
    trunk: Trunk = None,
    log: Log = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    label_col: LabelCol = None,
    request_col: RequestCol = None,
    split: Split = None,
    devices: Devices = None,
    seeds: Seeds = None,
    seed: Seed = None,
    data_seed: DataSeed = None,
    set_: Set = None,
    scenario: File = None,
    faults: FaultsFile = None,
    history: WithHistory = False,
    out: Out = None,
    prefix: Prefix = None,
    cloud_host: CloudHost = None,
    serve: Serve = ANYWHERE,
    listen: Listen = None,
    metrics: Metrics = None,
    tls: Tls = None,
    plaintext: Plaintext = False,
) -> None:
    """Train methods where that is still to be done, replay the log on devices, report."""
    places = Places(cloud_host, serve, listen, tls, plaintext)
    if prefix is not None:
        own = _given(
            methods=method,
            prefix=prefix,
            devices=devices,
            seeds=seed_numbers(seeds, seed),
            data_seed=data_seed,
            out=out,
        )
        log_only = _given(
            trunk=trunk,
            log=log,
            split=split,
            scenario=scenario,
            faults=faults,
            history=history or None,
            metrics=metrics,
        )
        _play_on_graph(own, log_only, set_ or [], places)
        return
    columns = _given(
        user=user_col, item=item_col, time=time_col, label=label_col, request=request_col
    )
    options = _given(
        methods=method,
        trunk=trunk,
        log=log,
        columns=columns,
        split=split,
        devices=devices,
        seeds=seed_numbers(seeds, seed),
        data_seed=data_seed,
        faults=read_faults(faults) if faults else None,
        history=history or None,
        out=out,
    )
    _play(compose(scenario, options, set_ or []), places, metrics)


@app.command()
def compare(
    entries: Annotated[
        list[str] | None,
        typer.Argument(help=f"METHOD, METHOD[path=value,...], or one of {', '.join(PRESETS)}."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help=f"Play {', '.join(BASELINES)}.")] = False,
    against: Annotated[
        list[str] | None,
        typer.Option(help="Entry that the others are compared with; by default the first."),
    ] = None,
    trunk: Trunk = None,
    log: Log = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    label_col: LabelCol = None,
    request_col: RequestCol = None,
    split: Split = None,
    devices: Devices = None,
    seeds: Seeds = None,
    seed: Seed = None,
    data_seed: DataSeed = None,
    set_: Set = None,
    scenario: File = None,
    out: Out = None,
    cloud_host: CloudHost = None,
    serve: Serve = ANYWHERE,
    listen: Listen = None,
    metrics: Metrics = None,
    tls: Tls = None,
    plaintext: Plaintext = False,
) -> None:
    """Play several methods or settings over the same moments; differences are paired by user."""
    if not entries and not every and scenario is None:
        raise BadSetting("methods", "name what to compare, or say --all")
    columns = _given(
        user=user_col, item=item_col, time=time_col, label=label_col, request=request_col
    )
    played = [*(entries or []), *(name for name in BASELINES if every)]
    options = _given(
        methods=list(dict.fromkeys(played)),
        against=against,
        trunk=trunk,
        log=log,
        columns=columns,
        split=split,
        devices=devices,
        seeds=seed_numbers(seeds, seed),
        data_seed=data_seed,
        out=out,
    )
    places = Places(cloud_host, serve, listen, tls, plaintext)
    _play(compose(scenario, options, set_ or []), places, metrics)


@app.command()
def inspect(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle, or one with released ones.")],
) -> None:
    """Print what a device would know of a bundle, and whether its test vector comes out."""
    for found in open_bundles(bundle):
        inspect_bundle(found, console())


@app.command()
def shape(
    to: Annotated[str, typer.Option(help="HOST:PORT that connections go on to.")],
    link_: Annotated[
        str, typer.Option("--link", help="wifi, 5g, 4g, 3g, none, or a trace file.")
    ] = "none",
    listen: Annotated[str, typer.Option(help="HOST:PORT; port 0 takes a free one.")] = LOOPBACK,
    counts: Annotated[
        Path | None, typer.Option(help="JSON file of the bytes carried, written at the end.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of jitter and loss.")] = 0,
    lasts: Annotated[
        str | None, typer.Option("--while", help="HOST:PORT; end when nobody listens there.")
    ] = None,
) -> None:
    """Carry TCP connections over a link in real time until told to stop."""
    run_shaper(link(link_), to, listen, counts, seed, lasts)


def main() -> None:
    """Run a command; a user meets messages and exit codes, never a stack trace."""
    schedule_as_batch()
    try:
        app()
    except ConcertoError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _play(chosen: Scenario, places: Places, scraped_at: str | None) -> None:
    """Play a scenario in front of whoever watches, and print what it found."""
    shown, metrics = console(), ReplayMetrics()
    end_like_ctrl_c()
    try:
        with (
            exposed(scraped_at) as exposition,
            open_sites(places) as sites,
            Display(shown) as display,
        ):
            exposition.registry.register(metrics)
            if exposition.url:
                display.say(f"metrics: {exposition.url}")
            results = asyncio.run(perform(plan(chosen, sites), display, metrics))
    except KeyboardInterrupt:
        raise interrupted(chosen.folder) from None
    shown.print(results.summary["protocol"], soft_wrap=True, highlight=False)
    shown.print(table(results.summary))
    shown.print(f"results: {results.folder}", soft_wrap=True, highlight=False)
    shown.print("next: open report.html there, or play another --method", highlight=False)


def _play_on_graph(
    options: Mapping[str, Any],
    log_only: Mapping[str, Any],
    pairs: Sequence[str],
    places: Places,
) -> None:
    """Play a scenario on a graph, and print what it found."""
    for option in log_only:
        raise BadSetting(option, "is of a replay of a log, and --prefix names a graph")
    shown, chosen = console(), graph_scenario(options, pairs)
    end_like_ctrl_c()
    try:
        with open_sites(places) as sites, Display(shown) as display:
            results = asyncio.run(perform_on_graph(plan_on_graph(chosen, sites), display.say))
    except KeyboardInterrupt:
        raise interrupted(chosen.folder) from None
    shown.print(results.summary["protocol"], soft_wrap=True, highlight=False)
    shown.print(shift_table(results.summary))
    shown.print(f"results: {chosen.folder}", soft_wrap=True, highlight=False)
    shown.print("next: open report.html there, or play another --method", highlight=False)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a run, as `concerto run` left it.")],
) -> None:
    """Write a run's report.html anew: one page, for people who did not make the run."""
    page = write_report(folder)
    console().print(f"report: {page}", soft_wrap=True, highlight=False)
    console().print("next: open it in a browser", highlight=False)


def _given(**options: Any) -> dict[str, Any]:
    """The options that the user gave."""
    return {name: value for name, value in options.items() if value not in (None, [], {})}


if __name__ == "__main__":
    main()
