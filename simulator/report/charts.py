"""Vega-Lite specifications of the report's charts, by their form.

Rows always hold ``number`` and ``entry`` of whose they are; what else, each form says.
"""

from collections.abc import Sequence

from simulator.report.marks import (
    Rows,
    Spec,
    accuracy_axis,
    by_entry,
    by_kind,
    chart,
    chips,
    estimates,
    numbers,
    time_axis,
    words,
)


def trade(rows: Rows, cost: Spec, accuracy: str) -> Spec:
    """Accuracy against a cost, a point for each entry; a line joins those that none dominates.

    Args:
        rows: ``cost``, ``mean``, ``low``, ``high``, ``best``.
        cost: axis of the cost.
        accuracy: its name.
    """
    scale = {**cost["scale"], **_wide([row["cost"] for row in rows])}
    x = {"field": "cost", "type": "quantitative", **cost, "scale": scale}
    y = accuracy_axis(accuracy)
    dashed = {"color": "var(--soft)", "strokeDash": [3, 3], "strokeWidth": 1.5}
    front = {
        "transform": [{"filter": "datum.best"}],
        "mark": {"type": "line", "interpolate": "step-after", **dashed},
        "encoding": {"x": x, "y": y, "order": {"field": "cost", "type": "quantitative"}},
    }
    tips = [*_estimate_tips(accuracy), *numbers(".4~r", cost=cost["title"])]
    return chart(rows, [front, *estimates(rows, {"x": x, "y": y}, "y", tips)], height=280)


def _wide(costs: Sequence[float]) -> Spec:
    """The ends of a logarithmic axis on which costs lie so close together that no tick is between.

    One cost alone would put all ticks in one place.
    """
    low, high = min(costs), max(costs)
    return {"domain": [low / 4, 4 * high or 10]} if high <= 10 * low else {}


def by_group(rows: Rows, accuracy: str, groups: Sequence[str]) -> Spec:
    """Accuracy within groups of users, a lane for each entry.

    Args:
        rows: ``group``, ``mean``, ``low``, ``high``, ``recommendations``.
        accuracy: its name.
        groups: their order, from above.
    """
    lanes = len(_numbers(rows))
    place = {
        "y": {
            "field": "group",
            "type": "nominal",
            "sort": None,
            "title": None,
            "axis": {
                "grid": True,
                "tickBand": "extent",
                "labelExpr": "datum.label ? datum.label + ' events' : ''",
                "labelLimit": 120,
            },
            "scale": {"domain": list(groups), "paddingInner": 0, "paddingOuter": 0},
        },
        "yOffset": _lane(rows, paddingOuter=0.6),
        "x": accuracy_axis(accuracy),
    }
    height = len(groups) * max(64, 21 * lanes + 12)
    layers = estimates(rows, place, "x", _group_tips(accuracy))
    return chart(rows, layers, height=height)


def by_age(rows: Rows, accuracy: str, groups: Sequence[str]) -> Spec:
    """Accuracy by the age of overlays, a line for each entry; rows as for `by_group`."""
    place = {
        "x": {
            "field": "group",
            "type": "ordinal",
            "sort": None,
            "scale": {"domain": list(groups)},
            "title": "age of the overlay, in events",
            "axis": {"labelAngle": 0, "grid": False},
        },
        "xOffset": _lane(rows),
        "y": accuracy_axis(accuracy),
    }
    line = {
        "mark": {"type": "line", "strokeWidth": 1.5},
        "encoding": {**place, "color": by_entry(rows)},
    }
    points = estimates(rows, place, "y", _group_tips(accuracy))
    return chart(rows, [line, *points], height=280)


def by_time(rows: Rows, accuracy: str) -> Spec:
    """Accuracy over the replay, a line for each entry; a step where it got another bundle.

    Args:
        rows: ``at``, the middle of a span in moments, ``mean``, ``low``, ``high``, ``group``,
            ``release``, ``recommendations``.
        accuracy: its name.
    """
    title = "moments of the replay, spans between releases"
    return _lines(rows, {"field": "at", "title": title}, accuracy, "number")


def by_round(rows: Rows, accuracy: str) -> Spec:
    """Accuracy by the length of a round, a line for entries that differ in nothing else.

    Args:
        rows: ``round_events``, ``family``, ``mean``, ``low``, ``high``, ``group``,
            ``recommendations``.
        accuracy: its name.
    """
    scale = {"type": "log", "nice": False, "padding": 16}
    x = {"field": "round_events", "title": "moments in a round (log)", "scale": scale}
    return _lines(rows, x, accuracy, "family")


def _lines(rows: Rows, x: Spec, accuracy: str, joined: str) -> Spec:
    """Estimates along a quantity; those with the same value of ``joined`` are joined."""
    spread = {"type": "quantitative", "axis": {"grid": False}, "scale": {"padding": 16}}
    place = {"x": {**spread, **x}, "y": accuracy_axis(accuracy)}
    colour = by_entry(rows) if joined == "number" else {"value": "var(--soft)"}
    line = {
        "mark": {"type": "line", "strokeWidth": 1.5},
        "encoding": {**place, "color": colour, "detail": {"field": joined}},
    }
    return chart(rows, [line, *estimates(rows, place, "y", _group_tips(accuracy))], height=280)


def distribution(rows: Rows) -> Spec:
    """Share of rankings done by then, a line for each entry, numbered once.

    Args:
        rows: ``ms``, ``share``, ``named`` (whether the number stands here).
    """
    x = {"field": "ms", "type": "quantitative", **time_axis("milliseconds (log)", 1, padding=0)}
    y = {
        "field": "share",
        "type": "quantitative",
        "title": "share of rankings done",
        "axis": {"format": "%", "tickCount": 5},
        "scale": {"domain": [0, 1]},
    }
    place = {"x": x, "y": y}
    tips = [*words(entry="entry"), *numbers(".4~r", ms="ms"), *numbers(".1%", share="done")]
    line = {
        "mark": {"type": "line", "strokeWidth": 2},
        "encoding": {**place, "color": by_entry(rows), "tooltip": tips},
    }
    named = (
        {**layer, "transform": [{"filter": "datum.named"}]} for layer in chips(rows, place, tips)
    )
    return chart(rows, [line, *named], height=220)


def over_time(rows: Rows, unit: str, purposes: Sequence[str]) -> Spec:
    """Bytes of one entry in spans of virtual time, purposes on top of each other.

    Args:
        rows: ``time``, ``purpose``, ``bytes``.
        unit: of the time.
        purposes: those that there are.
    """
    encoding = {
        "x": {
            "field": "time",
            "type": "quantitative",
            "title": f"{unit} of virtual time",
            "axis": {"grid": False},
            "scale": {"nice": False, "zero": False},
        },
        "y": {
            "field": "bytes",
            "type": "quantitative",
            "title": None,
            "stack": True,
            "axis": {"labelExpr": "format(datum.value, '~s') + 'B'", "tickCount": 4},
        },
        "color": by_kind("purpose", purposes),
        "tooltip": [
            *words(purpose="purpose"),
            *numbers(",.0f", bytes="bytes"),
            *numbers(".1f", time=unit),
        ],
    }
    mark = {"type": "area", "interpolate": "step", "opacity": 0.9}
    return chart(rows, [{"mark": mark, "encoding": encoding}], height=150)


def stacked(rows: Rows, kinds: Sequence[str], length: Spec, form: str) -> Spec:
    """A bar for each entry, made of kinds.

    Args:
        rows: ``kind``, and the field that ``length`` names.
        kinds: in their order.
        length: encoding of what is added up.
        form: how a number of it is written.
    """
    encoding = {
        "y": {"field": "number", "type": "ordinal", "title": None, "axis": {"ticks": False}},
        "x": {"type": "quantitative", **length},
        "color": by_kind("kind", kinds),
        "order": {"field": "place", "type": "ordinal"},
        "tooltip": [
            *words(entry="entry", kind="part"),
            *numbers(form, **{length["field"]: length["title"]}),
        ],
    }
    placed = [{**row, "place": list(kinds).index(row["kind"])} for row in rows]
    mark = {"type": "bar", "height": {"band": 0.72}, "stroke": "var(--card)", "strokeWidth": 1}
    height = 26 * len(_numbers(rows))
    return chart(placed, [{"mark": mark, "encoding": encoding}], height=height)


def _lane(rows: Rows, **scale: float) -> Spec:
    """Entries of one place beside each other."""
    return {"field": "number", "type": "ordinal", "scale": {"domain": _numbers(rows), **scale}}


def _numbers(rows: Rows) -> list[int]:
    return sorted({row["number"] for row in rows})


def _estimate_tips(accuracy: str) -> list[Spec]:
    return [*words(entry="entry"), *numbers(".4f", mean=accuracy, low="from", high="to")]


def _group_tips(accuracy: str) -> list[Spec]:
    ranked = numbers(",", recommendations="rankings")
    return [*words(group="group"), *_estimate_tips(accuracy), *ranked]
