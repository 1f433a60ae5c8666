"""The cloud's process: binds, loads, answers, and stops without losing an ask it has taken."""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

import torch
from grpc import aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cloud_server.bundles import Bundles
from cloud_server.events import EventJournal, Uploads
from cloud_server.failpoints import failpoint
from cloud_server.identity import gate_of
from cloud_server.ledger import Ledger, recording
from cloud_server.limits import Paces
from cloud_server.loop import new_event_loop
from cloud_server.metrics import CloudMetrics, Sources
from cloud_server.models import Models
from cloud_server.servicer import SERVICE, Collaboration
from cloud_server.services import Services
from cloud_server.settings import ServeSettings
from shared_models.contract.connections import connections_at
from shared_models.contract.log_lines import note
from shared_models.contract.security import bind, secured
from shared_models.exposition import exposed

_log = logging.getLogger(__name__)
_SWITCH_S: Final = 0.0005


def run_server(settings: ServeSettings) -> None:
    """Serve until SIGTERM or Ctrl-C; says ``listening on HOST:PORT`` once it does.

    Raises:
        InputError: nothing to serve, or the port is taken.
        KeyboardInterrupt: after Ctrl-C, once all is closed.
    """
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(settings, ready=_announce))


async def serve(settings: ServeSettings, *, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM, or until cancelled (as Ctrl-C does).

    Args:
        settings: how.
        ready: told ``host:port`` once the cloud answers there.
    """
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with listening(settings) as address:
        ready(address)
        await stop.wait()


@asynccontextmanager
async def listening(settings: ServeSettings) -> AsyncIterator[str]:
    """A cloud that answers at the ``host:port`` that this gives, until the context is left.

    Then it takes no more asks, answers those that wait, and closes journal and ledger.

    Raises:
        InputError: nothing to serve, or the port is taken.
    """
    # More threads than one spin against each other on busy cores: 20 times slower, measured.
    torch.set_num_threads(1)
    # A forward pass asks for the interpreter at every layer, and a loop that has asks to turn away
    # keeps it this long each time: at Python's 5 ms an overload starves the work that it sheds for.
    sys.setswitchinterval(_SWITCH_S)
    async with AsyncExitStack() as ending:
        bundles = Bundles(settings.bundles)
        identity = secured(
            "cloud.listen", settings.listen, settings.identity, plaintext=settings.plaintext
        )
        gate = gate_of(identity)
        server = aio.server(options=_options(settings), interceptors=gate.interceptors)
        address = bind(server, settings.listen, identity)
        shown = ending.enter_context(exposed(settings.metrics))
        failpoint("start.before-journal")
        journal = EventJournal(settings.journal_path, settings.history)
        ending.callback(journal.close)
        ending.callback(failpoint, "stop.answered")
        ledger = ending.enter_context(recording(settings.ledger))
        ending.push_async_callback(server.stop, settings.grace_s)
        services = _services(settings, bundles, journal, ledger)
        ending.push_async_callback(services.uploads.close)
        ending.callback(lambda: ledger.contributed(services.models.contributions))
        ending.push_async_callback(services.models.close)
        failpoint("start.before-models")
        await bundles.settle()
        await services.models.load_released()
        sources = Sources(services.counts, bundles, services.models, services.uploads)
        shown.registry.register(CloudMetrics(sources))
        Collaboration(services, bundles, gate).add_to(server)
        ending.push_async_callback(_add_health(server).enter_graceful_shutdown)
        await server.start()
        for watch in (bundles.watch(settings.release_poll_s), gate.watch()):
            ending.push_async_callback(_cancel, asyncio.create_task(watch))
        if settings.ledger:
            ending.push_async_callback(_read_connections, ledger, address)
        failpoint("start.ready")
        released = ",".join(sorted(bundles.released))
        note(_log, "listening", address=address, released=released)
        ending.callback(lambda: note(_log, "stopping", asks=services.counts.asks.total()))
        yield address
        failpoint("stop.begun")


def _options(settings: ServeSettings) -> list[tuple[str, int]]:
    return [
        # Otherwise a second cloud on the same port starts silently and takes half of the devices.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.message_bytes),
        ("grpc.max_send_message_length", settings.message_bytes),
        ("grpc.keepalive_time_ms", int(settings.keepalive_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        # The default cuts off whoever pings an idle connection more often than every 5 minutes.
        ("grpc.http2.min_ping_interval_without_data_ms", int(settings.ping_floor_s * 1000)),
    ]


def _services(
    settings: ServeSettings, bundles: Bundles, journal: EventJournal, ledger: Ledger
) -> Services:
    return Services(
        Models(bundles, settings),
        Uploads(journal, largest=settings.largest_batch, room=settings.room),
        settings.patience_s,
        settings.largest_list,
        Paces(settings.pace, settings.pace_s),
        settings.sessions,
        ledger,
        replays=settings.replays,
    )


def _add_health(server: aio.Server) -> health.aio.HealthServicer:
    """Add the standard services: health, and reflection for tools such as grpcurl."""
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection(
        (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    return servicer


async def _read_connections(ledger: Ledger, address: str) -> None:
    """Ask the kernel what the open connections carried, while they are there."""
    ledger.connected(await connections_at(address))


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _announce(address: str) -> None:
    sys.stdout.write(f"listening on {address}\n")
    sys.stdout.flush()
