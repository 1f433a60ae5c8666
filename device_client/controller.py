"""When a device asks its cloud: the rules that a manifest may name."""

from typing import Final

from shared_models.contract.bundle import RefreshRule
from shared_models.contract.ranking import Decision

_ALWAYS: Final = "always"
_EVERY_N: Final = "every-n"


def decide(rule: RefreshRule, *, events_seen: int, last_refresh_at_events: int | None) -> Decision:
    """What to do before a ranking.

    Args:
        rule: the bundle's, or the one set over it.
        events_seen: events of this user so far.
        last_refresh_at_events: `events_seen` at the last refresh that succeeded; None before the
            first, which is always due.
    """
    if rule.rule == _ALWAYS:
        return Decision.REFRESH
    if rule.rule == _EVERY_N and _is_due(rule.every, events_seen, last_refresh_at_events):
        return Decision.REFRESH
    return Decision.SCORE


def _is_due(every: int, events_seen: int, last: int | None) -> bool:
    return last is None or events_seen - last >= every
