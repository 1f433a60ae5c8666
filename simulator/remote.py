"""Commands of the cloud on another machine, started, watched and ended as if they ran here."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Final, Self, cast

import grpc
from grpc import StatusCode

from protos.v1.cloud_host_pb2 import Attendance, Command, Happening, Start, Stop
from protos.v1.cloud_host_pb2_grpc import CloudHostStub
from shared_models.contract.errors import CertificateRefused, CloudUnavailable, RunFailed
from shared_models.contract.security import ProcessIdentity, dial_blocking

_OPTIONS: Final = (("grpc.keepalive_time_ms", 20_000), ("grpc.keepalive_timeout_ms", 20_000))
_REACHED_S: Final = 30.0
_WENT_AWAY: Final = 1
"""Exit status of a command whose host is gone."""


class CloudHost:
    """A machine where `concerto-cloud host` waits; a context manager.

    Both machines see the same folders by the same names.

    Args:
        address: ``host:port`` of it.
        identity: of the simulator; None in clear.
    """

    def __init__(self, address: str, identity: ProcessIdentity | None = None) -> None:
        self._address = address
        self._channel = dial_blocking(address, identity, _OPTIONS)
        self._stub = CloudHostStub(self._channel)
        self._over = threading.Event()

    def __enter__(self) -> Self:
        """Tell the host that a simulator is there.

        Raises:
            CertificateRefused: the host does not take this process for a simulator.
            CloudUnavailable: nobody answers there.
        """
        try:
            grpc.channel_ready_future(self._channel).result(_REACHED_S)
            # Kept, since a call that nobody refers to any more is cancelled.
            self._attending = self._stub.Attend(self._attendance())
            next(self._attending)
        except (grpc.FutureTimeoutError, grpc.RpcError) as error:
            self._channel.close()
            if isinstance(error, grpc.Call) and error.code() is StatusCode.PERMISSION_DENIED:
                raise CertificateRefused(
                    f"the cloud's host at {self._address} refuses: {error.details()}"
                ) from error
            raise CloudUnavailable(
                f"no `concerto-cloud host` answers at {self._address}"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._channel.close()

    def start(self, arguments: Sequence[str], log: Path) -> "RemoteProcess":
        """Start ``concerto-cloud arguments`` there; what it writes goes to the file ``log`` here.

        Raises:
            RunFailed: the host does not answer, or refuses.
        """
        return RemoteProcess(self._stub, self._address, arguments, log)

    def _attendance(self) -> Iterator[Attendance]:
        self._over.wait()
        yield from ()


class RemoteProcess:
    """A command on a cloud's host, with the verbs of `subprocess.Popen`.

    Attributes:
        pid: its process id there.
        resident_bytes: its memory there, as of a second ago.
        returncode: its exit status, once it is over.
    """

    def __init__(
        self, stub: CloudHostStub, address: str, arguments: Sequence[str], log: Path
    ) -> None:
        self._address = address
        self._orders: SimpleQueue[Command | None] = SimpleQueue()
        self._orders.put(Command(start=Start(arguments=arguments)))
        self._ended = threading.Event()
        self._happenings = stub.Run(iter(self._orders.get, None))
        self.resident_bytes = 0
        self.returncode: int | None = None
        try:
            self.pid = next(self._happenings).started
        except (StopIteration, grpc.RpcError) as error:
            raise RunFailed(
                f"the cloud's host at {address} starts nothing: {_why(error)}"
            ) from error
        threading.Thread(target=self._follow, args=(log.open("wb"),), daemon=True).start()

    def poll(self) -> int | None:
        """Its exit status; None as long as it runs."""
        return self.returncode if self._ended.is_set() else None

    def wait(self) -> int:
        """Wait for its end, and give its exit status."""
        self._ended.wait()
        return cast("int", self.returncode)

    def terminate(self) -> None:
        """Ask it to end."""
        self._orders.put(Command(stop=Stop()))

    def kill(self) -> None:
        """End it at once."""
        self._orders.put(Command(stop=Stop(at_once=True)))

    def _follow(self, log: IO[bytes]) -> None:
        """Take in what becomes of it, until its end or that of the stream."""
        with log:
            with suppress(grpc.RpcError):
                for happening in self._happenings:
                    self._take(happening, log)
            if self.returncode is None:
                log.write(f"\nthe cloud's host at {self._address} went away\n".encode())
                self.returncode = _WENT_AWAY
        self._orders.put(None)
        self._ended.set()

    def _take(self, happening: Happening, log: IO[bytes]) -> None:
        match happening.WhichOneof("body"):
            case "written":
                log.write(happening.written)
                log.flush()
            case "resident_bytes":
                self.resident_bytes = happening.resident_bytes
            case "ended":
                self.returncode = happening.ended


def _why(error: Exception) -> str:
    return error.details() if isinstance(error, grpc.Call) else "it hung up"
