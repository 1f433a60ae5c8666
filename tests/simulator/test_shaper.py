"""The shaping proxy over real sockets. Time is only asserted where the link forbids haste."""

import asyncio
import json
import signal
import socket
import sys
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from shared_models.contract.errors import BadSetting, PortTaken
from simulator.lane import Lane, Way
from simulator.links import BURST_BYTES, PROFILES, Link, Point
from simulator.shaper import Proxy, shaping

NONE = PROFILES["none"]
ALL = 1 << 20
Handler = Callable[[StreamReader, StreamWriter], Awaitable[None]]


def plain(rate: float = np.inf, rtt_s: float = 0.0, **more: float) -> Link:
    return Link("plain", (Point(0.0, rate, rate, rtt_s),), **more)


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


async def echo(reader: StreamReader, writer: StreamWriter) -> None:
    """Send back what comes, and end when the other side has."""
    while data := await reader.read(ALL):
        writer.write(data)
        await writer.drain()
    writer.close()


async def collect(reader: StreamReader, writer: StreamWriter) -> None:
    """Answer only after the end: with as many bytes, backwards."""
    writer.write((await reader.read(-1))[::-1])
    writer.close()


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[str]:
    listening = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with listening:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def through(link: Link, handler: Handler = echo, seed: int = 0) -> AsyncIterator[Proxy]:
    async with server(handler) as address, shaping(link, address, seed=seed) as proxy:
        yield proxy


async def dial(address: str) -> tuple[StreamReader, StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port))


async def exchange(proxy: Proxy, data: bytes) -> tuple[bytes, float]:
    """Send ``data``, end, and read to the end; gives what came, and the seconds it took."""
    start = time.monotonic()
    reader, writer = await dial(proxy.address)
    writer.write(data)
    writer.write_eof()
    came = await reader.read(-1)
    seconds = time.monotonic() - start
    writer.close()
    return came, seconds


async def settled(proxy: Proxy, connections: int) -> None:
    """Wait until so many connections have ended."""
    while len(proxy.connections) < connections or proxy.open_connections:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "link",
    [
        NONE,
        plain(rate=50e6),
        plain(rate=200e6, rtt_s=0.01, jitter_s=0.02),
        plain(rate=200e6, loss=0.3, stall_s=0.01),
    ],
    ids=["none", "rate", "jitter", "loss"],
)
async def test_bytes_arrive_whole_and_in_order(link: Link) -> None:
    data = noise(300_000)

    async with through(link) as proxy:
        came, _ = await exchange(proxy, data)

    assert came == data


async def test_bytes_do_not_arrive_before_the_link_could_carry_them() -> None:
    async with through(plain(rate=100e3), collect) as proxy:
        came, seconds = await exchange(proxy, noise(10_000))

    # 10 KB at 100 kbit/s take 0.8 s, and the answer begins only then.
    assert len(came) == 10_000
    assert seconds >= 1.6


async def test_a_round_trip_takes_at_least_the_link_s() -> None:
    async with through(plain(rtt_s=0.2)) as proxy:
        reader, writer = await dial(proxy.address)
        writer.write(b"first")  # waits for the connection, which takes a round trip itself
        await reader.readexactly(5)
        start = time.monotonic()
        writer.write(b"again")
        await reader.readexactly(5)
        seconds = time.monotonic() - start
        writer.close()

    assert seconds >= 0.2


async def test_no_piece_waits_until_the_one_before_it_was_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    carry, delays = Proxy._carry, list[int]()

    async def watched(
        proxy: Proxy, up: Lane, down: Lane, reader: StreamReader, writer: StreamWriter
    ) -> None:
        own = writer.get_extra_info("socket")
        delays.append(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        await carry(proxy, up, down, reader, writer)

    monkeypatch.setattr(Proxy, "_carry", watched)
    async with through(NONE) as proxy:
        await exchange(proxy, b"hello")

    assert delays[0] != 0


async def test_a_new_connection_costs_a_round_trip() -> None:
    async with through(plain(rtt_s=0.2)) as proxy:
        _, seconds = await exchange(proxy, b"hello")

    assert seconds >= 0.4


async def test_a_link_that_has_room_for_no_byte_carries_one_after_the_other() -> None:
    async with through(plain(rate=100.0)) as proxy, asyncio.timeout(20):
        reader, writer = await dial(proxy.address)
        for _ in range(2):
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        writer.close()


async def test_a_lost_burst_stalls() -> None:
    async with through(plain(loss=1.0, stall_s=0.3)) as proxy:
        _, seconds = await exchange(proxy, b"hello")

    assert seconds >= 0.6


async def test_addresses_of_ipv6_are_written_as_others_read_them() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")

    async with server(echo) as address, shaping(NONE, address, "[::1]:0") as proxy:
        came, _ = await exchange(proxy, b"hello")

    assert came == b"hello"
    assert proxy.address.startswith("[::1]:")
    assert proxy.connections[0].peer.startswith("[::1]:")


async def test_every_connection_has_a_link_of_its_own() -> None:
    size = 25_000
    async with through(plain(rate=1e6), collect) as proxy:
        start = time.monotonic()
        await asyncio.gather(*(exchange(proxy, noise(size)) for _ in range(10)))
        seconds = time.monotonic() - start

    # One after the other over a single link, they would take ten times 0.4 s.
    assert 0.4 <= seconds < 3.9


async def test_the_end_of_one_way_leaves_the_other_open() -> None:
    async with through(plain(rate=50e6, rtt_s=0.02), collect) as proxy:
        came, _ = await exchange(proxy, b"abc")

    assert came == b"cba"


async def test_every_byte_is_counted_once_each_way() -> None:
    async def greet(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.read(-1)
        writer.write(noise(777))
        writer.close()

    async with through(NONE, greet) as proxy:
        for size in (0, 1, 200_001):
            await exchange(proxy, noise(size))
        await settled(proxy, 3)
        counts = proxy.counts()

    up = [each["up"] for each in counts["connections"]]
    down = [each["down"] for each in counts["connections"]]
    assert up == [{"taken": size, "delivered": size} for size in (0, 1, 200_001)]
    assert down == [{"taken": 777, "delivered": 777}] * 3


async def test_a_receiver_that_does_not_read_stops_the_sender() -> None:
    async def deaf(_reader: StreamReader, writer: StreamWriter) -> None:
        try:
            writer.transport.pause_reading()
            await asyncio.sleep(60)
        finally:
            writer.transport.abort()

    async def send_until_stuck(writer: StreamWriter) -> None:
        for _ in range(4096):
            writer.write(noise(1 << 16))
            async with asyncio.timeout(0.5):
                await writer.drain()

    async with through(NONE, deaf) as proxy:
        _, writer = await dial(proxy.address)
        with pytest.raises(TimeoutError):
            await send_until_stuck(writer)
        (connection,) = proxy.connections
        held = connection.up.held
        writer.transport.abort()

    assert 0 < held <= Lane(NONE, Way.UP, 0.0, np.random.default_rng(0)).bound < 2 << 20


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("way", Way)
def test_the_queue_holds_what_a_link_has_on_its_way(name: str, way: Way) -> None:
    profile = PROFILES[name]
    (point,) = profile.points

    lane = Lane(profile, way, 0.0, np.random.default_rng(0))

    if name != "none":
        assert lane.bound >= way.rate(point) / 8 * (point.rtt_s / 2 + profile.jitter_s / 2)
    assert BURST_BYTES < lane.bound < 8 << 20


async def test_a_connection_that_breaks_on_one_side_breaks_on_the_other() -> None:
    async def rude(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readexactly(1)
        writer.transport.abort()

    async with through(NONE, rude) as proxy:
        reader, writer = await dial(proxy.address)
        writer.write(b"x" * 1000)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        await settled(proxy, 1)


async def test_a_target_that_is_away_ends_the_connection_and_not_the_proxy() -> None:
    async with server(echo) as free:
        pass
    async with shaping(NONE, free) as proxy:
        assert (await exchange(proxy, b""))[0] == b""
        assert len(proxy.connections) == 1


async def test_leaving_the_proxy_hangs_up() -> None:
    async with server(echo) as address:
        async with shaping(plain(rtt_s=0.02), address) as proxy:
            reader, writer = await dial(proxy.address)
            writer.write(b"x")
            await reader.readexactly(1)

        assert await reader.read() == b""
        writer.close()


async def test_the_same_seed_makes_the_same_luck() -> None:
    link = plain(rate=1e6, jitter_s=1.0, loss=0.5, stall_s=1.0)

    def arrivals(seed: int) -> list[float]:
        lane = Lane(link, Way.UP, 0.0, np.random.default_rng(seed))
        return [lane._late(float(second), 0.1) for second in range(20)]

    assert arrivals(3) == arrivals(3) != arrivals(4)


async def test_a_taken_port_and_a_wrong_address_are_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(PortTaken, match=address):
            async with shaping(NONE, address, address):
                pass
    with pytest.raises(BadSetting, match="'to': write HOST:PORT"):
        async with shaping(NONE, "nowhere"):
            pass


async def test_the_process_says_where_it_listens_and_leaves_its_counts(tmp_path: Path) -> None:
    counts = tmp_path / "counts.json"
    async with server(echo) as address:
        command = ["shape", "--link", "none", "--to", address, "--counts", str(counts)]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "simulator.cli", *command, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        said = (await process.stdout.readline()).decode().removeprefix("listening on ").strip()
        reader, writer = await dial(said)
        writer.write(b"x" * 5000)
        await reader.readexactly(5000)
        process.send_signal(signal.SIGTERM)
        code = await process.wait()
        writer.close()

    found = json.loads(counts.read_text())
    (connection,) = found["connections"]
    assert code == 0
    assert connection["up"] == connection["down"] == {"taken": 5000, "delivered": 5000}
    assert [path.name for path in tmp_path.iterdir()] == ["counts.json"]


async def test_the_command_ends_when_nobody_listens_any_more_where_it_looks() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    command = ["shape", "--link", "none", "--to", "127.0.0.1:1", "--while", f"{host}:{port}"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulator.cli", *command, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).startswith(b"listening on ")

    server.close()

    assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_pieces_that_follow_each_other_within_a_round_trip_are_equally_late() -> None:
    loop = asyncio.get_running_loop()
    lane = Lane(plain(rtt_s=0.1, jitter_s=10.0), Way.UP, loop.time(), np.random.default_rng(0))

    for _ in range(5):
        lane._send(b"x")

    arrivals = [lane._pieces.get_nowait()[0] for _ in range(5)]
    assert max(arrivals) - min(arrivals) < 0.5


async def test_nothing_arrives_over_a_link_that_is_cut_and_everything_once_it_is_mended() -> None:
    async with through(NONE) as proxy:
        reader, writer = await dial(proxy.address)
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        proxy.cut()
        writer.write(b"within")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.2)

        proxy.mend()

        assert await reader.readexactly(6) == b"within"
        writer.close()


async def test_whoever_dials_over_a_cut_link_is_served_once_it_is_mended() -> None:
    async with through(NONE) as proxy:
        proxy.cut()
        reader, writer = await dial(proxy.address)
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.2)

        proxy.mend()

        assert await reader.readexactly(5) == b"hello"
        writer.close()


async def test_a_link_that_changes_changes_for_connections_that_are_open() -> None:
    async with through(NONE) as proxy:
        reader, writer = await dial(proxy.address)
        proxy.change(plain(rtt_s=0.4))
        start = time.monotonic()
        writer.write(b"slowly")

        assert await reader.readexactly(6) == b"slowly"

        assert time.monotonic() - start >= 0.4 - 0.01
        writer.close()
