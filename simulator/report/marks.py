"""What the report's charts are made of: axes, numbered points, colours.

Colours are CSS variables (``var(--c1)`` for the first entry) that the page sets for dark and for
light, so a chart follows the theme without being drawn anew. An entry stands in a chart by its
number, as in the page's legends: colour alone never tells two apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

Spec = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]

PALETTE: Final = 10
"""Colours of entries in the page's style; where there are more entries, they begin anew."""
KINDS: Final = {
    "device": 1,
    "queue": 3,
    "cloud": 4,
    "transfer": 2,
    "default-weights": 1,
    "overlay": 2,
    "stale-overlay": 3,
    "learned-weights": 5,
    "list": 3,
    "reranked": 2,
    "score": 1,
    "refresh": 2,
    "group": 1,
    "rank": 4,
    "ask-cloud": 4,
    "keep": 3,
    "upload": 3,
    "contribute": 5,
}
"""Colours of what is not an entry, by number in the page's style."""
CONFIG: Final[Spec] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--soft)",
        "titleColor": "var(--soft)",
        "domainColor": "var(--rule)",
        "gridColor": "var(--rule)",
        "tickColor": "var(--rule)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelOverlap": True,
        "tickCount": 6,
    },
}


def entry_colour(number: int) -> str:
    """Of the entry with ``number``, from 1."""
    return f"var(--c{(number - 1) % PALETTE + 1})"


def kind_colour(kind: str) -> str:
    """Of one of `KINDS`."""
    return f"var(--k{KINDS.get(kind, 5)})"


def chart(rows: Rows, layers: Sequence[Spec], height: int) -> Spec:
    """A chart as wide as its place; ``height`` is that of what is between the axes."""
    return {
        "data": {"values": [_short(row) for row in rows]},
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "layer": list(layers),
        "config": CONFIG,
    }


def bytes_axis() -> Spec:
    """Bytes per recommendation on a logarithmic scale, with room for none at all."""
    return {
        "title": "payload per recommendation (log)",
        "scale": {"type": "symlog", "constant": 10, "nice": False, "padding": 16},
        "axis": {
            "values": [0, *(10**power for power in range(1, 9))],
            "labelExpr": "datum.value < 1e3 ? datum.value + ' B' : datum.value < 1e6 ? "
            "datum.value / 1e3 + ' kB' : datum.value / 1e6 + ' MB'",
        },
    }


def time_axis(title: str, *steps: int, padding: int = 16) -> Spec:
    """Milliseconds on a logarithmic scale, with ticks at ``steps`` of each power of ten."""
    return {
        "title": title,
        "scale": {"type": "log", "nice": False, "padding": padding},
        "axis": {
            "values": [step * 10.0**power for power in range(-3, 6) for step in steps],
            "labelExpr": "format(datum.value, '~r')",
            "labelOverlap": "greedy",
        },
    }


def accuracy_axis(title: str) -> Spec:
    """An accuracy that need not begin at zero."""
    scale = {"zero": False, "nice": True, "padding": 8}
    return {"field": "mean", "type": "quantitative", "title": title, "scale": scale}


def estimates(rows: Rows, place: Spec, along: str, tips: Sequence[Spec]) -> list[Spec]:
    """Numbered points with their intervals, which lie along ``x`` or ``y``."""
    ends = {along: {**place[along], "field": "low"}, f"{along}2": {"field": "high"}}
    bars = {
        "mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.5},
        "encoding": {**place, **ends, "color": by_entry(rows)},
    }
    return [bars, *chips(rows, place, tips)]


def chips(rows: Rows, place: Spec, tips: Sequence[Spec]) -> list[Spec]:
    """A coloured disc with the entry's number on it."""
    disc = {
        "mark": {"type": "circle", "size": 230, "opacity": 1},
        "encoding": {**place, "color": by_entry(rows), "tooltip": tips},
    }
    style = {"fontSize": 10, "fontWeight": "bold", "color": "var(--on)", "dy": 0.5}
    number = {
        "mark": {"type": "text", **style},
        "encoding": {**place, "text": {"field": "number"}, "tooltip": tips},
    }
    return [disc, number]


def by_entry(rows: Rows) -> Spec:
    """The colours of the entries in ``rows``."""
    numbers = sorted({row["number"] for row in rows})
    scale = {"domain": numbers, "range": [entry_colour(number) for number in numbers]}
    return {"field": "number", "type": "nominal", "scale": scale, "legend": None}


def by_kind(field: str, kinds: Sequence[str]) -> Spec:
    """The colours of ``kinds``."""
    scale = {"domain": list(kinds), "range": [kind_colour(kind) for kind in kinds]}
    return {"field": field, "type": "nominal", "scale": scale, "legend": None}


def words(**titles: str) -> list[Spec]:
    """Fields that a pointer brings up as they are, by their titles."""
    return [{"field": field, "title": title} for field, title in titles.items()]


def numbers(form: str, **titles: str) -> list[Spec]:
    """Fields that a pointer brings up as numbers of a ``form``, by their titles."""
    typed = {"type": "quantitative", "format": form}
    return [{"field": field, "title": title, **typed} for field, title in titles.items()]


def _short(row: Mapping[str, Any]) -> Spec:
    """Numbers with six digits: a chart shows no more, and the page stays small."""
    return {
        name: float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in row.items()
    }
