"""The classifier of a bundle: one for all virtual devices that run it."""

# Shapes: N nodes, F features, E edges, C classes.

import logging
from collections.abc import Sequence
from typing import Final

from device_client.settings import DeviceSettings
from shared_models.contract.bundle import TEST_VECTOR, Bundle, same
from shared_models.contract.errors import BundleIncompatible, BundleRefused
from shared_models.contract.nodes import NODE_INPUTS, NodeGraph, NodeSpec
from shared_models.contract.tensors import Float32Array
from shared_models.runtime import CPU, load_session

_GRAPH: Final = "classifier"
_SCORES: Final = "scores"
_log = logging.getLogger(__name__)


class Classifier:
    """Classifies nodes with a bundle's graph; holds no state of any device.

    Args:
        bundle: what to run.
        providers: execution providers of onnxruntime, the best one first.

    Attributes:
        bundle_id: the bundle's id.
        manifest: what the bundle says of itself.
        provider: the execution provider that is really in use.
        nodes: what it reads of a node, and says of it.

    Raises:
        BadSetting: a provider that is not here.
        BundleIncompatible: the bundle is for another task.
        BundleRefused: the graph cannot be loaded.
    """

    def __init__(self, bundle: Bundle, providers: Sequence[str] = CPU) -> None:
        if bundle.manifest.nodes is None:
            raise BundleIncompatible(f"bundle {bundle.id[:12]} is for {bundle.manifest.task}")
        if _GRAPH not in bundle.manifest.graphs:
            raise BundleRefused(f"bundle {bundle.id[:12]} has no graph {_GRAPH!r}")
        self._bundle = bundle
        self._graph = load_session(bundle.graph(_GRAPH), providers)
        self.bundle_id, self.manifest = bundle.id, bundle.manifest
        self.provider = self._graph.provider
        self.nodes: NodeSpec = bundle.manifest.nodes

    def classify(self, graph: NodeGraph) -> Float32Array:
        """Logits float32 (N, C) of every node of ``graph``.

        Raises:
            BundleRefused: the graph does not run on it.
        """
        arrays = graph.features_NF, graph.edges_2E, graph.degrees_N
        return self._graph.run(_SCORES, dict(zip(NODE_INPUTS, arrays, strict=True)))

    def verify(self) -> None:
        """Compare the graph with the manifest, and what it computes with the test vector.

        Raises:
            BundleRefused: they differ.
        """
        self._graph.check_ports(self.manifest.graphs[_GRAPH])
        vector = dict(self._bundle.test_vector) if TEST_VECTOR in self._bundle.files else {}
        if set(vector) != {*NODE_INPUTS, _SCORES}:
            raise BundleRefused(f"bundle {self.bundle_id[:12]}: its test vector is another's")
        expected = vector.pop(_SCORES)
        if not same(self._graph.run(_SCORES, vector), expected):
            raise BundleRefused(
                f"bundle {self.bundle_id[:12]} does not reproduce its test vector on this device"
            )


def activate_classifier(bundle: Bundle, settings: DeviceSettings) -> Classifier:
    """Load ``bundle`` and prove it before anything is classified with it.

    Raises:
        BadSetting: a provider that is not here.
        BundleIncompatible: it is for another task.
        BundleRefused: it does not load, or its test vector does not come out.
    """
    classifier = Classifier(bundle, settings.providers)
    classifier.verify()
    _log.info("bundle %s is active on %s", bundle.id[:12], classifier.provider)
    return classifier
