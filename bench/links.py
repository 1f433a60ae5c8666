"""The shaping proxy against a bare loopback, and the modelled latency against a shaped replay.

(a) Rate and round trip of the proxy, a process of its own, for each profile and some plain links,
beside the same socket without a proxy. Jitter and loss are off here: they are chance, not error.

(b) One scenario twice: without a link, its measured compute and the model; and through the proxy.

    python -m bench.links [--only proxy|replay] [--links wifi 5g 4g 3g] [--moments 600]
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import numpy as np
import polars as pl

from shared_models.contract.metrics import Float64Array
from simulator.links import PROFILES, link
from simulator.modelled import COLUMN, with_modelled

PLAIN = ((1, 1, 200), (10, 10, 100), (50, 50, 40), (100, 100, 10))
"""Mbit/s down, up, and milliseconds of the round trip."""
PING = b"x" * 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=["proxy", "replay"])
    parser.add_argument("--moments", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--links", nargs="+", default=["wifi", "5g", "4g", "3g"])
    options = parser.parse_args()
    if options.only != "replay":
        asyncio.run(_proxy())
    if options.only != "proxy":
        _compare(options)


# (a) The proxy.


async def _proxy() -> None:
    async with _peer() as peer:
        bare = await _round_trip(peer, 200)
        with _shaped(peer, "none") as proxy:
            passed = await _round_trip(proxy, 100)
        print(
            f"round trip bare {bare * 1e3:.2f} ms, "
            f"through a proxy without a link {passed * 1e3:.2f} ms"
        )
        worst_rate = worst_rtt = 0.0
        for name, row in _settings():
            down_mbit, up_mbit, rtt_ms = row
            with _trace(row) as trace, _shaped(peer, trace) as proxy:
                down = await _rate(proxy, "down", _bytes_for(down_mbit)) / (down_mbit * 1e6)
                up = await _rate(proxy, "up", _bytes_for(up_mbit)) / (up_mbit * 1e6)
                # What the link itself needs for the two messages belongs to the expected time.
                wire = len(PING) * 8 * (1 / up_mbit + 1 / down_mbit) / 1e6
                bias = await _round_trip(proxy, 100) - bare - rtt_ms / 1e3 - wire
            worst_rate = max(worst_rate, abs(down - 1), abs(up - 1))
            worst_rtt = max(worst_rtt, abs(bias))
            rates = f"down {down:.2%}, up {up:.2%} of the rate"
            print(f"{name:24} {rates}, round trip {bias * 1e3:+.2f} ms", flush=True)
    print(
        f"worst: rate {worst_rate * 100:.2f} points (target 1), "
        f"round trip {worst_rtt * 1e3:.2f} ms (target 3)"
    )


def _settings() -> Iterator[tuple[str, tuple[float, float, float]]]:
    for name, profile in PROFILES.items():
        (point,) = profile.points
        if name != "none":
            row = (point.down_rate / 1e6, point.up_rate / 1e6, point.rtt_s * 1e3)
            yield name, row
    for down, up, rtt in PLAIN:
        yield f"{down}/{up} Mbit/s {rtt} ms", (down, up, rtt)


def _bytes_for(mbit: float) -> int:
    """Four seconds of a link."""
    return int(mbit * 1e6 / 8 * 4)


@contextmanager
def _trace(row: tuple[float, float, float]) -> Iterator[str]:
    """A trace of one row: a link that stays as it is, without jitter and loss."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "link.csv"
        trace.write_text("seconds,down_mbit,up_mbit,rtt_ms\n0," + ",".join(map(str, row)) + "\n")
        yield str(trace)


@contextmanager
def _shaped(peer: str, link: str) -> Iterator[str]:
    """A proxy process to ``peer``; gives its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "simulator.cli", "shape", "--link", link, "--to", peer],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None  # noqa: S101 - a pipe, as asked for
    try:
        yield process.stdout.readline().strip().removeprefix("listening on ")
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def _peer() -> AsyncIterator[str]:
    """Does what the first line of a connection says: echo, send so many bytes, or take them."""

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        wish, size = (await reader.readline()).split()
        if wish == b"down":
            await _pour(writer, int(size))
        elif wish == b"up":
            rate = await _slope(reader, int(size))
            writer.write(f"{rate}\n".encode())
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.sleep(0.1)  # the last connections hear of their end


async def _round_trip(address: str, times: int) -> float:
    """Median seconds of a small message there and back."""
    reader, writer = await _dial(address)
    writer.write(b"echo 0\n")
    seconds = []
    for _ in range(times + 1):
        start = time.perf_counter()
        writer.write(PING)
        await reader.readexactly(len(PING))
        seconds.append(time.perf_counter() - start)
    writer.close()
    return statistics.median(seconds[1:])  # the first one opened the connection


async def _rate(address: str, way: str, size: int) -> float:
    """Bit/s of ``size`` bytes as they arrive: the slope of bytes over time."""
    reader, writer = await _dial(address)
    writer.write(f"{way} {size}\n".encode())
    if way == "down":
        rate = await _slope(reader, size)
    else:
        await _pour(writer, size)
        rate = float(await reader.readline())
    writer.close()
    return rate


async def _pour(writer: StreamWriter, size: int) -> None:
    """Write at least ``size`` bytes, no faster than they leave."""
    for _ in range(size // 65536 + 1):
        writer.write(bytes(65536))
        await writer.drain()


async def _slope(reader: StreamReader, size: int) -> float:
    """Bit/s of the next ``size`` bytes; a moment that this process misses weighs little."""
    arrived, seconds = [0], [time.perf_counter()]
    while arrived[-1] < size:
        arrived.append(arrived[-1] + len(await reader.read(65536)))
        seconds.append(time.perf_counter())
    slope, _ = np.polyfit(np.array(seconds[1:]) - seconds[0], np.array(arrived[1:]) * 8, 1)
    return float(slope)


async def _dial(address: str) -> tuple[StreamReader, StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


# (b) The model.


def _compare(options: argparse.Namespace) -> None:
    for name in options.links:
        modelled, shaped = [], []
        for _ in range(options.rounds):
            modelled.append(_modelled(name, _replay(options.moments)))
            shaped.append(_replay(options.moments, f"link={name}")["seconds"].to_numpy())
        expected, measured = (np.concatenate(each) * 1e3 for each in (modelled, shaped))
        ours, theirs = (np.quantile(each, [0.5, 0.95]) for each in (expected, measured))
        print(
            f"{name}: modelled p50 {ours[0]:.1f} ms, p95 {ours[1]:.1f}; through the proxy "
            f"{theirs[0]:.1f}, {theirs[1]:.1f}; median {ours[0] / theirs[0] - 1:+.1%} "
            "(target 10 %)",
            flush=True,
        )


def _replay(moments: int, *more: str) -> pl.DataFrame:
    """Rankings on open sessions, of a replay with a refresh before every event.

    One device is in flight, so that nobody waits for the machine. A user's first ranking also
    opens the session, which the model leaves out.
    """
    settings = (
        *("train.epochs=1", "device.in_flight=1", "device.open_sessions=1024"),
        *("device.channel=own", f"replay.moments={moments}"),
    )
    with tempfile.TemporaryDirectory() as out:
        command = ["run", "--method", "duet", "--log", "synthetic", "--devices", "1", "--out", out]
        assignments = [part for each in (*settings, *more) for part in ("--set", each)]
        subprocess.run(
            [sys.executable, "-m", "simulator.cli", *command, *assignments],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        rankings = pl.read_parquet(Path(out) / "rankings-duet-0.parquet").with_row_index("entry")
    return rankings.filter(pl.col("seq") > pl.col("seq").min().over("user"))


def _modelled(name: str, rankings: pl.DataFrame) -> Float64Array:
    """What the model makes of an unshaped replay's own bytes and times."""
    played, entries = link(name), rankings["entry"].cast(pl.Int64).to_numpy()
    return with_modelled(rankings, entries, [played], seed=0)[COLUMN + played.name].to_numpy()


if __name__ == "__main__":
    main()
