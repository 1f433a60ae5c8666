"""Ratios and their targets: how a bench is judged, apart from what it measures."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from typing_extensions import override

Rate = Callable[[], float]
"""Measures something now."""
Pair = tuple[float, float]
"""What was measured, and the peer or floor of the same round."""
Round = Callable[[int], Pair]
"""Measures both; told the number of the round."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """What is held to.

    Attributes:
        name: one word, for the command line.
        what: numerator / denominator, and their unit.
        target: the least that will do.
        rounds: how often both are measured; the median counts.
    """

    name: str
    what: str
    target: float
    rounds: int = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """A ratio as it was measured, a pair for each round."""

    ratio: Ratio
    pairs: Sequence[Pair]

    @property
    def each(self) -> list[float]:
        """The ratio of every round."""
        return [ours / peer for ours, peer in self.pairs]

    @property
    def median(self) -> float:
        """What counts."""
        return statistics.median(self.each)

    @property
    def holds(self) -> bool:
        """Whether the target is met."""
        return self.median >= self.ratio.target

    @override
    def __str__(self) -> str:
        ours, peer = (statistics.median(column) for column in zip(*self.pairs, strict=True))
        rounds = ", ".join(f"{value:.2f}" for value in self.each)
        return (
            f"{self.ratio.name}: {self.median:.2f} (target {self.ratio.target:g}), "
            f"rounds {rounds}, medians {ours:,.0f} / {peer:,.0f}"
        )


def judged(ratio: Ratio, play: Round) -> Verdict:
    """Play its rounds."""
    return Verdict(ratio, [play(number) for number in range(ratio.rounds)])


def taking_turns(ours: Rate, peer: Rate) -> Round:
    """Rounds in which both take turns in going first, so that no drift favours one."""

    def play(number: int) -> Pair:
        if number % 2 == 0:
            return ours(), peer()
        second = peer()
        return ours(), second

    return play


def table(verdicts: Sequence[Verdict]) -> str:
    """All of them as Markdown."""
    lines = ["| what | measured | rounds | target | |", "|---|---|---|---|---|"]
    for verdict in verdicts:
        rounds = ", ".join(f"{value:.2f}" for value in verdict.each)
        word = "holds" if verdict.holds else "SHORT"
        target = f"{verdict.ratio.target:g}"
        lines.append(
            f"| {verdict.ratio.what} | {verdict.median:.2f} | {rounds} | {target} | {word} |"
        )
    return "\n".join(lines)
