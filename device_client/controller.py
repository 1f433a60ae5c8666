"""When to ask the cloud: the rules that a manifest may name."""

from shared_models.contract.bundle import RefreshRule
from shared_models.contract.ranking import Decision


def decide(rule: RefreshRule, *, events_seen: int, refreshed_at: int | None) -> Decision:
    """What to do at this moment.

    Args:
        rule: the manifest's, or a scenario's.
        events_seen: events of this user so far.
        refreshed_at: how many there had been at the last refresh; None before the first.
    """
    if rule.rule == "never":
        return Decision.SCORE
    if rule.rule == "always" or refreshed_at is None:
        return Decision.REFRESH
    return Decision.REFRESH if events_seen - refreshed_at >= rule.every else Decision.SCORE
