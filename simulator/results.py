"""The folder of a run. A reader finds each file as it was, or as it is now, never half of it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from simulator.environment import describe
from simulator.outcome import Outcome, connections_of, ledger_of, observed, outcome_of
from simulator.scenario import Scenario, dump
from simulator.split import with_cloud_times
from simulator.stage import Run
from simulator.summary import Json, summarise


class Results:
    """What an experiment found so far; written anew after each run, so that it is always readable.

    Args:
        scenario: what is played.
        protocol: how the figures are taken.
        users: users of the log, U.
    """

    def __init__(self, scenario: Scenario, protocol: str, users: int) -> None:
        self.folder = scenario.folder
        self._files = _Folder(scenario.folder)
        self._scenario, self._protocol, self._users = scenario, protocol, users
        self._outcomes: list[Outcome] = []

    @property
    def summary(self) -> Json:
        """The content of ``metrics.json``."""
        return summarise(self._protocol, self._outcomes)

    def add(self, run: Run, clouds: Mapping[int, int]) -> None:
        """Take in a run, also one that was cut short; one that ranked nothing leaves no trace."""
        tally = run.replay.tally
        if not tally.ranked.any():
            return
        rankings = with_cloud_times(tally.frame(), run.cloud.exchanges if run.cloud else None)
        outcome = outcome_of(run, self._users, rankings)
        self._outcomes.append(outcome)
        self._files.parquet(f"rankings-{run.name}.parquet", rankings)
        self._files.parquet("connections.parquet", connections_of(self._outcomes))
        self._files.parquet("ledger.parquet", ledger_of(*self._outcomes).frame())
        self._files.parquet("observed.parquet", observed(self._outcomes))
        self._files.text("scenario.yaml", dump(self._scenario))
        self._files.json("environment.json", describe(clouds, outcome.accounts))
        self._files.json("metrics.json", self.summary)


class _Folder:
    """Writes files at once or not at all; those of an earlier run are replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def text(self, name: str, content: str) -> None:
        """Write a text file."""
        self._replace(name, lambda draft: draft.write_text(content))

    def json(self, name: str, content: Json) -> None:
        """Write a JSON file whose bytes depend on ``content`` alone."""
        self.text(name, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")

    def parquet(self, name: str, frame: pl.DataFrame) -> None:
        """Write a Parquet file."""
        self._replace(name, frame.write_parquet)

    def _replace(self, name: str, write: Callable[[Path], Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f".{name}.draft"
        try:
            write(draft)
            draft.replace(self._folder / name)
        finally:
            draft.unlink(missing_ok=True)
