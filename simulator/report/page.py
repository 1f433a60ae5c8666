"""``report.html``: a run for people who did not make it, in one file that needs no network."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import polars as pl
import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from simulator.report import sections, tables, words
from simulator.report.entries import Entry, entries
from simulator.report.figures import BINS, LEVELS
from simulator.report.marks import KINDS, PALETTE
from simulator.report.run_data import RunData, load_run

NAME: Final = "report.html"
THINNED: Final = (
    f"virtual time stands in {BINS} spans, a distribution of latencies in {len(LEVELS)} quantiles."
)
_HERE: Final = Path(__file__).parent


def write_report(folder: Path) -> Path:
    """Write the page beside the files of a run, at once or not at all.

    Raises:
        PathMissing: there is no run in ``folder``.
        BadLog: a file of it cannot be read.
    """
    page = render(load_run(folder, scores=False))
    draft, path = folder / f".{NAME}.draft", folder / NAME
    try:
        draft.write_text(page)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def render(run: RunData) -> str:
    """The page of a run."""
    shown = entries(run)
    charts = _charts(run, shown)
    specs = {chart.name: chart.spec for group in charts.values() for chart in group}
    template = _templates().get_template("page.html.j2")
    return template.render(
        run=run,
        entries=shown,
        charts=charts,
        words=words,
        tables=tables,
        specs=_embedded(specs),
        script=_script(),
        thinned=THINNED,
        kinds=KINDS,
        palette=PALETTE,
    )


def _charts(run: RunData, shown: Sequence[Entry]) -> dict[str, list[sections.Chart]]:
    of_rankings: dict[str, Callable[[pl.DataFrame, Sequence[Entry]], Iterator[sections.Chart]]] = {
        "traffic": partial(sections.traffic, run.ledger),
        "parts": sections.latency_parts,
        "curves": sections.latency_curves,
        "provenance": sections.provenance,
    }
    of_metrics = {
        "bytes": sections.trade_of_bytes,
        "latency": sections.trade_of_latency,
        "activity": sections.by_activity,
        "staleness": sections.by_staleness,
        "releases": sections.by_release,
        "rounds": sections.by_round,
    }
    charts = {name: list(make(shown)) for name, make in of_metrics.items()}
    if len(run.rankings):
        charts |= {name: list(make(run.rankings, shown)) for name, make in of_rankings.items()}
    return {**{name: [] for name in of_rankings}, **charts}


@cache
def _templates() -> Environment:
    # Everything that comes out of a run's files is escaped; what is ours is not.
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    environment.globals["style"] = Markup((_HERE / "style.css").read_text())  # noqa: S704
    return environment


def _breakable(label: str) -> Markup:
    """A label that may go on in the next line after any of its signs."""
    return Markup(re.sub(r"([\[.,=])", r"\1<wbr>", str(escape(label))))  # noqa: S704 - escaped


@cache
def _script() -> Markup:
    """Vega, Vega-Lite and Vega-Embed in one script with ours; bundling takes seconds."""
    script = vl_convert.javascript_bundle((_HERE / "charts.js").read_text())
    return Markup(script.replace("</script", "<\\/script"))  # noqa: S704 - code, not data


def _embedded(content: Any) -> Markup:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - no markup is left in it
