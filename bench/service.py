"""The service beside its peers and floors of the same run, each as a ratio with a target.

    python -m bench.service [--only unary floor accounting batcher ranking ...]

- unary: asks a second, an aio stream for each of 32 devices / a unary call for each ask.
- floor: the same stream / raw TCP with a length prefix, on event loops of the same kind.
- accounting: the device's session against an echo, both with their ledgers / without.
- metrics: the same session, its cloud counting for Prometheus / without; no ledgers.
- batcher: the real cloud at 128 devices, batches up to 64 / batches of one.
- ranking: as batcher, but the cloud ranks 100 candidates with `dlrm`.
- download: 20 MB through the real FetchBundle / over a bare socket, by the processor time of both
  sides.
- overload: the real cloud, one ask a batch, at twice the load that it can bear: asks answered in
  time / its capacity.
- fallback: devices whose cloud ranks, one ask a batch, at twice the load that it can bear:
  recommendations that were complete within their deadline / all; most the device ranked itself.

Asks have 1 KB and answers 4 KB in the first three. Everything runs on loopback, scheduled as a
simulation's processes are; rounds take turns, medians count, and the exit code is 1 where a target
is missed. Takes about six minutes.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

from bench.processes import Server, serving, told
from bench.ratios import Pair, Ratio, Round, judged, table, taking_turns
from bench.stock import LARGE_BYTES, Stock
from cloud_server.loop import new_event_loop
from shared_models.contract.processes import schedule_as_batch
from simulator.fleet import end_like_ctrl_c

OVERLOAD = 2.0
"""Times the capacity."""
CROWD = 1536
"""Devices that stand ready in an overload: more than the cloud has room for."""


@contextmanager
def unary(_: Stock) -> Iterator[Round]:
    with serving("bench.echo", "server") as echo:
        yield taking_turns(partial(_echoed, echo, "stream"), partial(_echoed, echo, "unary"))


@contextmanager
def floor(_: Stock) -> Iterator[Round]:
    with serving("bench.echo", "server") as echo, serving("bench.floor", "server") as raw:
        brief = ("--seconds", "1")
        yield taking_turns(
            partial(_echoed, echo, "stream", *brief), partial(_rate, "bench.floor", raw, *brief)
        )


@contextmanager
def accounting(_: Stock) -> Iterator[Round]:
    with (
        tempfile.TemporaryDirectory() as folder,
        serving("bench.echo", "server", "--ledger", f"{folder}/ledger.parquet") as counted,
        serving("bench.echo", "server") as bare,
    ):
        yield partial(_accounted, ("--address", counted.address, "--bare", bare.address))


@contextmanager
def metrics(_: Stock) -> Iterator[Round]:
    with (
        serving("bench.echo", "server", "--metrics") as counted,
        serving("bench.echo", "server") as bare,
    ):
        both = ("--address", counted.address, "--bare", bare.address)
        yield partial(_accounted, (*both, "--no-ledger"))


@contextmanager
def batcher(stock: Stock) -> Iterator[Round]:
    with stock.cloud() as batched, stock.cloud("largest_batch=1") as one:
        yield taking_turns(partial(_refreshed, stock, batched), partial(_refreshed, stock, one))


@contextmanager
def ranking(stock: Stock) -> Iterator[Round]:
    ranks = stock.ranking
    with ranks.cloud() as batched, ranks.cloud("largest_batch=1") as one:
        yield taking_turns(partial(_refreshed, ranks, batched), partial(_refreshed, ranks, one))


@contextmanager
def download(stock: Stock) -> Iterator[Round]:
    size = ("--bytes", str(LARGE_BYTES))
    large = ("--bundle", stock.large)
    with stock.cloud() as cloud, serving("bench.download", "server", *size) as bare:
        yield taking_turns(
            partial(_rate, "bench.download", cloud, "--server", str(cloud.pid), *large),
            # The clock of a process has ticks of 10 ms, and a bare download takes about that.
            partial(
                _rate, "bench.download", bare, "--server", str(bare.pid), *size, "--times", "100"
            ),
        )


@contextmanager
def overload(stock: Stock) -> Iterator[Round]:
    # With shared batches a refresh on two cores costs hardly more than being turned away, which
    # is a message too, and no shedding can save what the messages cost.
    with stock.cloud("largest_batch=1") as cloud:

        def play(number: int) -> Pair:
            before = _refreshed(stock, cloud)
            offered = ("--rate", str(OVERLOAD * before), "--devices", str(CROWD))
            good = _refreshed(stock, cloud, *offered, "--seed", str(number))
            return good, (before + _refreshed(stock, cloud)) / 2

        yield play


@contextmanager
def fallback(stock: Stock) -> Iterator[Round]:
    ranks = stock.ranking
    with ranks.cloud("largest_batch=1", "patience_s=0.2") as cloud:
        bundle = ranks.trained.bundles / ranks.trained.bundle.id
        where = ("--address", cloud.address, "--bundle", str(bundle))

        def play(number: int) -> Pair:
            rate = OVERLOAD * told("bench.fallback", *where)["rate"]
            found = told("bench.fallback", *where, "--rate", str(rate), "--seed", str(number))
            own = 1 - found["cloud"] / found["asked"]
            print(
                f"  fallback: {found['asked']} recommendations, {own:.0%} by the device itself, "
                f"the slowest in {found['slowest']:.3f} s",
                flush=True,
            )
            return found["good"], found["asked"]

        yield play


Measure = Callable[[Stock], AbstractContextManager[Round]]
MEASURES: Mapping[Ratio, Measure] = {
    Ratio("unary", "stream / unary, asks a second", 2.5): unary,
    Ratio("floor", "stream / raw TCP, asks a second", 0.15, rounds=9): floor,
    Ratio("accounting", "accounting on / off, asks a second", 0.95, rounds=5): accounting,
    Ratio("metrics", "metrics on / off, asks a second", 0.95, rounds=5): metrics,
    Ratio("batcher", "batches up to 64 / of 1, refreshes a second", 3.0): batcher,
    Ratio("ranking", "rankings in batches up to 64 / of 1, a second", 3.0): ranking,
    Ratio("download", "download / bare socket, bytes a CPU-second", 0.18, rounds=5): download,
    Ratio("overload", "goodput at twice the load / capacity", 0.8, rounds=5): overload,
    Ratio("fallback", "in time at twice the load / all recommendations", 1.0): fallback,
}


def _loop_package() -> str:
    loop = new_event_loop()
    loop.close()
    return type(loop).__module__.partition(".")[0]


def _rate(client: str, server: Server, *options: str) -> float:
    return float(told(client, "client", "--address", server.address, *options)["rate"])


def _echoed(server: Server, kind: str, *options: str) -> float:
    return _rate("bench.echo", server, "--kind", kind, *options)


def _accounted(options: Sequence[str], number: int) -> Pair:
    rates = told("bench.accounting", *options, "--seed", str(number))
    return rates["counted"], rates["bare"]


def _refreshed(stock: Stock, cloud: Server, *options: str) -> float:
    """Refreshes a second that are answered in time; without options, as many as can be."""
    bundle = stock.trained.bundles / stock.trained.bundle.id
    where = ("--address", cloud.address, "--bundle", str(bundle))
    return float(told("bench.overload", *where, *options)["rate"])


def chosen(arguments: Sequence[str]) -> dict[Ratio, Measure]:
    """What the command line asks for; everything where it names nothing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    names = [ratio.name for ratio in MEASURES]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    only = parser.parse_args(arguments).only
    return {ratio: measure for ratio, measure in MEASURES.items() if ratio.name in only}


def main() -> int:
    measures = chosen(sys.argv[1:])
    end_like_ctrl_c()
    schedule_as_batch()
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, grpcio {version('grpcio')}, "
        f"event loops of {_loop_package()}"
    )
    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        stock = Stock(Path(folder))
        for ratio, measure in measures.items():
            with measure(stock) as play:
                verdicts.append(judged(ratio, play))
            print(verdicts[-1], flush=True)
    print(f"\n{table(verdicts)}")
    return 0 if all(verdict.holds for verdict in verdicts) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
