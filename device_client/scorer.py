"""Scores candidates with a bundle's graph and one device's overlay."""

from collections.abc import Mapping, Sequence

import numpy as np

from device_client.runtime import Array, Graph
from shared_models.contract.bundle import TOLERANCE, Bundle
from shared_models.contract.errors import BundleRefused
from shared_models.contract.overlay import Overlay
from shared_models.contract.tensors import Float32Array, Int64Array


class Scorer:
    """A bundle's scorer, shared by all virtual devices that run the bundle."""

    def __init__(
        self, bundle: Bundle, providers: Sequence[str] = ("CPUExecutionProvider",)
    ) -> None:
        self.bundle_id, self.manifest = bundle.id, bundle.manifest
        self._graph = Graph(bundle.graph("scorer"), providers)
        self._defaults = bundle.defaults
        self._test_vector = bundle.test_vector

    @property
    def provider(self) -> str:
        """The execution provider in use."""
        return self._graph.provider

    def score(
        self, window: Sequence[int], candidates: Int64Array, overlay: Overlay | None
    ) -> Float32Array:
        """Logits float32 (C,) for candidates int64 (C,), after ``window`` (oldest first)."""
        features = self.manifest.features
        feeds: dict[str, Array] = {
            "event_ids": features.encode_window(window),
            "candidate_ids": features.known(candidates)[None],
            **self._defaults,
        }
        if overlay is not None:
            feeds.update(overlay.slots)
        scores: Float32Array = self._run(feeds)[0]
        return scores

    def verify(self) -> None:
        """Run the bundle's own test vector.

        Raises:
            BundleRefused: the graph is not what the manifest says, or does not give the scores
                that the cloud computed.
        """
        spec = self.manifest.graphs["scorer"]
        wanted = {port.name for port in spec.inputs}
        if set(self._graph.inputs) != wanted:
            raise BundleRefused(f"the graph reads {self._graph.inputs}, the manifest says {wanted}")
        difference = self.test_vector_difference()
        if not difference <= TOLERANCE:
            raise BundleRefused(f"the test vector is off by {difference:.2g}, not {TOLERANCE:.0e}")

    def test_vector_difference(self) -> float:
        """Largest |difference| / max(1, |score|) on the test vector; nan where it is not finite."""
        feeds = dict(self._test_vector)
        expected = feeds.pop("scores")
        off = np.abs(self._run(feeds) - expected) / np.maximum(1, np.abs(expected))
        return float(off.max())

    def _run(self, feeds: Mapping[str, Array]) -> Float32Array:
        scores: Float32Array = self._graph.run(feeds)[0]
        return scores


def activate(bundle: Bundle, providers: Sequence[str]) -> Scorer:
    """Load a bundle, and hand it out only if its test vector comes out.

    Raises:
        BundleRefused: it does not.
    """
    scorer = Scorer(bundle, providers)
    scorer.verify()
    return scorer
