"""What the sessions of a cloud have in common."""

from dataclasses import dataclass, field

from cloud_server.events import Uploads
from cloud_server.ledger import Ledger
from cloud_server.limits import Paces
from cloud_server.metrics import Counts
from cloud_server.models import Models
from cloud_server.statuses import FaultLog
from cloud_server.turns import Turns


@dataclass(frozen=True, slots=True)
class Services:
    """What all sessions share.

    Attributes:
        models: what the cloud can do for a bundle.
        uploads: where events go.
        patience_s: seconds after which an ask that may be turned away is no longer wanted.
        largest_list: most ids or events in one ask.
        paces: how fast users may ask.
        most_sessions: that may be open.
        ledger: where exchanges are entered.
        counts: what is counted of them.
        faults: told which asks were refused.
        turns: which session of a user may write.
        replays: whether a session may say that it belongs to a replay.
    """

    models: Models
    uploads: Uploads
    patience_s: float
    largest_list: int
    paces: Paces
    most_sessions: int
    ledger: Ledger
    counts: Counts = field(default_factory=Counts)
    faults: FaultLog = field(default_factory=FaultLog)
    turns: Turns = field(default_factory=Turns)
    replays: bool = False
