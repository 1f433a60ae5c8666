"""The machine on which a simulator somewhere else has clouds train and serve.

Commands are those of `concerto-cloud`, each a process of its own. None outlives the stream that
asked for it, so a simulator that dies leaves nothing behind.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from grpc import aio
from grpc_health.v1 import health, health_pb2_grpc
from typing_extensions import override

from cloud_server.statuses import as_status
from protos.v1 import cloud_host_pb2
from protos.v1.cloud_host_pb2 import Attendance, Command, Happening
from protos.v1.cloud_host_pb2_grpc import CloudHostServicer, add_CloudHostServicer_to_server
from shared_models.contract.errors import BadAsk
from shared_models.contract.processes import resident_bytes
from shared_models.contract.security import Role, bind, secured
from shared_models.identity.door import EVERY_ROLE, Access, open_door

VERBS: Final = ("resolve", "train", "export", "evaluate", "infer", "bpr", "serve", "retrain")
"""What a simulator may ask for."""
_ONE_THREAD: Final = {
    # More processes than cores would only get in each other's way.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    "GRPC_VERBOSITY": "NONE",
}
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),
    # A simulator says nothing while a training lasts, but pings.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)
_ACCESS: Final[Access] = {
    cloud_host_pb2.DESCRIPTOR.services_by_name["CloudHost"].full_name: (Role.SIMULATOR,),
    health.SERVICE_NAME: EVERY_ROLE,
}
_PIECE_BYTES: Final = 1 << 16
_LOOK_S: Final = 1.0
_GRACE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class HostSettings:
    """Where a host listens, and who it and its clouds are.

    Attributes:
        listen: HOST:PORT.
        identity: folder of the cloud's identity; None: in clear.
        plaintext: in clear also off loopback.
    """

    listen: str
    identity: Path | None = None
    plaintext: bool = False

    @property
    def environment(self) -> Mapping[str, str]:
        """What tells commands who they are."""
        if self.identity:
            return {"CONCERTO_CLOUD_IDENTITY": str(self.identity)}
        return {"CONCERTO_CLOUD_PLAINTEXT": "1"} if self.plaintext else {}


async def run_host(settings: HostSettings, *, once: bool, ready: Callable[[str], None]) -> None:
    """Run commands for simulators until SIGTERM or, with ``once``, until the first one has gone.

    Args:
        settings: where, and as whom.
        once: end with the first simulator that attends.
        ready: told ``host:port`` once simulators can dial.

    Raises:
        InputError: the port is taken, or the identity is of no use or missing.
    """
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    servicer = Host(over if once else asyncio.Event(), settings.environment)
    async with _listening(servicer, settings) as address:
        ready(address)
        await over.wait()


@asynccontextmanager
async def _listening(servicer: "Host", settings: HostSettings) -> AsyncIterator[str]:
    listen = settings.listen
    identity = secured("listen", listen, settings.identity, plaintext=settings.plaintext)
    door = open_door(identity, _ACCESS) if identity else None
    server = aio.server(options=_OPTIONS, interceptors=[door] if door else [])
    add_CloudHostServicer_to_server(servicer, server)
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    address = bind(server, listen, identity)
    await server.start()
    watching = asyncio.create_task(door.watch()) if door else None
    try:
        yield address
    finally:
        if watching:
            watching.cancel()
        # Every command is told to end, and has this long to close what it has open.
        await server.stop(grace=0)
        await servicer.settled()


class Host(CloudHostServicer):
    """Runs commands of `concerto-cloud`.

    Args:
        left: set when a simulator that attended has gone.
        environment: of its commands, beside its own.
    """

    def __init__(self, left: asyncio.Event, environment: Mapping[str, str]) -> None:
        self._left, self._environment = left, environment
        self._ending: set[asyncio.Task[None]] = set()

    @override
    async def Attend(
        self, request_iterator: AsyncIterator[Attendance], context: object
    ) -> AsyncIterator[Attendance]:
        """Last as long as a simulator does."""
        try:
            yield Attendance()
            async for _ in request_iterator:
                pass
        finally:
            self._left.set()

    @override
    async def Run(
        self,
        request_iterator: AsyncIterator[Command],
        context: aio.ServicerContext[Command, Happening],
    ) -> AsyncIterator[Happening]:
        """Run one command, tell what becomes of it, and end it with the stream."""
        async with as_status(context):
            arguments = _checked((await anext(aiter(request_iterator))).start.arguments)
        process = await _started(arguments, self._environment)
        words: asyncio.Queue[Happening | None] = asyncio.Queue()
        works = (_obey(request_iterator, process), _tell(process, words), _weigh(process, words))
        tasks = [asyncio.create_task(work) for work in works]
        try:
            while (word := await words.get()) is not None:
                yield word
        finally:
            for task in tasks:
                task.cancel()
            self._see_off(process)

    async def settled(self) -> None:
        """Wait until no command runs any more."""
        await asyncio.gather(*self._ending)

    def _see_off(self, process: Process) -> None:
        task = asyncio.create_task(_end(process))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _checked(arguments: Sequence[str]) -> Sequence[str]:
    if not arguments or arguments[0] not in VERBS:
        raise BadAsk(f"a cloud host runs {', '.join(VERBS)}, not {' '.join(arguments[:1])!r}")
    return arguments


async def _started(arguments: Sequence[str], environment: Mapping[str, str]) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cloud_server.cli", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **_ONE_THREAD, **environment},
        # Ctrl-C is for the host, which then ends its commands in order.
        start_new_session=True,
    )


async def _obey(commands: AsyncIterator[Command], process: Process) -> None:
    """Carry out what the simulator says after the start."""
    async for command in commands:
        if command.HasField("stop"):
            _signal(process, signal.SIGKILL if command.stop.at_once else signal.SIGTERM)


async def _tell(process: Process, words: "asyncio.Queue[Happening | None]") -> None:
    """Put down what the process is, writes, and how it ends."""
    words.put_nowait(Happening(started=process.pid))
    written = cast("asyncio.StreamReader", process.stdout)
    while piece := await written.read(_PIECE_BYTES):
        words.put_nowait(Happening(written=piece))
    words.put_nowait(Happening(ended=await process.wait()))
    words.put_nowait(None)


async def _weigh(process: Process, words: "asyncio.Queue[Happening | None]") -> None:
    """Put down the memory of the process every so often."""
    with suppress(OSError):  # it is over
        while True:
            words.put_nowait(Happening(resident_bytes=resident_bytes(process.pid)))
            await asyncio.sleep(_LOOK_S)


async def _end(process: Process) -> None:
    """End a process that may be over already; one that does not end in time is killed."""
    _signal(process, signal.SIGTERM)
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), _GRACE_S)
    _signal(process, signal.SIGKILL)
    await process.wait()


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)
