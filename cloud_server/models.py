"""The models behind the bundles: what the cloud can do for the devices that run one."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cloud_server.batcher import Batcher
from cloud_server.bundles import Bundles, models_folder
from cloud_server.checkpoints import Trained, load_checkpoint
from cloud_server.federation.desk import Desk, Desks
from cloud_server.groups import EVERYBODY, Assignment, read_assignment
from cloud_server.hardware import choose_device
from cloud_server.personalize import Personalizer
from cloud_server.ranker import CloudRanker
from cloud_server.remembered import Memories, Remembered
from cloud_server.settings import ServeSettings
from protos.v1 import collaboration_pb2
from shared_models.contract.bundle import Bundle
from shared_models.contract.manifest import Manifest, Task
from shared_models.contract.overlay import Overlay, overlay_to_proto
from shared_models.contract.tensors import Float32Array
from shared_models.method import Personalizes, RanksInCloud

Slots = Mapping[str, Float32Array]


@dataclass(frozen=True, slots=True)
class Served:
    """A bundle and what its method offers in the cloud.

    Attributes:
        manifest: of the bundle.
        personalizer: writes slots for single users.
        ranker: ranks for devices.
        groups: what group 1, 2, ... shares in the bundle itself.
        assignment: which user is in which group.
        desk: where devices ask that learn together.
    """

    manifest: Manifest
    personalizer: Personalizer | None = None
    ranker: CloudRanker | None = None
    groups: Sequence[collaboration_pb2.Overlay] = ()
    assignment: Assignment = EVERYBODY
    desk: Desk | None = None

    @property
    def batchers(self) -> list[Batcher[Any, Any]]:
        """Where asks wait for the model."""
        return [worker.batcher for worker in (self.personalizer, self.ranker) if worker is not None]

    async def close(self) -> None:
        """Answer what waits."""
        for batcher in self.batchers:
            await batcher.close()


class _Model(NamedTuple):
    """A trained method, and what is known of its users."""

    trained: Trained
    remembered: Remembered


class Models:
    """Loads the models of bundles as devices name them, and keeps them.

    There are never more than there are bundles in the folder, which is the operator's to bound.
    """

    def __init__(self, bundles: Bundles, settings: ServeSettings) -> None:
        self._bundles, self._settings = bundles, settings
        self._memories = Memories(settings)
        self._desks = Desks(settings)
        self._served: dict[str, Served] = {}
        self._loading = asyncio.Lock()

    async def load_released(self) -> None:
        """Load what devices will ask for first.

        Raises:
            PathMissing: a bundle needs a model, and there is none.
            BundleError: a released bundle is missing or damaged.
        """
        for bundle_id in self._bundles.released.values():
            await self.served(bundle_id)

    async def served(self, bundle_id: str) -> Served:
        """What the cloud can do for devices that run ``bundle_id``.

        Raises:
            UnknownBundle: there is no such bundle.
        """
        if (served := self._served.get(bundle_id)) is not None:
            return served
        async with self._loading:
            if bundle_id not in self._served:
                bundle, model = await asyncio.to_thread(self._load, bundle_id)
                self._served[bundle_id] = self._serve(bundle, model)
        return self._served[bundle_id]

    async def close(self) -> None:
        """Answer what waits, take nothing more."""
        for served in self._served.values():
            await served.close()
        await self._desks.close()
        self._memories.close()

    @property
    def contributions(self) -> Mapping[str, int]:
        """How many contributions came so far, by what became of them."""
        return self._desks.counters.as_mapping()

    @property
    def batchers(self) -> list[Batcher[Any, Any]]:
        """Where asks wait, of all bundles that were asked for."""
        # A scrape reads this beside the event loop, which may load a bundle meanwhile.
        served = list(self._served.values())
        return [*self._desks.batchers, *(each for one in served for each in one.batchers)]

    def _load(self, bundle_id: str) -> tuple[Bundle, "_Model | None"]:
        bundle = self._bundles.read(bundle_id)
        folder = models_folder(self._bundles.root, bundle_id)
        ranks = bundle.manifest.task is Task.RANKING
        if not ranks or (bundle.manifest.uplink is None and not folder.exists()):
            return bundle, None
        trained = load_checkpoint(folder)
        trained.model.to(choose_device(self._settings.device, "cloud.device"))
        return bundle, _Model(trained, self._memories.of(bundle, trained, folder))

    def _serve(self, bundle: Bundle, model: "_Model | None") -> Served:
        """Start what the method offers."""
        manifest, personalizer, ranker = bundle.manifest, None, None
        groups = _groups(bundle, model)
        assignment = read_assignment(manifest, models_folder(self._bundles.root, bundle.id))
        desk = self._desk(bundle, groups, assignment)
        if model is None:
            return Served(manifest, assignment=assignment, desk=desk)
        trained = model.trained
        # A delivery may take everything to the device, which then has nothing to ask for.
        if isinstance(trained.method, Personalizes) and manifest.uplink is not None:
            personalizer = Personalizer(
                trained.method, trained.model, bundle.id, manifest, self._settings, model.remembered
            )
        if isinstance(trained.method, RanksInCloud):
            ranker = CloudRanker(trained.method, trained.model, manifest, self._settings)
        # Encoded once for all devices.
        encoded = [
            overlay_to_proto(Overlay(bundle.id, 0, values), self._settings.codec)
            for values in groups
        ]
        return Served(manifest, personalizer, ranker, encoded, assignment, desk)

    def _desk(self, bundle: Bundle, groups: Sequence[Slots], assignment: Assignment) -> Desk | None:
        spec = bundle.manifest.federation
        return self._desks.of(bundle, spec, groups, assignment) if spec else None


def _groups(bundle: Bundle, model: "_Model | None") -> list[Slots]:
    """What each group shares in the bundle itself."""
    if bundle.manifest.groups is None or model is None:
        return []
    exported = model.trained.method.export(model.trained.model)
    return [
        {name: value.detach().cpu().numpy() for name, value in values.items()}
        for values in exported.groups
    ]
