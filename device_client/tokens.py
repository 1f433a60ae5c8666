"""What proves to the cloud whose a session is: a token, got when the session opens.

In a simulation the simulator gives it; in production it is in a file, where the app puts what the
user's account gave it. In clear there is none, and the cloud believes every hello.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grpc import StatusCode, aio

from protos.v1.simulation_pb2 import AuthorizeRequest, Tokens
from shared_models.contract.errors import CloudUnavailable, PathMissing, TokenRefused

TokenSource = Callable[[int], Awaitable[str]]
"""A user's token; may raise `TokenRefused` or `CloudUnavailable`."""
Authorize = Callable[[AuthorizeRequest], Awaitable[Tokens]]
Clock = Callable[[], float]
_SPARE: Final = 0.1
"""Part of a token's life in which it is not used any more: it must still be good on arrival."""


async def no_token(_: int) -> str:
    """None: for a cloud in clear."""
    return ""


def token_file(path: Path) -> TokenSource:
    """Tokens out of a file, which is read anew each time.

    Raises:
        PathMissing: there is no such file now.
    """

    async def token(_: int) -> str:
        return _first_line(path)

    _first_line(path)
    return token


@dataclass(frozen=True, slots=True)
class _Kept:
    token: str
    until: float


class SimulationTokens:
    """Tokens from the simulation, each kept until shortly before it ends.

    Args:
        authorize: the simulation's call.
        clock: seconds, from any beginning.
    """

    def __init__(self, authorize: Authorize, clock: Clock = time.monotonic) -> None:
        self._authorize, self._clock = authorize, clock
        self._kept: dict[int, _Kept] = {}

    async def __call__(self, user: int) -> str:
        """The token of ``user``.

        Raises:
            TokenRefused: the simulation gives none for this user.
            CloudUnavailable: it does not answer.
        """
        kept = self._kept.get(user)
        if kept is None or self._clock() >= kept.until:
            kept = self._kept[user] = await self._asked(user)
        return kept.token

    async def _asked(self, user: int) -> _Kept:
        now = self._clock()
        try:
            given = await self._authorize(AuthorizeRequest(users=[user]))
        except aio.AioRpcError as error:
            words = f"no token for user {user}: {error.details()}"
            refused = error.code() is StatusCode.PERMISSION_DENIED
            raise (TokenRefused(words) if refused else CloudUnavailable(words)) from error
        if len(given.tokens) != 1:
            raise TokenRefused(f"{len(given.tokens)} tokens came for user {user}, not one")
        return _Kept(given.tokens[0], now + given.lifetime_s * (1 - _SPARE))


def _first_line(path: Path) -> str:
    if not path.is_file():
        raise PathMissing(path, "file with a token: `concerto certs token` prints one")
    return path.read_text().strip()
