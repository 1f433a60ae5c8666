"""The way to what devices learn together: many asks at once, those that wait share one commit."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from cloud_server.batcher import Batcher, Stay
from cloud_server.federation.counters import Counters
from cloud_server.federation.federation import Federation
from cloud_server.federation.journal import ContributionJournal
from cloud_server.groups import Assignment
from cloud_server.settings import ServeSettings
from protos.v1 import collaboration_pb2 as wire
from shared_models.contract.bundle import Bundle
from shared_models.contract.federation import settled_to_proto
from shared_models.contract.manifest import FederationSpec
from shared_models.contract.tensors import Codec, Float32Array

Job = Callable[[], Any]


class Desk:
    """Where the devices of one bundle ask; each call may raise `Overloaded` unless it waits."""

    def __init__(self, federation: Federation, jobs: "Batcher[Job, Any]", codec: Codec) -> None:
        self._federation, self._jobs, self._codec = federation, jobs, codec

    async def stored(self, user: int, *, waits: bool) -> int:
        """Number of contributions of ``user`` that were accepted so far."""
        stored: int = await self._jobs.submit(partial(self._federation.stored, user), waits=waits)
        return stored

    async def values(
        self, user: int, round_: int, have: int | None, *, waits: bool, stay: Stay
    ) -> wire.Overlay:
        """What the user's group shares, where it is not what the device has."""
        job = partial(self._federation.values, user, round_, have, self._codec)
        overlay: wire.Overlay = await self._jobs.submit(job, waits=waits, stay=stay)
        return overlay

    async def take(
        self, user: int, round_: int, message: wire.Contribute, *, waits: bool
    ) -> wire.Contributed:
        """A contribution onto the disk, then the word that it is there; or why it is not."""
        job = partial(self._federation.take, user, round_, message)
        return settled_to_proto(await self._jobs.submit(job, waits=waits))


class Desks:
    """Desks over one journal, which is opened when the first bundle needs it.

    Args:
        settings: where the journal is, and how many asks share a commit or wait.

    Attributes:
        counters: of all of them.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings, self.counters = settings, Counters()
        self._journal: ContributionJournal | None = None
        self._jobs: Batcher[Job, Any] | None = None

    def of(
        self,
        bundle: Bundle,
        spec: FederationSpec,
        groups: Sequence[Mapping[str, Float32Array]],
        assignment: Assignment,
    ) -> Desk:
        """A desk for the devices of ``bundle``; its arguments are `Federation`'s.

        Raises:
            BadSetting: the file that is there is not a journal.
        """
        settings = self._settings
        if self._journal is None:
            self._journal = ContributionJournal(settings.contributions_path)
        if self._jobs is None:
            self._jobs = Batcher(
                partial(_in_one_commit, self._journal),
                largest=settings.largest_batch,
                room=settings.room,
                name="contributions",
            )
        journal, counters = self._journal, self.counters
        federation = Federation(bundle, spec, groups, assignment, journal, counters)
        return Desk(federation, self._jobs, settings.codec)

    @property
    def batchers(self) -> "list[Batcher[Job, Any]]":
        """Where asks wait, once there are desks."""
        return [] if self._jobs is None else [self._jobs]

    async def close(self) -> None:
        """Commit what waits, and let go of the file."""
        if self._jobs is not None:
            await self._jobs.close()
        if self._journal is not None:
            self._journal.close()
        self.counters.tell()


def _in_one_commit(journal: ContributionJournal, jobs: Sequence[Job]) -> list[Any]:
    with journal.commit():
        return [job() for job in jobs]
