"""How many contributions came, and what became of them."""

import logging
from collections import Counter
from collections.abc import Mapping

from cloud_server.federation.rules import Finding

_log = logging.getLogger(__name__)


class Counters:
    """Counts of one cloud process, from its start.

    Attributes:
        findings: contributions by what was found of them.
        releases: versions that were made of them.
    """

    def __init__(self) -> None:
        self.findings: Counter[Finding] = Counter()
        self.releases = 0

    def as_mapping(self) -> Mapping[str, int]:
        """Every count by its name, zeros included."""
        found = {finding.value: self.findings[finding] for finding in Finding}
        return {**found, "releases": self.releases}

    def tell(self) -> None:
        """Write them to the log, where anything was counted."""
        counts = self.as_mapping()
        if any(counts.values()):
            told = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
            _log.info("contributions: %s", told)
