"""The folder of a run. A reader finds each file as it was, or as it is now, never half of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from simulator.entries import slug
from simulator.environment import describe
from simulator.links import Link
from simulator.modelled import with_modelled
from simulator.outcome import Outcome, connections_of, learned, ledger_of, observed, outcome_of
from simulator.report.page import write_report
from simulator.runs import Run
from simulator.scenario import Scenario, dump
from simulator.split import with_cloud_times
from simulator.summary import Json, summarise


class Results:
    """What an experiment found so far; written anew after each run, so that it is always readable.

    Args:
        scenario: what is played.
        protocol: how the figures are taken.
        users: users of the log, U.
        links: over which latency is modelled.
        cuts: moments, from 0, from which on an entry may run another bundle.
    """

    def __init__(
        self,
        scenario: Scenario,
        protocol: str,
        users: int,
        links: Sequence[Link] = (),
        cuts: Sequence[int] = (0,),
    ) -> None:
        self.folder = scenario.folder
        self._files = Folder(scenario.folder)
        self._scenario, self._protocol, self._users = scenario, protocol, users
        self._links, self._cuts = links, cuts
        self._outcomes: list[Outcome] = []

    @property
    def summary(self) -> Json:
        """The content of ``metrics.json``."""
        return summarise(self._protocol, self._outcomes, self._scenario.references)

    def add(self, run: Run, clouds: Mapping[int, int]) -> None:
        """Take in a run, also one that was cut short; one that ranked nothing leaves no trace."""
        tally = run.replay.tally
        if not tally.ranked.any():
            return
        rankings = with_cloud_times(tally.frame(), run.cloud.exchanges if run.cloud else None)
        entries, seed = np.flatnonzero(tally.ranked), self._scenario.data_seed
        rankings = with_modelled(rankings, entries, self._links, seed)
        outcome = outcome_of(run, self._users, rankings, self._cuts)
        if not self._outcomes:
            self._forget_earlier(run.name)
        self._outcomes.append(outcome)
        whose = {"entry": outcome.method, "seed": str(outcome.seed)}
        name = rankings_name(outcome.method, outcome.seed)
        self._files.parquet(name, rankings, whose)
        self._files.parquet("connections.parquet", connections_of(self._outcomes))
        self._files.parquet("ledger.parquet", ledger_of(*self._outcomes).frame())
        self._files.parquet("observed.parquet", observed(self._outcomes))
        self._files.parquet("learned.parquet", learned(self._outcomes))
        self._files.text("scenario.yaml", dump(self._scenario))
        self._files.json("environment.json", describe(clouds, outcome.accounts))
        self._files.json("metrics.json", self.summary)

    def _forget_earlier(self, first: str) -> None:
        """Take away what an earlier experiment left by run, before the ``first`` of this one.

        It may have had other seeds, and readers take every run in the folder for one of `summary`.
        """
        files = [*self.folder.glob("rankings-*.parquet"), *self.folder.glob("exchanges-*.parquet")]
        for file in files:
            if file.name != f"exchanges-{first}.parquet":  # its cloud has just written it
                file.unlink()

    def report(self) -> None:
        """Write ``report.html`` from the files, where there are any."""
        if self._outcomes:
            write_report(self.folder)


def rankings_name(entry: str, seed: int) -> str:
    """The file with an entry's rankings."""
    return f"rankings-{slug(entry)}-{seed}.parquet"


class Folder:
    """Writes files at once or not at all; those of an earlier run are replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def text(self, name: str, content: str) -> None:
        """Write a text file."""
        self._replace(name, lambda draft: draft.write_text(content))

    def json(self, name: str, content: Json) -> None:
        """Write a JSON file whose bytes depend on ``content`` alone."""
        self.text(name, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")

    def parquet(
        self, name: str, frame: pl.DataFrame, about: Mapping[str, str] | None = None
    ) -> None:
        """Write a Parquet file; its footer says what it is ``about``."""
        self._replace(
            name, lambda draft: frame.write_parquet(draft, metadata=dict(about or {}) or None)
        )

    def _replace(self, name: str, write: Callable[[Path], Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f".{name}.draft"
        try:
            write(draft)
            draft.replace(self._folder / name)
        finally:
            draft.unlink(missing_ok=True)
