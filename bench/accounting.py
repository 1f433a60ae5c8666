"""What counting costs a session: two echoes, one with accounts at both ends and one with none.

Without ledgers, the one that counts does so in the cloud alone, for Prometheus.

Both are asked by the same process in turns of a fraction of a second, so that whatever else the
machine does meets both alike.

Run as a process of its own: ``python -m bench.accounting ...``.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from grpc import aio
from typing_extensions import override

from bench.echo import SERVICE, ask_of
from device_client.channels import OPTIONS
from device_client.cloud import Identity
from device_client.ledger import DeviceLedger
from device_client.sessions import Line, Session
from shared_models.contract.traffic import REFRESH

DEVICES = 32


class Uncounted(DeviceLedger):
    """A device's ledger that counts nothing."""

    @override
    def sent(self, user: int | None, purpose: str, size: int) -> None: ...

    @override
    def received(self, user: int | None, purpose: str, size: int) -> None: ...


def sessions(channel: aio.Channel, ledger: DeviceLedger) -> list[Session]:
    """Open sessions of devices that share a channel and a ledger."""
    open_stream: Any = channel.stream_stream(f"/{SERVICE}/Stream")
    line = Line("the echo", ledger, None)
    return [Session(Identity(user, "bundle"), open_stream(), line) for user in range(DEVICES)]


async def turn(devices: Sequence[Session], seconds: float) -> float:
    """Exchanges a second while all devices ask again as soon as they are answered."""
    start = time.perf_counter()

    async def ask_until_over(device: Session) -> int:
        seq = 0
        while time.perf_counter() - start < seconds:
            seq += 1
            await device.exchange(ask_of(seq), REFRESH)
        return seq

    counts = await asyncio.gather(*map(ask_until_over, devices))
    return sum(counts) / (time.perf_counter() - start)


async def compare(options: argparse.Namespace) -> dict[str, float]:
    rng = np.random.default_rng(options.seed)
    rates: dict[str, list[float]] = {"counted": [], "bare": []}
    async with (
        aio.insecure_channel(options.address, options=OPTIONS) as counted,
        aio.insecure_channel(options.bare, options=OPTIONS) as bare,
    ):
        devices = {
            "counted": sessions(counted, Uncounted() if options.no_ledger else DeviceLedger()),
            "bare": sessions(bare, Uncounted()),
        }
        for each in devices.values():
            await turn(each, options.turn)  # which warms both up
        for _ in range(options.turns):
            for kind in rng.permutation(list(devices)).tolist():
                rates[kind].append(await turn(devices[kind], options.turn))
    return {kind: statistics.median(each) for kind, each in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True, help="of an echo that counts")
    parser.add_argument("--bare", required=True, help="of one that does not")
    parser.add_argument("--no-ledger", action="store_true", help="of the devices, at neither")
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--turn", type=float, default=0.1, help="seconds")
    parser.add_argument("--seed", type=int, default=0, help="of who goes first")
    print(json.dumps(asyncio.run(compare(parser.parse_args()))))


if __name__ == "__main__":
    main()
