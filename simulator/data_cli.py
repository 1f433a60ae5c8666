"""concerto data: the logs there are, and what is in them."""

from pathlib import Path
from typing import Annotated, Final

import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from shared_models.contract.errors import BadSetting
from shared_models.logs.graphs.from_log import Joining, graph_of_items
from shared_models.logs.graphs.write import write_graph
from shared_models.logs.movielens import fetch_movielens
from shared_models.logs.prepare import (
    SOURCES,
    Columns,
    cache_root,
    open_or_prepare,
    prepare,
    source_of,
)
from shared_models.logs.prepared import PARTS, PreparedLog, open_log

data = typer.Typer(help=__doc__, no_args_is_help=True)
_QUANTILES: Final = (0.1, 0.5, 0.9)

SplitOption = Annotated[str, typer.Option(help="user-tail, global-time or leave-one-out.")]


@data.command("list")
def list_logs() -> None:
    """List the logs that have a name."""
    for name in SOURCES:
        typer.echo(name)
    typer.echo("or any CSV or Parquet file with a user, an item and a time")


@data.command()
def fetch() -> None:
    """Fetch MovieLens-100K into the cache."""
    typer.echo(f"{fetch_movielens(cache_root())}")
    typer.echo("next: concerto data describe movielens-100k")


@data.command("prepare")
def prepare_log(
    log: Annotated[str, typer.Option(help="A known log, or a CSV or Parquet file.")],
    out: Annotated[Path, typer.Option(help="Folder for the prepared log.")],
    split: SplitOption = "global-time",
    user_col: Annotated[str | None, typer.Option(help="Column of users.")] = None,
    item_col: Annotated[str | None, typer.Option(help="Column of items.")] = None,
    time_col: Annotated[str | None, typer.Option(help="Column of times.")] = None,
    label_col: Annotated[str | None, typer.Option(help="Column of labels, 0 or 1.")] = None,
    request_col: Annotated[str | None, typer.Option(help="Column of requests.")] = None,
) -> None:
    """Write the prepared log that training and replays share."""
    if out.exists() and not (out / "log.json").is_file():
        raise BadSetting("out", f"{out} is there and is no prepared log: name another folder")
    columns = Columns(user_col, item_col, time_col, label_col, request_col)
    prepared = prepare(source_of(log, columns), split, out)
    typer.echo(f"{out}  {prepared.hash[:16]}")
    typer.echo(f"next: concerto data describe {out}")


@data.command()
def describe(
    log: Annotated[str, typer.Argument(help="A known log, or a prepared log's folder.")],
    split: SplitOption = "user-tail",
) -> None:
    """Say what is in a log, how it is cut, and what the cut leaks."""
    prepared = open_log(Path(log)) if Path(log).is_dir() else open_or_prepare(log, Columns(), split)
    Console().print(_table(prepared))
    typer.echo(f"next: concerto run --log {log}")


@data.command("graph")
def item_graph(
    log: Annotated[str, typer.Option(help="A known log, or a prepared log's folder.")],
    out: Annotated[Path, typer.Option(help="Prefix of the graph's files, folder included.")],
    labels: Annotated[str, typer.Option(help="Feature of items whose words are classes.")],
    within: Annotated[int, typer.Option(min=1, help="Events from one item to the other.")] = 5,
    most: Annotated[int, typer.Option(min=1, help="Neighbours that each item names.")] = 20,
    data_seed: Annotated[int, typer.Option(min=0, help="Of the cut of the nodes.")] = 0,
    split: SplitOption = "user-tail",
) -> None:
    """Make a graph of a log's items, to classify them: neighbours are taken near each other."""
    prepared = open_log(Path(log)) if Path(log).is_dir() else open_or_prepare(log, Columns(), split)
    graph = graph_of_items(prepared, labels, Joining(within, most, data_seed))
    write_graph(graph, out)
    edges, classes = graph.graph.edges_2E.shape[1] // 2, graph.spec.classes
    typer.echo(f"{out}  {len(graph):,} nodes, {edges:,} edges, {classes} classes")
    scale = "--set ggcn.scale=none"
    typer.echo(f"next: concerto-cloud train --method ggcn --prefix {out} --out models/ggcn {scale}")


def _table(log: PreparedLog) -> Table:
    about = log.manifest
    per_user = log.events.group_by("user").len()["len"]
    quantiles = [f"{per_user.quantile(q):.0f}" for q in _QUANTILES]
    events = sum(about.events.values())
    table = Table(title=about.name, show_header=False)
    for name, value in {
        "task": about.task,
        "users, items": f"{about.users:,}, {about.items:,}",
        "events": f"{events:,}  (" + ", ".join(f"{p} {about.events[p]:,}" for p in PARTS) + ")",
        "density": f"{events / (about.users * about.items):.2%}",
        "events of a user": f"10 %: {quantiles[0]}, median {quantiles[1]}, 90 %: {quantiles[2]}",
        "features": ", ".join(_features(log.item_table) + _features(log.user_table)) or "none",
        "split": f"{about.split}; leaks: {about.leaks}",
        **{name: f"{value:.4f}" for name, value in about.truth.items()},
        "hash": about.hash,
    }.items():
        table.add_row(name, value)
    return table


def _features(table: pl.DataFrame) -> list[str]:
    return [name for name in table.columns if name not in {"item", "user", "raw"}]
