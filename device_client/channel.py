"""The connection to a cloud, and what its errors mean."""

import asyncio
from typing import Final

import grpc
from grpc import aio

from protos.v1.collaboration_pb2 import Fault
from shared_models.contract.errors import (
    BadAsk,
    CloudUnavailable,
    ConcertoError,
    Overloaded,
    SlotMismatch,
    UnknownBundle,
)

MESSAGE_BYTES: Final = 4 << 20
CONTROL_MESSAGE_BYTES: Final = 256 << 20
"""A round of a simulation may hold many users' moments; its ends are both ours."""

LOST: Final = (aio.AioRpcError, aio.UsageError, asyncio.InvalidStateError)
"""How grpc.aio says that a stream is gone; which one depends on what was going on."""


def open_channel(address: str, message_bytes: int = MESSAGE_BYTES) -> aio.Channel:
    """A channel of its own (not shared with others to the same address)."""
    return aio.insecure_channel(
        address,
        options=[
            ("grpc.use_local_subchannel_pool", 1),
            # The default backs off for seconds, and is what delays recovery after an outage.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.max_receive_message_length", message_bytes),
            ("grpc.max_send_message_length", message_bytes),
        ],
    )


async def wait_until_ready(channel: aio.Channel, address: str, seconds: float) -> None:
    """Wait for somebody to listen.

    Raises:
        CloudUnavailable: nobody did.
    """
    try:
        async with asyncio.timeout(seconds):
            await channel.channel_ready()
    except TimeoutError as error:
        raise CloudUnavailable(
            f"nothing answers at {address} (waited {seconds:g} s): does it run there?"
        ) from error


def error_of_call(error: BaseException, address: str) -> ConcertoError:
    """A broken call as an error of ours."""
    if isinstance(error, aio.AioRpcError) and error.code() is grpc.StatusCode.NOT_FOUND:
        return UnknownBundle(error.details() or "?")
    return CloudUnavailable(f"the cloud at {address} went away")


def error_of_fault(fault: Fault) -> ConcertoError:
    """A refused ask as an error of ours."""
    if fault.code == Overloaded.code:
        return Overloaded(fault.retry_after_ms)
    if fault.code == SlotMismatch.code:
        return SlotMismatch("*", "what the cloud knows", fault.message)
    if fault.code == CloudUnavailable.code:
        return CloudUnavailable(fault.message)
    return BadAsk(f"{fault.code}: {fault.message}")
