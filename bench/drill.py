"""The drill: a cloud that is killed again and again, at random points and at every failpoint.

    python -m bench.drill [--kills 200] [--seed 0] [--out runs/drill]

Replays of a small synthetic log with ECRec (events and memories) and PINRec (contributions) are
played under faults; after each, what devices were promised is held against what the cloud's files
hold. Then a hundred devices, each on a connection of its own, wait for a cloud that is killed. The
exit code is 1 where anything was lost, doubled or reordered, a replay did not stand up to its
faults, or a failpoint was never come to. Takes 6 minutes with ``--kills 20`` and 18 with 200 on
two free cores. It starts its own processes and ends only these.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench.back import devices_back
from cloud_server.failpoints import NAMES
from simulator.fleet import end_like_ctrl_c

MOMENTS, MOST_KILLS = 2400, 40
_LONGEST_S = 900.0
ECREC = "ecrec[ecrec.long=20]"
RETRAINED = "ecrec[ecrec.long=20,replay.retrain=2]"
PINREC = "pinrec[pinrec.plugins=federated,pinrec.learning.rows=8]"
LOG = ("--log", "synthetic", "--trunk", "pool", "--seed", "0", "--devices", "2")
SMALL = ("--set", "train.epochs=1", "--set", 'device.refresh={"rule":"every-n","every":2}')
OF_MEMORIES = (
    *("start.before-journal", "start.before-models", "memory.seeding", "start.ready"),
    *("release.announced", "bundle.chunk", "journal.before-write:2", "journal.before-commit:3"),
    *("journal.after-commit:2", "upload.before-acknowledge:5", "answer.sent:40"),
    *("memory.before-write:2", "memory.before-commit:3", "memory.after-commit:2", "stop.begun"),
)
OF_CONTRIBUTIONS = (
    *("contribution.before-write:3", "contribution.written:5", "contribution.after-commit:2"),
    *("contribution.version", "stop.answered"),
)
OF_RELEASES = (
    *("release.noticed", "release.checked"),
    *("retrain.grown", "retrain.epoch", "retrain.trained", "retrain.stored"),
)
OTHERS = (
    {"kind": "kill-devices", "times": 2},
    {"kind": "corrupt-bundle"},
    {"kind": "clock-jump", "seconds": -86_400.0},
    {"kind": "cut-link", "seconds": 5.0},
    {"kind": "slow-link", "seconds": 5.0},
    *({"kind": "poison-release", "how": how} for how in ("nan-weights", "flipped-byte")),
    *({"kind": "poison-release", "how": how} for how in ("test-vector", "no-graph")),
    {"kind": "poison-release", "how": "newer-format"},
)


@dataclass(frozen=True, slots=True)
class Act:
    """One replay under faults."""

    name: str
    entry: str
    faults: tuple[dict[str, Any], ...]
    rounds: int = 40


@dataclass(slots=True)
class Found:
    """What an act gave, or what was wrong with it."""

    act: Act
    wrong: str = ""
    kills: int = 0
    places: int = 0
    checked: list[dict[str, Any]] = field(default_factory=list)
    back_s: list[float] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)
    stale: int = 0

    @property
    def promised(self) -> int:
        return sum(each["acknowledged"] for each in self.checked)

    @property
    def broken(self) -> int:
        return sum(each[how] for each in self.checked for how in ("lost", "doubled", "reordered"))


def acts(kills: int) -> Iterator[Act]:
    """Every failpoint, all other faults, and ``kills`` at random points, half of each method."""
    yield Act("places-memories", ECREC, ({"kind": "kill-cloud", "failpoints": [*OF_MEMORIES]},))
    contributed = {"kind": "kill-cloud", "failpoints": [*OF_CONTRIBUTIONS]}
    yield Act("places-contributions", PINREC, (contributed,))
    released = {"kind": "kill-cloud", "failpoints": [*OF_RELEASES]}
    yield Act("places-releases", RETRAINED, (released,), rounds=6)
    yield Act("others", ECREC, OTHERS, rounds=12)
    for entry, share in ((ECREC, kills - kills // 2), (PINREC, kills // 2)):
        for number, first in enumerate(range(0, share, MOST_KILLS)):
            times = min(MOST_KILLS, share - first)
            name = f"kills-{entry.partition('[')[0]}-{number}"
            yield Act(name, entry, ({"kind": "kill-cloud", "times": times},), max(times, 4))


def play(act: Act, seed: int, out: Path) -> Found:
    """Play an act in processes of its own, and check what it left."""
    folder, found = out / act.name, Found(act)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "faults.yaml"
    file.write_text(yaml.safe_dump({"seed": seed, "faults": list(act.faults)}))
    rounds = ("--set", f"replay.round_events={-(-MOMENTS // act.rounds)}")
    size = ("--set", f"replay.moments={MOMENTS}")
    places = ("--faults", str(file), "--out", str(folder))
    wrong = _failure("run", "--method", act.entry, *LOG, *SMALL, *rounds, *size, *places)
    found.wrong = wrong or _failure("check", "history", str(folder))
    path = folder / "metrics.json"
    if path.exists():
        for told in json.loads(path.read_text())["measured"]["faults"].values():
            _read(found, told)
    return found


def _read(found: Found, told: dict[str, Any]) -> None:
    for seen in told["played"]:
        at_place = "died at" in seen["what"]
        found.places += at_place
        found.kills += seen["kind"] == "kill-cloud" and seen["moment"] is not None
        if seen["kind"] == "kill-cloud" and seen["back_s"]:
            found.back_s.append(seen["back_s"])
        if "never came" in seen["what"]:
            found.wrong = found.wrong or seen["what"]
    found.checked, found.starts_s, found.stale = told["checked"], told["starts_s"], told["stale"]


def _failure(*arguments: str) -> str:
    """Why ``concerto arguments`` failed; empty where it did not."""
    process = subprocess.Popen(
        [sys.executable, "-m", "simulator.cli", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # Ctrl-C is for the drill, which then lets the replay end its own processes.
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=_LONGEST_S)
    finally:
        process.terminate()
        process.wait()
    words = said.strip().splitlines()
    return (
        (words[-1] if words else f"ended with {process.returncode}") if process.returncode else ""
    )


def row(found: Found) -> str:
    held = f"{found.promised:>7,} {found.broken:>7,}"
    times = f"{p95(found.back_s):>8} {p95(found.starts_s):>8}"
    return (
        f"{found.act.name:24} {found.kills:>5} {found.places:>6} {held} {times} {found.stale:>6,}"
        f"  {found.wrong}"
    )


def p95(seconds: Sequence[float]) -> str:
    return f"{np.quantile(seconds, 0.95):.1f} s" if seconds else "-"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=200, help="at random points")
    parser.add_argument("--seed", type=int, default=0, help="of all faults")
    parser.add_argument("--out", type=Path, default=Path("runs/drill"))
    options = parser.parse_args()
    end_like_ctrl_c()
    print(
        f"{'replay':24} {'kills':>5} {'places':>6} {'acked':>7} {'broken':>7} {'back p95':>8} "
        f"{'start':>8} {'stale':>6}"
    )
    everything = []
    for number, act in enumerate(acts(options.kills)):
        everything.append(play(act, options.seed + number, options.out))
        print(row(everything[-1]), flush=True)
    back, starts = (
        [s for f in everything for s in f.back_s],
        [s for f in everything for s in f.starts_s],
    )
    places, kills = sum(f.places for f in everything), sum(f.kills for f in everything)
    print(
        f"{kills} kills at random points, {places} of {len(NAMES)} failpoints: of "
        f"{sum(f.promised for f in everything):,} acknowledged writes "
        f"{sum(f.broken for f in everything)} lost, doubled or reordered"
    )
    print(
        f"a killed cloud answered again after p95 {p95(back)}; from the start of its process "
        f"to its first answer p95 {p95(starts)} (about 5 s are wanted)"
    )
    waited = devices_back(options.out / "back", options.seed)
    print(
        f"100 devices, each on its own connection, {len(waited) // 100} kills: back after p95 "
        f"{p95(waited)}, the last after {max(waited):.1f} s (about 10 s are wanted)"
    )
    stood = all(not found.wrong and not found.broken for found in everything)
    return 0 if stood and places == len(NAMES) and kills == options.kills else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
