"""What a meta controller's choices are worth in sessions, beside chance, fixed rules and an oracle.

All entries play the same model through cloud and devices; they differ in when a device asks and
what it does in between. A ranking's value is the share of the other candidates that it puts below
the one taken; an entry's is the mean over rankings. A budget is a share of the rankings inside
sessions that may refresh; what a session begins with is not counted. The random rule gets the
share that the controller really took; fixed rules count where theirs is no higher; the oracle knows
what is taken and has as many refreshes.

    python -m bench.sessions [--log synthetic-sessions] [--trunk gru4rec] [--seeds 0,1,2]
        [--shares 0.05,0.1,0.2,0.4] [--out runs/sessions] [--set path=value ...]

Finished parts are kept under --out and not played again.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch

from bench.session_oracle import Known, outcomes, spend
from cloud_server.checkpoints import Trained, load_checkpoint
from shared_models.contract.metrics import (
    UserMetric,
    bootstrap_interval,
    mean_over_seeds,
    paired_difference,
)
from shared_models.logs.moments import SESSION, Moments, replay_moments
from shared_models.logs.prepare import Columns, cache_root, open_or_prepare
from shared_models.logs.prepared import PreparedLog
from simulator.cache import entry_key, resolve
from simulator.compose import compose
from simulator.entries import slug

ASKS = "ask-cloud"
EVERY = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15)
INFINITE = 1e9


class Played:
    """An entry over all seeds.

    Args:
        label: of the entry.
        frames: its rankings, by seed.
        moments: what was played.
        users: of the log.
    """

    def __init__(
        self, label: str, frames: Sequence[pl.DataFrame], moments: Moments, users: int
    ) -> None:
        self.label, self._moments = label, moments
        self.value = mean_over_seeds([self._valued(frame, users) for frame in frames])
        free = ~moments.begins
        asked = np.mean([(frame["decision"] == ASKS).to_numpy() for frame in frames], axis=0)
        self.rate = float(asked[free].mean())
        self.bytes = float(np.mean([_spent(frame) for frame in frames]))

    def _valued(self, frame: pl.DataFrame, users: int) -> UserMetric:
        sizes = self._moments.sizes
        value = (sizes - frame["rank"].to_numpy()) / np.maximum(sizes - 1, 1)
        return by_user(self._moments.user[sizes > 1], value[sizes > 1], users)


def by_user(user: np.ndarray, value: np.ndarray, users: int) -> UserMetric:
    """The mean of ``value`` over all rankings, as a metric of users."""
    total, count = np.bincount(user, value, users), np.bincount(user, minlength=users)
    return UserMetric(total.astype(np.float64), count.astype(np.float64))


def main() -> None:
    options = _options()
    log = open_or_prepare(options.log, Columns(), "user-tail")
    moments = replay_moments(log, SESSION)
    play = Bench(options, log, moments)
    fixed = play.entries(
        {
            "session": "device.refresh.rule=once,device.between=keep",
            "device": "device.refresh.rule=once,device.between=rerank",
            "refresh": "device.refresh.rule=always",
            **{
                f"every {n}": f"device.refresh.rule=every-n,device.refresh.every={n},"
                "device.between=rerank"
                for n in EVERY
            },
        },
        "fixed",
    )
    chosen = play.entries(
        {
            **{f"controller {s:g}": f"device.refresh.share={s}" for s in options.shares},
            "controller, infinite cost": f"device.refresh.threshold={INFINITE:g}",
        },
        "controller",
    )
    by_chance = play.entries(
        {
            f"random {each.rate:.4f}": "device.refresh.rule=random,device.between=controller,"
            f"device.refresh.share={each.rate:.4f}"
            for each in chosen
            if each.rate
        },
        "random",
    )
    _print_table([*fixed, *chosen, *by_chance])
    known = [outcomes(trained, log, moments) for trained in play.models()]
    for controller, random in zip((c for c in chosen if c.rate), by_chance, strict=True):
        _print_verdict(controller, random, fixed, play.oracle(known, controller.rate))


class Bench:
    """Plays entries of one model, and finds that model."""

    def __init__(self, options: argparse.Namespace, log: PreparedLog, moments: Moments) -> None:
        self._options, self._log, self._moments = options, log, moments

    def entries(self, settings: Mapping[str, str], folder: str) -> list[Played]:
        """``mcrec`` with each of ``settings``, played if it was not yet."""
        out = self._options.out / folder
        if not (out / "metrics.json").is_file():
            texts = [f"{label}: mcrec[{text}]" for label, text in settings.items()]
            seeds = ",".join(map(str, self._options.seeds))
            where = ["--log", self._options.log, "--trunk", self._options.trunk, "--seeds", seeds]
            given = ["replay.candidates=session-100", *self._options.set]
            flags = [part for text in given for part in ("--set", text)]
            command = ["compare", *texts, *where, "--devices", "2", "--out", str(out), *flags]
            subprocess.run([sys.executable, "-m", "simulator.cli", *command], check=True)
        return [self._read(out, label) for label in settings]

    def models(self) -> list[Trained]:
        """What was played, by seed."""
        about = {"methods": ["mcrec"], "trunk": self._options.trunk, "log": self._options.log}
        resolved = resolve(compose(None, about, self._options.set), "mcrec")
        keys = [
            entry_key(resolved, self._log.hash, "user-tail", seed) for seed in self._options.seeds
        ]
        return [load_checkpoint(cache_root() / "trained" / key) for key in keys]

    def oracle(self, known: Sequence[Known], rate: float) -> UserMetric:
        """The value of whoever knows what is taken, with refreshes at ``rate``."""
        budget = round(rate * int((~self._moments.begins).sum()))
        values = [spend(each, budget) for each in known]
        users = self._log.users
        return mean_over_seeds([by_user(user, value, users) for user, value in values])

    def _read(self, out: Path, label: str) -> Played:
        paths = [out / f"rankings-{slug(label)}-{seed}.parquet" for seed in self._options.seeds]
        frames = [pl.read_parquet(path) for path in paths]
        return Played(label, frames, self._moments, self._log.users)


def _spent(frame: pl.DataFrame) -> float:
    return float((frame["bytes_up"] + frame["bytes_down"]).sum()) / len(frame)


def _print_table(played: Sequence[Played]) -> None:
    print("| entry | refreshes inside sessions | B a ranking | value |\n|---|---|---|---|")
    for each in played:
        found = bootstrap_interval(each.value)
        value = f"{found.mean:.4f} [{found.low:.4f}, {found.high:.4f}]"
        print(f"| {each.label} | {each.rate:.3f} | {each.bytes:.0f} | {value} |", flush=True)


def _print_verdict(
    controller: Played, random: Played, fixed: Sequence[Played], oracle: UserMetric
) -> None:
    within = [each for each in fixed if each.rate <= controller.rate]
    best = max(within, key=lambda each: each.value.value)
    gaps = {
        "random": paired_difference(controller.value, random.value),
        f"best fixed ({best.label})": paired_difference(controller.value, best.value),
        f"oracle ({oracle.value:.4f})": paired_difference(controller.value, oracle),
    }
    told = ", ".join(
        f"{name} {100 * gap.mean:+.2f} [{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]"
        for name, gap in gaps.items()
    )
    print(f"{controller.label} (rate {controller.rate:.3f}), points over: {told}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--log", default="synthetic-sessions")
    parser.add_argument("--trunk", default="gru4rec")
    parser.add_argument("--seeds", type=lambda s: [int(x) for x in s.split(",")], default=[0, 1, 2])
    parser.add_argument(
        "--shares", type=lambda s: [float(x) for x in s.split(",")], default=[0.05, 0.1, 0.2, 0.4]
    )
    parser.add_argument("--out", type=Path, default=Path("runs/sessions"))
    parser.add_argument("--set", action="append", default=[], help="path=value, for all entries")
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
