"""Vega-Lite specifications of the report's charts, by their form.

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
CONFIG: Final[Spec] = {
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
    },
}


def colour(number: int) -> str:
    """Of the entry with ``number``, from 1."""
    return f"var(--c{(number - 1) % PALETTE + 1})"


def bytes_axis(title: str) -> Spec:
    """A logarithmic scale that has room for no traffic at all."""
    return {
        "title": title,
        "scale": {"type": "symlog", "constant": 10, "nice": False, "padding": 16},
        "axis": {
            "values": [0, *(10**power for power in range(1, 9))],
            "labelExpr": "datum.value < 1e3 ? datum.value + ' B' : datum.value < 1e6 ? "
            "datum.value / 1e3 + ' kB' : datum.value / 1e6 + ' MB'",
        },
    }


def time_axis(title: str) -> Spec:
    """A logarithmic scale of milliseconds."""
    return {
        "title": title,
        "scale": {"type": "log", "nice": False, "padding": 16},
        "axis": {"labelExpr": "format(datum.value, '~r')", "tickCount": 5},
    }


def trade(rows: Rows, cost: Spec, accuracy: str) -> Spec:
    """Accuracy against a cost, a point for each entry; a line joins those that none dominates.

    Args:
        rows: ``number``, ``entry``, ``cost``, ``mean``, ``low``, ``high``, ``best``.
        cost: a `bytes_axis` or a `time_axis`.
        accuracy: its name.
    """
    x = {"field": "cost", "type": "quantitative", **cost}
    y = _accuracy(accuracy)
    front = {
        "transform": [{"filter": "datum.best"}],
        "mark": {"type": "line", "interpolate": "step-after", "color": "var(--soft)"}
        | {"strokeDash": [3, 3], "strokeWidth": 1.5},
        "encoding": {"x": x, "y": y, "order": {"field": "cost", "type": "quantitative"}},
    }
    tips = _tips(entry="", mean=accuracy, low="from", high="to", cost=cost["title"])
    return _chart(rows, [front, *_estimates(rows, {"x": x, "y": y}, "y", tips)], height=280)


def by_group(rows: Rows, accuracy: str, groups: Sequence[str]) -> Spec:
    """Accuracy within groups, a lane for each entry.

    Args:
        rows: ``number``, ``entry``, ``group``, ``mean``, ``low``, ``high``, ``recommendations``.
        accuracy: its name.
        groups: their order, from above.
    """
    entries = len({row["number"] for row in rows})
    place = {
        "y": {"field": "group", "type": "nominal", "sort": list(groups), "title": None}
        | {"axis": {"labelLimit": 110, "grid": True, "tickBand": "extent"}},
        "yOffset": {"field": "number", "type": "ordinal"},
        "x": _accuracy(accuracy) | {"axis": {"tickCount": 4}},
    }
    tips = _tips(entry="", group="", mean=accuracy, low="from", high="to")
    tips.append({"field": "recommendations", "title": "rankings", "format": ","})
    height = len(groups) * max(48, 26 * entries)
    return _chart(rows, _estimates(rows, place, "x", tips), height=height)


def by_age(rows: Rows, accuracy: str, groups: Sequence[str]) -> Spec:
    """Accuracy by the age of overlays, a line for each entry; the form of `by_group`'s rows."""
    y = _accuracy(accuracy)
    x = {"field": "group", "type": "ordinal", "sort": list(groups)}
    x |= {"title": "age of the overlay, in events", "axis": {"labelAngle": 0, "grid": False}}
    line = {
        "mark": {"type": "line", "strokeWidth": 1.5},
        "encoding": {"x": x, "y": y, "color": _by_entry(rows)},
    }
    tips = _tips(entry="", group="age", mean=accuracy, low="from", high="to")
    tips.append({"field": "recommendations", "title": "rankings", "format": ","})
    return _chart(rows, [line, *_estimates(rows, {"x": x, "y": y}, "y", tips)], height=280)


def distribution(rows: Rows) -> Spec:
    """Share of rankings done by then, a line for each entry, numbered once.

    Args:
        rows: ``number``, ``entry``, ``ms``, ``share``, ``named`` (where the number stands).
    """
    x = {"field": "ms", "type": "quantitative", **time_axis("milliseconds")}
    x["scale"] = {"type": "log", "nice": False}
    y = {"field": "share", "type": "quantitative", "title": "share of rankings done"}
    y |= {"axis": {"format": "%", "tickCount": 5}, "scale": {"domain": [0, 1]}}
    tips = _tips(entry="", ms="ms") + [{"field": "share", "title": "done", "format": ".1%"}]
    line = {
        "mark": {"type": "line", "strokeWidth": 2},
        "encoding": {"x": x, "y": y, "color": _by_entry(rows), "tooltip": tips},
    }
    named = [
        layer | {"transform": [{"filter": "datum.named"}]}
        for layer in _chips(rows, {"x": x, "y": y}, tips)
    ]
    return _chart(rows, [line, *named], height=220)


def over_time(rows: Rows, unit: str, kinds: Sequence[str]) -> Spec:
    """Bytes in spans of virtual time, purposes on top of each other.

    Args:
        rows: ``time``, ``purpose``, ``bytes``.
        unit: of the time.
        kinds: purposes, in the order of their colours.
    """
    encoding = {
        "x": {"field": "time", "type": "quantitative", "title": f"{unit} of virtual time"}
        | {"axis": {"grid": False, "tickCount": 5}, "scale": {"nice": False, "zero": False}},
        "y": {"field": "bytes", "type": "quantitative", "title": None, "stack": True}
        | {"axis": {"labelExpr": "format(datum.value, '~s') + 'B'", "tickCount": 4}},
        "color": _by_kind("purpose", kinds),
        "tooltip": [
            {"field": "purpose"},
            {"field": "bytes", "format": ",.0f"},
            {"field": "time", "title": unit, "format": ".1f"},
        ],
    }
    mark = {"type": "area", "interpolate": "step", "opacity": 0.9}
    return _chart(rows, [{"mark": mark, "encoding": encoding}], height=150)


def stacked(rows: Rows, kinds: Sequence[str], length: Spec, form: str) -> Spec:
    """A bar for each entry, made of kinds.

    Args:
        rows: ``number``, ``entry``, ``kind``, and the field that ``length`` names.
        kinds: in the order of their colours.
        length: encoding of what is added up.
        form: how a number of it is written.
    """
    encoding = {
        "y": {"field": "number", "type": "ordinal", "title": None, "axis": {"ticks": False}},
        "x": {"type": "quantitative", **length},
        "color": _by_kind("kind", kinds),
        "order": {"field": "place", "type": "ordinal"},
        "tooltip": [
            {"field": "entry"},
            {"field": "kind"},
            {"field": length["field"], "title": length["title"], "format": form},
        ],
    }
    places = [{**row, "place": list(kinds).index(row["kind"])} for row in rows]
    height = 28 * len({row["number"] for row in rows}) + 10
    mark = {"type": "bar", "height": {"band": 0.72}, "stroke": "var(--card)", "strokeWidth": 1}
    return _chart(places, [{"mark": mark, "encoding": encoding}], height=height)


def _chart(rows: Rows, layers: Sequence[Spec], height: int) -> Spec:
    return {
        "data": {"values": [_short(row) for row in rows]},
        "width": "container",
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "layer": list(layers),
        "config": CONFIG,
    }


def _short(row: Mapping[str, Any]) -> Spec:
    """Numbers with six digits: a chart shows no more, and the page stays small."""
    return {
        name: float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in row.items()
    }


def _accuracy(title: str) -> Spec:
    scale = {"zero": False, "nice": True, "padding": 8}
    return {"field": "mean", "type": "quantitative", "title": title, "scale": scale}


def _estimates(rows: Rows, place: Spec, along: str, tips: list[Spec]) -> list[Spec]:
    """Numbered points with their intervals, which lie along ``x`` or ``y``."""
    ends = {along: {**place[along], "field": "low"}, f"{along}2": {"field": "high"}}
    bars = {
        "mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.5},
        "encoding": {**place, **ends, "color": _by_entry(rows)},
    }
    return [bars, *_chips(rows, place, tips)]


def _chips(rows: Rows, place: Spec, tips: list[Spec]) -> list[Spec]:
    """A coloured disc with the entry's number on it."""
    disc = {
        "mark": {"type": "circle", "size": 230, "opacity": 1},
        "encoding": {**place, "color": _by_entry(rows), "tooltip": tips},
    }
    number = {
        "mark": {"type": "text", "fontSize": 10, "fontWeight": "bold", "color": "var(--on)"}
        | {"dy": 0.5},
        "encoding": {**place, "text": {"field": "number"}, "tooltip": tips},
    }
    return [disc, number]


def _by_entry(rows: Rows) -> Spec:
    numbers = sorted({row["number"] for row in rows})
    scale = {"domain": numbers, "range": [colour(number) for number in numbers]}
    return {"field": "number", "type": "nominal", "scale": scale, "legend": None}


def _by_kind(field: str, kinds: Sequence[str]) -> Spec:
    scale = {
        "domain": list(kinds),
        "range": [f"var(--k{place + 1})" for place in range(len(kinds))],
    }
    return {"field": field, "type": "nominal", "scale": scale, "legend": None}


def _tips(**titles: str) -> list[Spec]:
    """What is shown where a reader points: fields and their titles."""
    numbers = {"mean", "low", "high", "cost", "ms"}
    return [
        {"field": field, "title": title or field}
        | (
            {"type": "quantitative", "format": ".4~r" if field in ("cost", "ms") else ".4f"}
            if field in numbers
            else {}
        )
        for field, title in titles.items()
    ]
