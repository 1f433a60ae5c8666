"""The seam between a device and its cloud: everything above it is tested without a network."""

import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from shared_models.contract.errors import CloudUnavailable, ConcertoError
from shared_models.contract.events import EventBatch
from shared_models.contract.federation import Contribution, Settled
from shared_models.contract.overlay import Overlay
from shared_models.contract.ranking import RankedList, Receipt, Wanted
from shared_models.contract.uplink import Uplink

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks: a user's device, and the bundle that it runs.

    Attributes:
        user: whose device it is.
        bundle_id: what it runs.
        profile: value ids of the user's features, where the cloud ranks by them.
    """

    user: int
    bundle_id: str
    profile: tuple[int, ...] = ()


def tell(what: str, who: Identity, error: ConcertoError) -> None:
    """Log why there is no ``what``: a missing cloud is a normal day; one that refuses is news."""
    level = logging.DEBUG if isinstance(error, CloudUnavailable) else logging.WARNING
    _log.log(level, "user %d: no %s: %s", who.user, what, error)


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a packed bundle.

    Attributes:
        offset: position of `data` in the packed bundle.
        data: the bytes.
        total: length of the whole packed bundle.
    """

    offset: int
    data: bytes
    total: int


class Cloud(Protocol):
    """Everything that a device may ask of a cloud. Each call may raise `CloudUnavailable`.

    What the cloud refuses comes as the error that it names: `BadAsk`, `UnknownBundle`,
    `SlotMismatch`, or `Overloaded`, which is a `CloudUnavailable` too. Calls for one user must not
    overlap. ``at`` is virtual time in seconds. A receipt says what an answer cost.
    """

    async def released(self, method: str) -> str:
        """Id of the bundle that devices of ``method`` should run; empty: of the only method."""
        ...

    def fetch_bundle(self, bundle_id: str, offset: int) -> AsyncGenerator[Piece, None]:
        """The packed bytes of a bundle, from byte ``offset`` on."""
        ...

    async def refresh(
        self, who: Identity, uplink: Uplink, events_seen: int, at: float
    ) -> tuple[Overlay, Receipt]:
        """New slot values for an uplink of a user ``events_seen`` on."""
        ...

    async def group(
        self, who: Identity, number: int, events_seen: int, at: float
    ) -> tuple[Overlay, Receipt]:
        """The slot values that all users of a group share."""
        ...

    async def shared(
        self, who: Identity, have: int | None, events_seen: int, at: float
    ) -> tuple[Overlay, Receipt]:
        """What the user's own group shares; no slots where the device has this version already."""
        ...

    async def contributions_stored(self, who: Identity) -> int:
        """Number of this user's contributions in the cloud, as it last told."""
        ...

    async def contribute(
        self, who: Identity, contribution: Contribution, at: float
    ) -> tuple[Settled, Receipt]:
        """Hand over what was learned; sent twice it counts once."""
        ...

    async def rank(
        self, who: Identity, wanted: Wanted, events_seen: int, at: float
    ) -> tuple[RankedList, Receipt]:
        """What the cloud makes of the candidates, or what it retrieved."""
        ...

    async def events_stored(self, who: Identity) -> int:
        """Number of this user's events in the cloud's journal, as the last session began."""
        ...

    async def upload(self, who: Identity, batch: EventBatch) -> int:
        """Store events; returns how many of this user the journal holds now."""
        ...


class AbsentCloud:
    """A cloud that never answers."""

    async def released(self, method: str) -> str:
        """Raises `CloudUnavailable`."""
        raise CloudUnavailable(f"no cloud tells which bundle of {method!r} is released")

    async def fetch_bundle(self, bundle_id: str, offset: int) -> AsyncGenerator[Piece, None]:
        """Raises `CloudUnavailable`."""
        nothing: tuple[Piece, ...] = ()
        for piece in nothing:
            yield piece
        raise CloudUnavailable(f"no cloud gives bundle {bundle_id} from byte {offset} on")

    async def refresh(
        self,
        who: Identity,
        uplink: Uplink,  # noqa: ARG002
        events_seen: int,  # noqa: ARG002
        at: float,  # noqa: ARG002
    ) -> tuple[Overlay, Receipt]:
        """Raises `CloudUnavailable`."""
        raise CloudUnavailable(f"no cloud refreshes user {who.user}")

    async def group(
        self,
        who: Identity,
        number: int,
        events_seen: int,  # noqa: ARG002
        at: float,  # noqa: ARG002
    ) -> tuple[Overlay, Receipt]:
        """Raises `CloudUnavailable`."""
        raise CloudUnavailable(f"no cloud has group {number} for user {who.user}")

    async def shared(
        self,
        who: Identity,
        have: int | None,  # noqa: ARG002
        events_seen: int,  # noqa: ARG002
        at: float,  # noqa: ARG002
    ) -> tuple[Overlay, Receipt]:
        """Raises `CloudUnavailable`."""
        raise CloudUnavailable(f"no cloud has what user {who.user} shares")

    async def contributions_stored(self, who: Identity) -> int:
        """Raises `CloudUnavailable`."""
        raise CloudUnavailable(f"no cloud knows contributions of user {who.user}")

    async def contribute(
        self,
        who: Identity,
        contribution: Contribution,
        at: float,  # noqa: ARG002
    ) -> tuple[Settled, Receipt]:
        """Raises `CloudUnavailable`."""
        raise CloudUnavailable(
            f"no cloud takes contribution {contribution.sequence} of user {who.user}"
        )

    async def rank(
        self,
        who: Identity,
        wanted: Wanted,  # noqa: ARG002
        events_seen: int,  # noqa: ARG002
        at: float,  # noqa: ARG002
    ) -> tuple[RankedList, Receipt]:
        """Raises `CloudUnavailable`."""
        raise CloudUnavailable(f"no cloud ranks for user {who.user}")

    async def events_stored(self, who: Identity) -> int:
        """Raises `CloudUnavailable`."""
        raise CloudUnavailable(f"no cloud knows events of user {who.user}")

    async def upload(self, who: Identity, batch: EventBatch) -> int:
        """Raises `CloudUnavailable`."""
        raise CloudUnavailable(f"no cloud takes {len(batch.events)} events of user {who.user}")
