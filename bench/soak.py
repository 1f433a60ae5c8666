"""A cloud over a million asks: its memory and its open files must not grow.

    python -m bench.soak                  about a quarter of an hour
    python -m bench.soak --asks 50000

Users come and go: each session asks for parameters and uploads what it saw, and hangs up after a
few hundred asks. The first tenth warms up; then memory and descriptors are read after each
twentieth. The exit code is 1 where memory grew by more than 5 %, or descriptors at all.
"""

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from grpc import aio

from bench.processes import Server
from bench.stock import Stock
from protos.v1.collaboration_pb2 import Answer, Ask, Hello, Refresh, Upload
from protos.v1.collaboration_pb2_grpc import CollaborationStub
from shared_models.contract.processes import resident_bytes

if TYPE_CHECKING:
    from protos.v1.collaboration_pb2_grpc import CollaborationAsyncStub

SESSIONS = 64
"""That are open at a time."""
ASKS = 400
"""Of one session."""
USERS = 2000
LOOKS = 20
GROWTH = 0.05
WARM_UP = 0.1


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--asks", type=int, default=1_000_000)
    asks = asked.parse_args().asks
    with tempfile.TemporaryDirectory() as folder:
        stock = Stock(Path(folder), uploads=True)
        with stock.cloud() as cloud:
            print(f"{asks:,} asks, {SESSIONS} sessions at a time", flush=True)
            sys.exit(not asyncio.run(soak(cloud, stock.trained.bundle.id, asks)))


async def soak(cloud: Server, bundle_id: str, asks: int) -> bool:
    """Ask so often; whether the cloud is as large as it was after the warm-up."""
    async with aio.insecure_channel(cloud.address) as channel:
        world = World(CollaborationStub(channel), bundle_id)
        await world.live(int(asks * WARM_UP))
        before = size(cloud)
        print(f"{'asks':>10} {'MiB':>8} {'files':>6}", flush=True)
        shown(world, before)
        after = before
        for _ in range(LOOKS):
            await world.live(int(asks * (1 - WARM_UP) / LOOKS))
            after = size(cloud)
            shown(world, after)
    grown = after[0] / before[0] - 1
    print(f"memory {grown:+.1%} (at most {GROWTH:.0%}), files {after[1] - before[1]:+d}")
    print(f"answers: {dict(world.answers)}")
    return grown <= GROWTH and after[1] <= before[1]


class World:
    """Users who come and go.

    Args:
        stub: of the cloud.
        bundle_id: that their devices run.

    Attributes:
        answers: so far, by what they hold, or by the code of their fault.
    """

    def __init__(self, stub: "CollaborationAsyncStub", bundle_id: str) -> None:
        self._stub, self._bundle_id = stub, bundle_id
        self._stored: Counter[int] = Counter()
        self._users = count()
        self.answers: Counter[str] = Counter()

    async def live(self, asks: int) -> None:
        """Let sessions come and go until so many asks were answered."""
        until = self.answers.total() + asks

        async def place() -> None:
            while self.answers.total() < until:
                await self._session(next(self._users) % USERS)

        await asyncio.gather(*(place() for _ in range(SESSIONS)))

    async def _session(self, user: int) -> None:
        said = self._asks(user)
        async for answer in self._stub.Session(said):
            self._take(user, answer)

    async def _asks(self, user: int) -> AsyncIterator[Ask]:
        numbers: Iterator[int] = count(1)
        yield Ask(seq=next(numbers), hello=Hello(user=user, bundle_id=self._bundle_id, waits=True))
        for turn in range(ASKS - 1):
            items = [1 + (user + turn + place) % 50 for place in range(10)]
            if turn % 4:
                yield Ask(seq=next(numbers), refresh=Refresh(items=items, events_seen=turn))
            else:
                upload = Upload(first=self._stored[user], items=items[:1], times=[float(turn)])
                yield Ask(seq=next(numbers), upload=upload)

    def _take(self, user: int, answer: Answer) -> None:
        kind = answer.fault.code or answer.WhichOneof("body") or "nothing"
        self.answers[kind] += 1
        if kind == "stored":
            self._stored[user] = answer.stored.events_stored


def size(cloud: Server) -> tuple[int, int]:
    """Resident bytes and open descriptors of a cloud."""
    return resident_bytes(cloud.pid), len(list(Path(f"/proc/{cloud.pid}/fd").iterdir()))


def shown(world: World, now: tuple[int, int]) -> None:
    """Print a look."""
    memory, files = now
    print(f"{world.answers.total():>10,} {memory / 2**20:>8.1f} {files:>6}", flush=True)


if __name__ == "__main__":
    main()
