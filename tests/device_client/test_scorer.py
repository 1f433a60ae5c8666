"""The scorer, and what must never be activated."""

from typing import Any

import numpy as np
import pytest

from device_client.scorer import Scorer, activate
from device_client.settings import DeviceSettings
from shared_models.contract.bundle import Bundle
from shared_models.contract.errors import BadSetting, BundleRefused
from shared_models.contract.manifest import RefreshRule
from shared_models.contract.overlay import Overlay
from shared_models.contract.tensors import TensorSpec
from tests.device_client.fakes import SLOT, WIDTH, build_bundle, expected_scores, head


def vector_of(bundle: Bundle, **changed: np.ndarray) -> dict[str, np.ndarray]:
    return {**bundle.test_vector, **changed}


def test_a_good_bundle_is_activated(bundle: Bundle, settings: DeviceSettings) -> None:
    scorer = activate(bundle, settings)

    assert (scorer.bundle_id, scorer.provider) == (bundle.id, "CPUExecutionProvider")


@pytest.mark.parametrize("by", [1e-3, np.nan])
def test_a_bundle_whose_test_vector_fails_is_never_activated(
    bundle: Bundle, settings: DeviceSettings, by: float
) -> None:
    wrong = bundle.test_vector["scores"].copy()
    wrong[1, 2] += by
    spoilt = build_bundle(test_vector=vector_of(bundle, scores=wrong))

    with pytest.raises(BundleRefused, match="test vector"):
        activate(spoilt, settings)


def test_a_test_vector_that_leaves_out_an_input_is_refused(
    bundle: Bundle, settings: DeviceSettings
) -> None:
    vector = vector_of(bundle)
    del vector[SLOT]

    with pytest.raises(BundleRefused, match="test vector"):
        activate(build_bundle(test_vector=vector), settings)


def test_junk_instead_of_a_graph_is_refused(settings: DeviceSettings) -> None:
    with pytest.raises(BundleRefused, match="onnxruntime"):
        activate(build_bundle(graph=b"\x00junk" * 50), settings)


def test_a_controller_that_works_is_asked(settings: DeviceSettings) -> None:
    here = settings.model_copy(update={"refresh": RefreshRule(rule="learnt")})

    scorer = activate(build_bundle(controlled=True), here)

    assert scorer.measure("gain", [1, 9], [1, 2]) == 7.0


@pytest.mark.parametrize(
    ("asks", "rule"),
    [
        ({"controller": {"calibration": {"change": (0.5,), "gain": (0.5,)}}}, "learnt"),
        ({"uplink": {"items": 3, "outputs": ("state",)}}, "always"),
    ],
)
@pytest.mark.parametrize("file", ["scorer.onnx", "slots.npz", None])
def test_a_bundle_whose_devices_could_not_ask_is_never_activated(
    bundle: Bundle, settings: DeviceSettings, asks: dict[str, Any], rule: str, file: str | None
) -> None:
    name = "controller" if "controller" in asks else "encoder"
    graph = {name: {"file": file, "inputs": (), "outputs": ()}} if file else {}
    graphs = {**bundle.manifest.model_dump()["graphs"], **graph}
    here = settings.model_copy(update={"refresh": RefreshRule(rule=rule)})

    with pytest.raises(BundleRefused, match="onnxruntime" if file else f"no graph '{name}'"):
        activate(build_bundle(**asks, graphs=graphs), here)


def test_a_graph_with_other_ports_than_its_manifest_is_refused(settings: DeviceSettings) -> None:
    ports = [TensorSpec(name="event_ids", dtype="int64", shape=("batch", "length"))]
    graphs = {
        "scorer": {
            "file": "scorer.onnx",
            "inputs": ports,
            "outputs": [TensorSpec(name="scores", shape=("batch", "choice"))],
        }
    }

    with pytest.raises(BundleRefused, match=r"candidate_ids, head\.weight"):
        activate(build_bundle(graphs=graphs), settings)


def test_a_provider_that_is_not_here_is_a_wrong_setting(
    bundle: Bundle, settings: DeviceSettings
) -> None:
    with pytest.raises(BadSetting, match="NoSuchProvider"):
        activate(bundle, settings.model_copy(update={"providers": ("NoSuchProvider",)}))


def test_an_overlay_replaces_the_slot_for_one_call_only(bundle: Bundle, scorer: Scorer) -> None:
    window = bundle.manifest.features.encode_window([1, 2])
    candidates = np.array([4, 5])
    before = scorer.score(window, candidates)

    replaced = scorer.score(window, candidates, Overlay(bundle.id, 0, {SLOT: head(2.0)}))
    after = scorer.score(window, candidates)

    np.testing.assert_allclose(replaced, expected_scores([1, 2], [4, 5], head(2.0)), atol=1e-5)
    assert before.tobytes() == after.tobytes()
    assert before.dtype == np.float32


def test_an_empty_window_has_finite_scores(bundle: Bundle, scorer: Scorer) -> None:
    scores = scorer.score(bundle.manifest.features.encode_window([]), np.arange(1, WIDTH))

    assert np.isfinite(scores).all()


def test_an_overlay_of_a_wrong_shape_is_an_error_of_ours_even_past_all_checks(
    bundle: Bundle, scorer: Scorer
) -> None:
    overlay = Overlay(bundle.id, 0, {SLOT: np.zeros((WIDTH + 1, WIDTH), np.float32)})

    with pytest.raises(BundleRefused, match="onnxruntime"):
        scorer.score(bundle.manifest.features.encode_window([1]), np.array([1]), overlay)
