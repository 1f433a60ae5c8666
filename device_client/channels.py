"""The connections of a device process: one for all of its sessions, or one for each."""

import asyncio
from collections.abc import Sequence
from typing import Final

from grpc import aio

from shared_models.contract.security import ProcessIdentity, dial

_MESSAGE_BYTES: Final = 4 << 20
OPTIONS: Final[Sequence[tuple[str, int]]] = (
    # The default back-off lets a device wait seconds for a cloud that has long been back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Not a pause, whatever its name says: how long an attempt to connect may take. At 100 ms
    # nobody gets through over 4G, where the first round trips alone take longer.
    ("grpc.min_reconnect_backoff_ms", 10_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    # Without it, processes in one (a simulator's tests) would share a connection and its fate.
    ("grpc.use_local_subchannel_pool", 1),
)


class Channels:
    """Channels to one cloud.

    Args:
        address: the cloud's.
        identity: of this process; None in clear.
        own: whether each user's session gets a channel, and so a connection, of its own.

    Attributes:
        shared: what belongs to no user goes over it; all else too where ``own`` is false.
    """

    def __init__(self, address: str, identity: ProcessIdentity | None = None, *, own: bool) -> None:
        self._address, self._identity, self._own = address, identity, own
        self._leaving: set[asyncio.Task[None]] = set()
        self.shared = dial(address, identity, OPTIONS)

    def take(self, user: int) -> aio.Channel:
        """The channel for a session of ``user``; give it back when that ends."""
        if not self._own:
            return self.shared
        # Channels of equal options to one address may share a connection: none are equal here.
        options = [*OPTIONS, ("concerto.user", str(user))]
        return dial(self._address, self._identity, options)

    def give_back(self, channel: aio.Channel) -> None:
        """Close a channel that was taken, unless others use it."""
        if channel is self.shared:
            return
        task = asyncio.create_task(channel.close())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Close the shared channel, and see those off that were given back."""
        await asyncio.gather(*self._leaving, self.shared.close())
