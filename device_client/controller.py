"""When a device asks its cloud: the rules that a manifest may name.

A rule decides by counts, by chance that hangs on (seed, user, event, ranking since then) alone, or
by what the bundle's controller graph says. None reads a clock.
"""

import hashlib
import struct
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared_models.contract.manifest import RefreshRule
from shared_models.contract.ranking import Decision, Receipt


@dataclass(frozen=True, slots=True)
class Situation:
    """A device before a ranking.

    Attributes:
        user: whose device it is.
        events_seen: events of this user so far.
        again: rankings before this one since the newest event.
        refreshed_at: `events_seen` at the last refresh that succeeded; None before the first.
        debt: payload bytes of refreshes so far beyond what the rule's budget has granted.
        measure: an output of the bundle's controller by name, for the uplink's window now and at
            the last refresh; costs a run of the graph.
    """

    user: int
    events_seen: int
    again: int
    refreshed_at: int | None
    debt: float
    measure: Callable[[str], float]


IsDue = Callable[[RefreshRule, Situation, int], bool]
OUTPUTS: Final[Mapping[str, str]] = {"on-change": "change", "learnt": "gain"}
"""The controller's output that a rule reads."""


def decide(rule: RefreshRule, situation: Situation, seed: int = 0) -> Decision:
    """What to do before a ranking.

    Args:
        rule: the bundle's, or the one set over it; its threshold is known.
        situation: of the device.
        seed: of the rule ``random``.
    """
    if rule.rule == "never" or situation.debt > 0:
        return Decision.SCORE
    is_due = situation.refreshed_at is None or _RULES[rule.rule](rule, situation, seed)
    return Decision.REFRESH if is_due else Decision.SCORE


class Asking:
    """When one device asks its cloud, and what it knows of the last time.

    Args:
        rule: of the bundle, or the one set over it.
        user: whose device it is.
        seed: of the rule ``random``.

    Attributes:
        rule: as given; another bundle has another one.
        rankings: of the device so far.
        items: what the uplink was about at the last refresh that succeeded.
    """

    __slots__ = (
        "_again",
        "_ranked_at",
        "_refreshed_at",
        "_seed",
        "_spent",
        "_user",
        "items",
        "rankings",
        "rule",
    )

    def __init__(self, rule: RefreshRule, user: int, seed: int) -> None:
        self.rule, self._user, self._seed = rule, user, seed
        self._spent = self.rankings = self._again = 0
        self._ranked_at: int | None = None
        self._refreshed_at: int | None = None
        self.items: Sequence[int] = ()

    def ranks(self, events_seen: int) -> None:
        """Count a ranking that begins."""
        self.rankings += 1
        self._again = self._again + 1 if events_seen == self._ranked_at else 0
        self._ranked_at = events_seen

    def decision(self, events_seen: int, measure: Callable[[str], float]) -> Decision:
        """What to do now."""
        budget = self.rule.budget
        debt = self._spent - budget * self.rankings if budget else 0
        # What is asked about between two rankings is the next one, the first since that event.
        again = self._again if events_seen == self._ranked_at else 0
        situation = Situation(self._user, events_seen, again, self._refreshed_at, debt, measure)
        return decide(self.rule, situation, self._seed)

    def paid(self, receipt: Receipt | None) -> bool:
        """Enter what an exchange cost; whether there was one."""
        if receipt is not None:
            self._spent += receipt.bytes_up + receipt.bytes_down
        return receipt is not None

    def succeeded(self, events_seen: int, items: Sequence[int] = ()) -> None:
        """Remember a refresh; ``items`` only where a controller compares."""
        self._refreshed_at, self.items = events_seen, array("I", items)

    def forget(self) -> None:
        """The next refresh is the first one again."""
        self._refreshed_at, self.items = None, ()


def _always(*_: object) -> bool:
    return True


def _not_again(*_: object) -> bool:
    return False


def _each_n_events(rule: RefreshRule, situation: Situation, _: int) -> bool:
    return situation.events_seen - (situation.refreshed_at or 0) >= rule.every


def _by_chance(rule: RefreshRule, situation: Situation, seed: int) -> bool:
    # A user who is shown something again and again takes nothing in between: each is a draw.
    again = (situation.again,) if situation.again else ()
    drawn_by = (seed, situation.user, situation.events_seen, *again)
    key = struct.pack(f"<{len(drawn_by)}Q", *drawn_by)
    drawn = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")
    return drawn < rule.share * 2**64


def _by_controller(rule: RefreshRule, situation: Situation, _: int) -> bool:
    assert rule.threshold is not None  # noqa: S101 - `DeviceSettings.rule` fills it in
    return situation.measure(OUTPUTS[rule.rule]) > rule.threshold


_RULES: Final[Mapping[str, IsDue]] = {
    "once": _not_again,
    "always": _always,
    "every-n": _each_n_events,
    "random": _by_chance,
    "on-change": _by_controller,
    "learnt": _by_controller,
}
