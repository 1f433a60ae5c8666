"""Replay speed beside a floor of the same run.

The floor is what no replay over gRPC can do without: an aio echo with the real ask and answer
sizes, the generator's forward pass at a replay's mean batch size, and the bare onnxruntime run;
with the same processes and in-flight count, scheduled alike. Rounds alternate; medians are printed.

    python -m bench.replay [--rounds 5] [--moments 6000] [--devices 2]
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.processes import ENVIRONMENT, serving
from shared_models.contract.bundle import read_bundle
from shared_models.contract.processes import schedule_as_batch
from shared_models.logs.prepare import cache_root
from simulator.cache import BundleCache, Trained
from simulator.experiment import Plan, plan
from simulator.scenario import Scenario

# The mean batch of a replay's refreshes on two cores (seen: 4.5 to 4.9). The floor runs the
# generator on batches of that size: bigger ones would be another, cheaper piece of work.
OBSERVED_BATCH = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--moments", type=int, default=6000)
    parser.add_argument("--devices", type=int, default=2)
    options = parser.parse_args()
    schedule_as_batch()
    played = plan(Scenario(methods=("duet",), replay={"moments": options.moments}))
    cache = BundleCache(cache_root(), played.scenario.split, played.log.folder, played.log.hash)
    trained = asyncio.run(cache.trained(played.plays[0].resolved, 0, print))
    _compare_with_floor(played, trained, options)


def _compare_with_floor(played: Plan, trained: Trained, options: argparse.Namespace) -> None:
    ratios = []
    batch = ("--largest-batch", str(OBSERVED_BATCH))
    for number in range(1, options.rounds + 1):
        ours = _replay(options)
        with serving("bench.loops", "floor", *_model(trained), *batch) as server:
            floor = _closed_loop(
                server.address, trained, len(played.moments), options.devices, "--rank"
            )
        ratios.append(ours / floor)
        speeds = f"replay {ours:,.0f} events/s, floor {floor:,.0f}"
        print(f"round {number}: {speeds}, ratio {ours / floor:.2f}", flush=True)
    print(f"replay / floor: median {statistics.median(ratios):.2f} (target 0.4)")


def _replay(options: argparse.Namespace) -> float:
    """Events per second of a replay with a refresh before every event, start-up excluded."""
    with tempfile.TemporaryDirectory() as out:
        command = ["run", "--method", "duet", "--devices", str(options.devices), "--out", out]
        moments = ["--set", f"replay.moments={options.moments}"]
        subprocess.run(
            [sys.executable, "-m", "simulator.cli", *command, *moments],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        found = json.loads((Path(out) / "metrics.json").read_text())
    (seconds,) = found["measured"]["seconds"].values()
    return float(options.moments / seconds)


def _closed_loop(address: str, trained: Trained, asks: int, processes: int, *more: str) -> float:
    """Asks per second of so many client processes that start together."""
    bundle = trained.bundles / trained.bundle.id
    places = ["--address", address, "--bundle", str(bundle), "--asks", str(asks // processes)]
    clients = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.loops", "client", *places, *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        for _ in range(processes)
    ]
    for client in clients:
        assert client.stdin is not None  # noqa: S101 - a pipe, as asked for
        client.stdin.write("go\n")
        client.stdin.flush()
    found = [json.loads(client.communicate()[0]) for client in clients]
    return float(sum(each["asks"] for each in found) / max(each["seconds"] for each in found))


def _model(trained: Trained) -> list[str]:
    bundle = trained.bundles / trained.bundle.id
    model = trained.bundles / "models" / trained.bundle.id
    answer = sum(spec.size for spec in read_bundle(bundle).manifest.slots) * 2 + 100
    return ["--bundle", str(bundle), "--model", str(model), "--answer-bytes", str(answer)]


if __name__ == "__main__":
    main()
