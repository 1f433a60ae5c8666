"""How processes look in a terminal: one table each, and a line above it."""

import math
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from simulator.progress import size
from simulator.top.change import Change
from simulator.top.scrape import NobodyAnswers

_SHORT_ID = 12


def view(changes: Sequence[Change | NobodyAnswers]) -> RenderableType:
    """All processes, one below the other."""
    return Group(*(part for change in changes for part in _process(change)))


def _process(change: Change | NobodyAnswers) -> Iterator[RenderableType]:
    if isinstance(change, NobodyAnswers):
        yield Text(f"{change.url}: does not answer", style="red")
    elif "concerto_replay_devices" in change.now.samples:
        yield from _simulator(change)
    else:
        yield from _cloud(change)


def _cloud(change: Change) -> Iterator[RenderableType]:
    now = change.now
    released = now.labels("concerto_bundle_info", "method", "bundle_id")
    bundles = ", ".join(f"{method} {bundle[:_SHORT_ID]}" for method, bundle in released)
    yield _head("cloud", change, f"{now.value('concerto_sessions'):,.0f} sessions, {bundles}")
    asks = _table("asks", "asks/s", "refused/s", "p50", "p95")
    for kind in sorted(kind for (kind,) in now.labels("concerto_ask_seconds_count", "kind")):
        every = change.rate("concerto_asks_total", kind=kind)
        refused = every - change.rate("concerto_asks_total", kind=kind, status="ok")
        asks.add_row(kind, _number(every), _number(refused), *_times(change, kind))
    yield asks
    queues = _table("queue", "waits", "batches/s", "mean size")
    for (queue,) in now.labels("concerto_queue_depth", "queue"):
        queues.add_row(
            queue,
            f"{now.value('concerto_queue_depth', queue=queue):,.0f}",
            _number(change.rate("concerto_batch_size_count", queue=queue)),
            _number(change.mean("concerto_batch_size", queue=queue)),
        )
    yield queues
    yield _traffic(change, "concerto_payload_bytes_total")


def _times(change: Change, kind: str) -> list[str]:
    found = [change.quantile(share, "concerto_ask_seconds", kind=kind) for share in (0.5, 0.95)]
    return [_milliseconds(seconds) for seconds in found]


def _simulator(change: Change) -> Iterator[RenderableType]:
    now, name = change.now, "concerto_replay_recommendation"
    yield _head("simulator", change, f"{now.value('concerto_replay_devices'):,.0f} devices")
    runs = _table("run", "rounds", "moments", "moments/s", "p50", "p95")
    for entry, seed in now.labels("concerto_replay_info", "entry", "seed"):
        own = {"entry": entry, "seed": seed}
        done = now.value(f"{name}s_total", **own)
        planned = now.value("concerto_replay_moments_planned", **own)
        times = [change.quantile(share, f"{name}_seconds", **own) for share in (0.5, 0.95)]
        runs.add_row(
            f"{entry}, seed {seed}",
            f"{now.value('concerto_replay_rounds_total', **own):,.0f}",
            f"{done:,.0f} of {planned:,.0f}",
            _number(change.rate(f"{name}s_total", **own)),
            *map(_milliseconds, times),
        )
    yield runs
    yield _traffic(change, "concerto_replay_payload_bytes_total")


def _head(what: str, change: Change, about: str) -> Text:
    memory = size(change.now.value("process_resident_memory_bytes"))
    files = change.now.value("process_open_fds")
    span = "since its start" if change.before is None else f"last {change.seconds:.0f} s"
    return Text.assemble(
        (f"{what} ", "bold"), f"{change.now.url}: {about}, {memory}, {files:,.0f} files, {span}"
    )


def _traffic(change: Change, name: str) -> Table:
    table = _table("payload", "up/s", "down/s")
    for (purpose,) in change.now.labels(name, "purpose"):
        both = [change.rate(name, purpose=purpose, direction=way) for way in ("up", "down")]
        if any(change.now.value(name, purpose=purpose, direction=way) for way in ("up", "down")):
            table.add_row(purpose, *("-" if math.isnan(each) else size(each) for each in both))
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(first, min_width=16)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.1f}"


def _milliseconds(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{1000 * seconds:,.1f} ms"
