"""What ``metrics.json`` holds, field by field, with units: the source of its published JSON schema.

``python -m simulator.metrics_model`` prints the schema that is kept in `SCHEMA`.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt

SCHEMA: Final = Path("docs/schema/metrics.schema.json")


def _about(description: str, unit: str, **more: Any) -> Any:
    """A field that says what it is, and in which unit."""
    return Field(description=description, json_schema_extra={"unit": unit}, **more)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Interval(_Part):
    """An estimate with its 95 % bootstrap interval over users; null where nothing is defined."""

    mean: float | None = _about("The estimate; over seeds, their mean.", "of the metric")
    low: float | None = _about("2.5 % quantile over users drawn anew.", "of the metric")
    high: float | None = _about("97.5 % quantile over users drawn anew.", "of the metric")


class Estimate(Interval):
    """An estimate over users and over model seeds."""

    sd: float | None = _about(
        "Standard deviation over model seeds; null with one seed.", "of the metric"
    )


class Quantiles(_Part):
    """The middle and the tail of some times."""

    p50: NonNegativeFloat = _about("Half of the rankings took no longer.", "ms")
    p95: NonNegativeFloat = _about("95 % of the rankings took no longer.", "ms")


class Split(_Part):
    """Where the time of a mean ranking went."""

    device: NonNegativeFloat = _about("Computing on the device.", "ms")
    queue: float | None = _about("Waiting in the cloud's queue; null where it is not told.", "ms")
    cloud: float | None = _about("Computing in the cloud; null where it is not told.", "ms")
    transfer: float | None = _about("The rest of the exchange: the way and back.", "ms")


class Latency(Quantiles):
    """Measured time of a ranking, from the question to the scores."""

    split: Split = _about("Means of its parts.", "ms")


class Bytes(_Part):
    """Traffic in both directions, seen from the devices."""

    up: NonNegativeInt = _about("From devices to the cloud.", "bytes")
    down: NonNegativeInt = _about("From the cloud to devices.", "bytes")


class Group(_Part):
    """Some rankings of an entry, of all its seeds."""

    at_least: int | None = _about("Least value that belongs to the group.", "events")
    at_most: int | None = _about("Greatest value; null: without end.", "events")
    users: NonNegativeInt = _about("Who was ranked for.", "users")
    recommendations: NonNegativeInt = _about("Rankings of all seeds.", "rankings")
    auc: Interval = _about("AUC of these rankings alone.", "share of pairs")
    ndcg: Interval = _about("NDCG@10 of these rankings alone.", "0 to 1", alias="ndcg@10")


class Span(Group):
    """Rankings between two moments at which an entry of the run got another bundle."""

    release: NonNegativeInt = _about("Number of the bundle that devices ran, from 0.", "number")
    bundle_bytes: NonNegativeFloat = _about(
        "That a device process downloaded for it; 0: it ran the bundle before.", "bytes"
    )
    bytes_up_per_rec: NonNegativeFloat | None = _about(
        "Payload to the cloud by recommendation; null where no round ended there.", "bytes"
    )
    bytes_down_per_rec: NonNegativeFloat | None = _about(
        "Payload from the cloud by recommendation; null where no round ended there.", "bytes"
    )


class Entry(_Part):
    """One entry: a method, or a method with settings of its own."""

    auc: Estimate = _about("Taken above other candidates, all users pooled.", "share of pairs")
    gauc: Estimate = _about("AUC by user, weighed by candidates shown.", "share of pairs")
    uauc: Estimate = _about("AUC by user, users weigh alike.", "share of pairs")
    hit_rate: Estimate = _about("Taken item among the best ten.", "share", alias="hr@10")
    ndcg: Estimate = _about("Discounted gain of the best ten.", "0 to 1", alias="ndcg@10")
    mrr: Estimate = _about("Mean reciprocal rank of the taken item.", "0 to 1")
    logloss: Estimate = _about("Of sigmoid scores; lower is better.", "nats per candidate")
    bytes_up_per_rec: NonNegativeFloat | None = _about(
        "Payload to the cloud by recommendation; null if cut short.", "bytes"
    )
    bytes_down_per_rec: NonNegativeFloat | None = _about(
        "Payload from the cloud by recommendation; null if cut short.", "bytes"
    )
    latency_ms: Latency = _about("Measured, over loopback.", "ms")
    modelled_ms: dict[str, Quantiles] = _about(
        "Modelled, by link: measured computing, modelled way; empty where the cloud did not tell "
        "of every exchange.",
        "ms",
    )
    asks_per_rec: NonNegativeFloat = _about(
        "Rankings for which the cloud was asked, answered or not.", "share of rankings"
    )
    state_bytes_per_device: NonNegativeFloat | None = _about(
        "Vectors that a device keeps for its user: overlay, learned slots and their optimiser; "
        "null if cut short.",
        "bytes",
    )
    by_activity: list[Group] = _about(
        "Users in up to three groups by their events before their first ranking.", "groups"
    )
    by_staleness: list[Group] = _about(
        "Rankings by the overlay's age, counted in events since the window that made it; both "
        "bounds null: made without overlay; empty: no overlay in any ranking.",
        "groups",
    )
    by_release: list[Span] = _about(
        "Rankings by when they were made, counted in moments of the replay, cut where any entry "
        "got another bundle; empty: none did.",
        "spans",
    )
    sources: dict[str, NonNegativeInt] = _about("What rankings were made with.", "rankings")
    recommendations: NonNegativeInt = _about("Completed rankings of all seeds.", "rankings")
    seeds: list[int] = _about("Model seeds that are counted.", "seeds")
    bundles: list[str] = _about("SHA-256 of what devices ran at first, seed by seed.", "hashes")
    complete: bool = _about("Whether the whole log was played.", "yes or no")


class Difference(_Part):
    """One entry minus another, paired by user."""

    entry: str = _about("Label of the one.", "label")
    against: str = _about("Label of the other.", "label")
    auc: Interval = _about("Of AUC.", "share of pairs")
    gauc: Interval = _about("Of GAUC.", "share of pairs")
    uauc: Interval = _about("Of UAUC.", "share of pairs")
    hit_rate: Interval = _about("Of HR@10.", "share", alias="hr@10")
    ndcg: Interval = _about("Of NDCG@10.", "0 to 1", alias="ndcg@10")
    mrr: Interval = _about("Of MRR.", "0 to 1")
    logloss: Interval = _about("Of log loss.", "nats per candidate")


class Learning(_Part):
    """Measured time of learning after a ranking, over all rankings."""

    mean: NonNegativeFloat = _about("Mean by recommendation.", "ms")
    p95: NonNegativeFloat = _about("95 % took no longer.", "ms")


class BothWays(_Part):
    """A figure in both directions, seen from the devices."""

    up: float | None = _about("From devices to the cloud; null where not known.", "bytes")
    down: float | None = _about("From the cloud to devices; null where not known.", "bytes")


class Framing(_Part):
    """What crossed the connections, by recommendation."""

    kernel: BothWays = _about("What TCP carried, as the kernel counted.", "bytes")
    payload: BothWays = _about("What of it was messages.", "bytes")
    framing: BothWays = _about("The rest: HTTP/2 and gRPC.", "bytes")
    predicted: BothWays = _about("Framing by the constants of `simulator.framing`.", "bytes")


class Totals(_Part):
    """Counts of the whole experiment; the same however many processes played it."""

    recommendations: NonNegativeInt = _about("Completed rankings.", "rankings")
    bytes: dict[str, Bytes] = _about("Payload by purpose: refresh, rank, upload ...", "bytes")


class FaultSeen(_Part):
    """A fault that was played."""

    kind: str = _about("As in the file of faults.", "kind")
    round: int | None = _about("Round in which it began; null: not tied to one.", "number")
    moment: int | None = _about("Moments ranked when it began; null: not known.", "moments")
    what: str = _about("What was done and seen, for people.", "text")
    back_s: float | None = _about(
        "Measured until things were as before; null: nothing had to come back.", "s"
    )


class Kept(_Part):
    """Whether the cloud holds what it acknowledged, of one kind of thing."""

    what: str = _about("Events, vectors or contributions.", "kind")
    acknowledged: NonNegativeInt = _about("Promised to be held.", "things")
    lost: NonNegativeInt = _about("Of these, not there.", "things")
    doubled: NonNegativeInt = _about("There, and not sent so often.", "things")
    reordered: NonNegativeInt = _about("There, in another place than promised.", "things")


class Faults(_Part):
    """What was done to a run on purpose; it is not bit-equal to a run without."""

    seed: NonNegativeInt = _about("Of the file of faults.", "seed")
    played: list[FaultSeen] = _about("What happened, in order.", "faults")
    starts_s: list[NonNegativeFloat] = _about(
        "Measured of each new cloud, from the start of its process to its first answer.", "s"
    )
    checked: list[Kept] = _about("What the histories of devices say of the cloud.", "kinds")
    stale: NonNegativeInt = _about(
        "Rankings with an overlay older than the rule wants.", "rankings"
    )
    retries: NonNegativeInt = _about("Streams that broke while an answer was awaited.", "streams")


class Measured(_Part):
    """What another machine, or another number of processes, would give otherwise."""

    bytes: dict[str, Bytes] = _about("Traffic apart: bundles and control.", "bytes")
    seconds: dict[str, NonNegativeFloat] = _about("Duration of each replay.", "s")
    framing: dict[str, Framing] = _about(
        "By entry, what TCP carried by recommendation; bundles and hellos are part of it.", "bytes"
    )
    ledgers: dict[str, str] = _about(
        "By run, whether devices and cloud counted the same payload to the byte.", "text"
    )
    learning_ms: dict[str, Learning] = _about("Learning on devices, by entry.", "ms")
    faults: dict[str, Faults] = _about(
        "By run, the faults that were played and what was seen; empty: none were.", "runs"
    )


class Metrics(_Part):
    """The file as a whole."""

    protocol: str = _about("How the figures were taken, and what the split leaks.", "text")
    methods: dict[str, Entry] = _about("Every entry by its label.", "entries")
    differences: dict[str, Difference] = _about(
        "An entry minus one that it is compared with, paired by user: `entry-against`.",
        "of the metric",
    )
    totals: Totals = _about("Of all entries and seeds.", "see there")
    measured: Measured = _about("Depends on where it ran.", "see there")


def schema() -> str:
    """The JSON schema of ``metrics.json``, as text."""
    return json.dumps(Metrics.model_json_schema(), indent=1) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema())
