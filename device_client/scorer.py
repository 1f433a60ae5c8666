"""The scorer of a bundle: one for all virtual devices that run it."""

import logging
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np

from device_client.learner import Learner
from device_client.settings import DeviceSettings
from shared_models.contract.arrays import Arrays
from shared_models.contract.bundle import TEST_VECTOR, Bundle, same
from shared_models.contract.errors import BundleRefused
from shared_models.contract.features import PRIOR, PROFILE, encode_windows
from shared_models.contract.overlay import Overlay
from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.runtime import CPU, Graph, load_session

_GRAPH: Final = "scorer"
_CONTROLLER: Final = "controller"
_ENCODER: Final = "encoder"
_SCORES: Final = "scores"
_log = logging.getLogger(__name__)


class Scorer:
    """Scores candidates with a bundle's graph; holds no state of any device.

    Args:
        bundle: what to run.
        providers: execution providers of onnxruntime, the best one first.

    Attributes:
        bundle_id: the bundle's id.
        manifest: what the bundle says of itself.
        provider: the execution provider that is really in use.
        learner: trains its slots, where the manifest says that devices learn.

    Raises:
        BadSetting: a provider that is not here.
        BundleRefused: the graph cannot be loaded.
    """

    def __init__(self, bundle: Bundle, providers: Sequence[str] = CPU) -> None:
        self.bundle_id, self.manifest = bundle.id, bundle.manifest
        self._bundle, self._providers = bundle, providers
        self._graph = self._loaded(_GRAPH)
        self._features = bundle.manifest.features
        self._defaults = bundle.defaults
        self.provider = self._graph.provider
        learning = bundle.manifest.learning
        self.learner = Learner(bundle, learning, providers) if learning else None

    def score(
        self,
        window: Int64Array,
        candidates: Int64Array,
        overlay: Overlay | None = None,
        profile: Sequence[int] = (),
        prior: Float32Array | None = None,
    ) -> Float32Array:
        """Score ``candidates`` for one window.

        Args:
            window: int64 (1, T), as `FeatureSpec.encode_window` makes it.
            candidates: int64 (C,); ids that the model does not know count as no item.
            overlay: slot values over the bundle's defaults.
            profile: value ids of the user's features, where the graph reads them.
            prior: float32 (C,), logits of the cloud, where the graph reads them; None: none.

        Returns:
            float32 (C,), logits.

        Raises:
            BundleRefused: the graph does not run on them.
        """
        events_id, candidates_id = self._features.names
        # Feeding a slot costs nothing next to a new session (15 us against 7 ms), so overlays
        # are applied per call and never baked into the graph.
        feeds: dict[str, np.ndarray[Any, Any]] = {
            **self._defaults,
            **(overlay.slots if overlay else {}),
            events_id: self._features.known(window),
            candidates_id: self._features.known(candidates)[None],
        }
        if self._features.profile is not None:
            feeds[PROFILE] = self._features.encode_profile(profile)
        if self._features.prior:
            known = np.zeros(len(candidates), np.float32) if prior is None else prior
            feeds[PRIOR] = known[None]
        scores: Float32Array = self._graph.run(_SCORES, feeds)[0]
        return scores

    def measure(self, output: str, now: Sequence[int], then: Sequence[int]) -> float:
        """What the bundle's controller says.

        Args:
            output: one of the graph's.
            now: items of the uplink's window, newest last.
            then: the same at the last refresh.

        Raises:
            BundleRefused: the graph does not run on them.
        """
        feeds = {
            name: self._features.known(encode_windows([items], self._uplink_items))
            for name, items in (("event_ids", now), ("refreshed_ids", then))
        }
        return float(self._controller.run(output, feeds)[0])

    def encode(self, items: Sequence[int]) -> dict[str, Float32Array]:
        """What the bundle's encoder makes of the uplink's window, newest item last.

        Raises:
            BundleRefused: the graph does not run on it.
        """
        names = self.manifest.uplink.outputs if self.manifest.uplink else ()
        window = self._features.known(encode_windows([items], self._uplink_items))
        values = self._encoder.run_all(names, {"event_ids": window})
        return {name: value[0] for name, value in zip(names, values, strict=True)}

    @cached_property
    def _encoder(self) -> Graph:
        """Loaded where refreshes send what it makes of a window."""
        return self._loaded(_ENCODER)

    @property
    def _uplink_items(self) -> int:
        uplink = self.manifest.uplink
        return uplink.items if uplink else 0

    @cached_property
    def _controller(self) -> Graph:
        """Loaded where a rule reads it."""
        return self._loaded(_CONTROLLER)

    def _loaded(self, name: str) -> Graph:
        if name not in self.manifest.graphs:
            raise BundleRefused(f"bundle {self.bundle_id[:12]} has no graph {name!r}")
        return load_session(self._bundle.graph(name), self._providers)

    def verify(self) -> None:
        """Compare the graphs with the manifest, and what they compute with the test vectors.

        Raises:
            BundleRefused: they differ.
        """
        spec = self.manifest.graphs[_GRAPH]
        self._graph.check_ports(spec)
        self._check_names("slots", self._defaults, (slot.name for slot in self.manifest.slots))
        self._bundle.check_defaults()
        vector = self._bundle.test_vector if TEST_VECTOR in self._bundle.files else {}
        ports = (*spec.inputs, *spec.outputs)
        self._check_names("test vector", vector, (port.name for port in ports))
        expected = vector[_SCORES]
        feeds = {name: array for name, array in vector.items() if name != _SCORES}
        scores = self._graph.run(_SCORES, feeds)
        if not same(scores, expected):
            raise BundleRefused(
                f"bundle {self.bundle_id[:12]} does not reproduce its test vector on this device"
            )
        if self.learner:
            self.learner.verify()

    def verify_asking(self, measured: Iterable[str]) -> None:
        """Run the graphs that come before a question to the cloud, for a user without a past.

        Args:
            measured: outputs of the controller that devices read.

        Raises:
            BundleRefused: one does not load or run.
        """
        for output in measured:
            self.measure(output, (), ())
        if self.manifest.uplink and self.manifest.uplink.outputs:
            self.encode(())

    def _check_names(self, what: str, arrays: Arrays, wanted: Iterable[str]) -> None:
        if set(arrays) != set(wanted):
            raise BundleRefused(
                f"bundle {self.bundle_id[:12]}: its {what} hold {sorted(arrays)}, "
                f"its manifest names others"
            )


def activate(bundle: Bundle, settings: DeviceSettings) -> Scorer:
    """Load ``bundle`` and prove it before anything ranks with it.

    Raises:
        BadSetting: a provider that is not here, or a controller is wanted that the bundle has not.
        BundleRefused: it does not load, or its test vector does not come out.
    """
    measured = settings.measured(bundle.manifest)
    scorer = Scorer(bundle, settings.providers)
    scorer.verify()
    scorer.verify_asking(measured)
    _log.info("bundle %s is active on %s", bundle.id[:12], scorer.provider)
    return scorer
