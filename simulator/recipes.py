"""Scenarios with a name, to start from."""

from pathlib import Path

from simulator.scenario import ReplaySettings, Scenario


def demo(out: Path = Path("runs/demo")) -> Scenario:
    """Base and DUET on MovieLens-100K over four device processes: what `make demo` plays."""
    return Scenario(methods=("base", "duet"), log="movielens-100k", devices=4, out=out)


def quick(out: Path = Path("runs/quick")) -> Scenario:
    """The same on the synthetic log, cut short: a whole run in about a minute."""
    return Scenario(
        methods=("base", "duet"),
        log="synthetic",
        devices=2,
        train={"epochs": 2},
        replay=ReplaySettings(round_events=500, moments=2000),
        out=out,
    )
