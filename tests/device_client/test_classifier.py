"""The device's classifier of nodes."""

import numpy as np
import pytest

from device_client.classifier import Classifier, activate_classifier
from device_client.scorer import Scorer
from device_client.settings import DeviceSettings
from shared_models.contract.bundle import Bundle, same
from shared_models.contract.errors import BundleCorrupt, BundleIncompatible, BundleRefused
from shared_models.contract.nodes import NodeGraph
from tests.device_client.fakes import build_bundle
from tests.device_client.node_bundles import (
    FEATURES,
    drawn_graph,
    expected_scores,
    node_bundle,
)


@pytest.mark.parametrize(("nodes", "pairs"), [(1, 0), (5, 0), (2, 1), (80, 200)])
def test_every_node_of_a_graph_of_any_size_is_classified(nodes: int, pairs: int) -> None:
    graph = drawn_graph(nodes, pairs, seed=nodes)

    scores = activate_classifier(node_bundle(), DeviceSettings()).classify(graph)

    assert same(scores, expected_scores(graph))


def test_a_bundle_whose_test_vector_does_not_come_out_is_refused() -> None:
    classifier = Classifier(node_bundle(vector_scale=1.01))

    with pytest.raises(BundleRefused, match="does not reproduce its test vector"):
        classifier.verify()


def test_a_bundle_for_another_task_is_refused_by_its_task() -> None:
    with pytest.raises(BundleIncompatible, match="is for ranking"):
        Classifier(build_bundle())
    with pytest.raises(BundleRefused, match="has no graph 'scorer'"):
        Scorer(node_bundle())


def test_a_graph_that_does_not_fit_the_model_is_an_error_of_ours() -> None:
    graph = NodeGraph.whole(np.ones((2, FEATURES + 1), np.float32), np.zeros((2, 0), np.int64))

    with pytest.raises(BundleRefused, match="onnxruntime"):
        Classifier(node_bundle()).classify(graph)


def test_a_manifest_reads_the_inputs_of_its_own_task() -> None:
    bundle = node_bundle()
    about = bundle.manifest.model_dump(mode="json", exclude={"files"})

    with pytest.raises(BundleIncompatible, match="is for node-classification, not ranking"):
        _ = bundle.manifest.features
    with pytest.raises(ValueError, match="reads that task's inputs and no others"):
        Bundle.make({**about, "task": "ranking"}, bundle.files)
    with pytest.raises(BundleCorrupt, match="malformed"):
        Bundle(bundle.manifest_bytes.replace(b'"node-classification"', b'"ranking"'), bundle.files)
