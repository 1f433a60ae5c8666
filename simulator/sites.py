"""Where the processes of a run are: here, or on other machines that dial in or are dialled."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from shared_models.contract.security import Role, secured
from simulator.commands import Elsewhere
from simulator.coordinator import LOOPBACK
from simulator.identity import IN_CLEAR, Identities, read_identities
from simulator.remote import CloudHost

CLOUD: Final = "cloud_server.cli"
"""The module whose commands train and serve."""


@dataclass(frozen=True, slots=True)
class Sites:
    """Where a run takes place.

    Attributes:
        elsewhere: modules whose commands run on another machine.
        serve: where clouds listen; port 0 takes a free one.
        listen: where device processes dial in.
        devices_come: device processes are waited for, and not started.
        identities: of the processes that run here.
    """

    elsewhere: Elsewhere = field(default_factory=dict)
    serve: str = LOOPBACK
    listen: str = LOOPBACK
    devices_come: bool = False
    identities: Identities = IN_CLEAR

    @property
    def cloud_identity(self) -> tuple[str, ...]:
        """Options of a cloud that runs here; elsewhere it has an identity of its own."""
        return () if CLOUD in self.elsewhere else self.identities.option(Role.CLOUD)


LOCAL: Final = Sites()
"""All of them on this machine."""


@dataclass(frozen=True, slots=True)
class Places:
    """What a user said of where a run takes place, and how its processes know each other.

    Attributes:
        cloud_host: HOST:PORT of a `concerto-cloud host`; None: clouds run here.
        serve: HOST:PORT where such a host's clouds are to listen.
        listen: HOST:PORT where device processes dial in; None: they are started here.
        tls: folder of identities; None: in clear.
        plaintext: in clear also off loopback.
    """

    cloud_host: str | None = None
    serve: str = LOOPBACK
    listen: str | None = None
    tls: Path | None = None
    plaintext: bool = False

    def identities(self) -> Identities:
        """The identities of the processes that run here.

        Raises:
            InputError: one is missing or of no use, or it would go beyond this machine in clear
                and nobody said so.
        """
        started = {Role.CLOUD: self.cloud_host is None, Role.DEVICE: self.listen is None}
        found = read_identities(self.tls, [role for role, here in started.items() if here])
        for name, address in (("cloud-host", self.cloud_host), ("listen", self.listen)):
            folder = found.own.folder if found.own else None
            secured(name, address or LOOPBACK, folder, plaintext=self.plaintext)
        return replace(found, plaintext=self.plaintext)


@contextmanager
def open_sites(places: Places) -> Iterator[Sites]:
    """The sites that a user named, as long as the context lasts.

    Raises:
        CloudUnavailable: nobody hosts a cloud there.
        InputError: the identities are of no use, or missing where they are needed.
    """
    listen, come = places.listen or LOOPBACK, places.listen is not None
    identities = places.identities()
    if places.cloud_host is None:
        yield Sites(listen=listen, devices_come=come, identities=identities)
        return
    with CloudHost(places.cloud_host, identities.own) as host:
        yield Sites({CLOUD: host.start}, places.serve, listen, come, identities)
