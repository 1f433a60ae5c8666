"""Numbers as people read them."""

from collections.abc import Mapping
from typing import Any, Final

MISSING: Final = "\N{EN DASH}"
_NEAR: Final = 0.9995
"""From here on three digits are those of the next unit."""


def size(number: float | None) -> str:
    """Bytes; a unit is a thousand of the one before."""
    if number is None:
        return MISSING
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= _NEAR * one:
            return f"{_digits(number / one)} {unit}"
    return f"{number:.3g} B"


def milliseconds(value: float | None) -> str:
    """Three digits of a time."""
    if value is None:
        return MISSING
    return f"{_digits(value)} ms"


def count(number: int, one: str, many: str | None = None) -> str:
    """How many there are of something."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def estimate(found: Mapping[str, Any]) -> tuple[str, str]:
    """A mean with its spread over seeds, and its interval."""
    if found["mean"] is None:
        return MISSING, ""
    spread = "" if found["sd"] is None else f" ± {found['sd']:.4f}"
    ends = "" if found["low"] is None else f"{found['low']:.3f} to {found['high']:.3f}"
    return f"{found['mean']:.4f}{spread}", ends


def difference(found: Mapping[str, Any]) -> tuple[str, str, str]:
    """A difference, its interval, and where that lies: ``above`` zero, ``below``, ``across``."""
    if found["mean"] is None:
        return MISSING, "", "across"
    mean, low, high = f"{found['mean']:+.4f}", found["low"], found["high"]
    if low is None:
        return mean, "", "across"
    side = "above" if low > 0 else "below" if high < 0 else "across"
    return mean, f"{low:+.4f} to {high:+.4f}", side


def bounds(group: Mapping[str, Any], without: str = "no overlay") -> str:
    """The values that belong to a group of `simulator.groups`."""
    least, most = group["at_least"], group["at_most"]
    if least is None:
        return without
    if most is None:
        return f"{least}+"
    return f"{least}" if least == most else f"{least}{MISSING}{most}"


def _digits(number: float) -> str:
    """Three digits, or all of those before the point."""
    return f"{number:.3g}" if number < 1000 * _NEAR else f"{number:,.0f}"
