"""Replay speed beside a floor of the same run, and the batcher beside batches of one.

The floor is what no replay over gRPC can do without: an aio echo with the real ask and answer
sizes, the generator's forward pass at a replay's mean batch size, and the bare onnxruntime run;
with the same processes and in-flight count. Rounds alternate; medians are printed.

    python -m bench.replay [--rounds 5] [--moments 6000] [--devices 2]
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared_models.contract.bundle import read_bundle
from shared_models.logs.prepare import cache_root
from simulator.cache import BundleCache, Trained
from simulator.experiment import Plan, plan
from simulator.scenario import Scenario

# The mean batch of a replay's refreshes on two cores (seen: 4.5 to 4.9). The floor runs the
# generator on batches of that size: bigger ones would be another, cheaper piece of work.
OBSERVED_BATCH = 5
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--moments", type=int, default=6000)
    parser.add_argument("--devices", type=int, default=2)
    options = parser.parse_args()
    played = plan(Scenario(methods=("duet",), replay={"moments": options.moments}))
    cache = BundleCache(cache_root(), played.scenario.split, played.log.folder, played.log.hash)
    trained = asyncio.run(cache.trained(played.plays[0].resolved, 0, print))
    _compare_with_floor(played, trained, options)
    _compare_batches(trained, options.rounds)


def _compare_with_floor(played: Plan, trained: Trained, options: argparse.Namespace) -> None:
    ratios = []
    batch = ("--largest-batch", str(OBSERVED_BATCH))
    for number in range(1, options.rounds + 1):
        ours = _replay(options)
        with _serving("bench.service", "floor", *_model(trained), *batch) as address:
            floor = _closed_loop(address, trained, len(played.moments), options.devices, "--rank")
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


def _compare_batches(trained: Trained, rounds: int) -> None:
    """The real cloud under 128 devices that only refresh: batches up to 64 against batches of 1."""
    ratios = []
    for number in range(1, rounds + 1):
        rates = []
        for largest in (64, 1):
            serve = ("serve", "--bundles", str(trained.bundles), "--listen", "127.0.0.1:0")
            flag = ("--set", f"largest_batch={largest}")
            with tempfile.TemporaryDirectory() as journal:
                place = ("--journal", f"{journal}/journal.sqlite")
                with _serving("cloud_server.cli", *serve, *place, *flag) as address:
                    rates.append(_closed_loop(address, trained, 6000, 1, "--in-flight", "128"))
        ratios.append(rates[0] / rates[1])
        print(f"round {number}: batches {rates[0]:,.0f} refreshes/s, of one {rates[1]:,.0f}")
    print(f"batched / batch 1 at 128 devices: median {statistics.median(ratios):.2f} (target 3)")


def _closed_loop(address: str, trained: Trained, asks: int, processes: int, *more: str) -> float:
    """Asks per second of so many client processes that start together."""
    bundle = trained.bundles / trained.bundle.id
    places = ["--address", address, "--bundle", str(bundle), "--asks", str(asks // processes)]
    clients = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.service", "client", *places, *more],
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


@contextmanager
def _serving(module: str, *arguments: str) -> Iterator[str]:
    server = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert server.stdout is not None  # noqa: S101 - a pipe, as asked for
    try:
        yield server.stdout.readline().strip().removeprefix("listening on ")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
