"""``report.html``: a run for people who did not make it. One file, which asks nothing of a network."""

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from simulator.report import sections, view
from simulator.report.figures import BINS, LEVELS
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
    charts = {
        name: list(make(run))
        for name, make in {
            "bytes": sections.trade_of_bytes,
            "latency": sections.trade_of_latency,
            "traffic": sections.traffic,
            "parts": sections.latency_parts,
            "curves": sections.latency_curves,
            "activity": sections.by_activity,
            "staleness": sections.by_staleness,
            "provenance": sections.provenance,
        }.items()
    }
    specs = {chart.name: chart.spec for group in charts.values() for chart in group}
    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            run=run,
            view=view,
            charts=charts,
            specs=_embedded(specs),
            library=_library(),
            thinned=THINNED,
        )
    )


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
    environment.globals["ours"] = lambda name: Markup((_HERE / name).read_text())  # noqa: S704
    return environment


@cache
def _library() -> Markup:
    """Vega, Vega-Lite and Vega-Embed as one script; bundling takes seconds."""
    script: str = vl_convert.javascript_bundle()
    return Markup(script.replace("</script", "<\\/script"))  # noqa: S704 - a library's code


def _embedded(content: Any) -> Markup:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - no markup is left in it
