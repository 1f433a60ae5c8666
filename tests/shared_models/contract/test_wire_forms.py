"""Tensors, overlays, windows and settings: what crosses a boundary comes out as it went in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import BaseModel, ConfigDict

from shared_models.contract.errors import BadAsk, BadSetting, SlotMismatch, UnknownName
from shared_models.contract.features import FeatureSpec, encode_windows
from shared_models.contract.overlay import Overlay, overlay_from_proto, overlay_to_proto
from shared_models.contract.settings import parse_settings, validated
from shared_models.contract.tensors import Codec, TensorSpec, tensor_from_proto, tensor_to_proto

FLOATS = arrays.arrays(
    np.float32,
    arrays.array_shapes(max_dims=3, max_side=6),
    elements=st.floats(-100, 100, width=32),
)
RELATIVE_ERROR = {Codec.F32: 0.0, Codec.F16: 1e-3, Codec.I8ROW: 4.1e-3}
BYTES = {Codec.F32: 4.0, Codec.F16: 2.0, Codec.I8ROW: 1.2}


@pytest.mark.parametrize("codec", list(Codec))
@given(array=FLOATS)
def test_a_tensor_survives_every_codec_within_its_error(codec: Codec, array: np.ndarray) -> None:
    again = tensor_from_proto(tensor_to_proto("x", array, codec))

    scale = np.abs(array).max(axis=-1, keepdims=True)
    assert again.dtype == np.float32
    assert again.shape == array.shape
    assert (np.abs(again - array) <= RELATIVE_ERROR[codec] * scale + 1e-7).all()


@pytest.mark.parametrize("codec", list(Codec))
def test_a_codec_costs_the_bytes_that_it_says(codec: Codec) -> None:
    array = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)

    size = len(tensor_to_proto("head.0.weight", array, codec).data)

    assert size <= BYTES[codec] * array.size


def test_bytes_that_do_not_fill_their_shape_are_a_bad_ask() -> None:
    tensor = tensor_to_proto("x", np.ones((2, 2), np.float32), Codec.F32)
    tensor.data = tensor.data[:-1]

    with pytest.raises(BadAsk, match="do not fill"):
        tensor_from_proto(tensor)


def test_a_scale_that_is_too_large_gives_infinities_and_no_warning() -> None:
    tensor = tensor_to_proto("x", np.array([[1, 100]], np.float32), Codec.I8ROW)
    tensor.data = np.float32(3e38).tobytes() + tensor.data[4:]

    assert np.isinf(tensor_from_proto(tensor)[0, 1])


def test_an_unknown_codec_is_a_bad_ask() -> None:
    tensor = tensor_to_proto("x", np.ones(2, np.float32), Codec.F32)
    tensor.codec = 77  # type: ignore[assignment]

    with pytest.raises(BadAsk, match="codec"):
        tensor_from_proto(tensor)


def test_an_overlay_survives_the_wire() -> None:
    overlay = Overlay("id", 7, {"head.0.bias": np.arange(3, dtype=np.float32)})

    again = overlay_from_proto(overlay_to_proto(overlay, Codec.F32), "id", 7)

    assert again.events_seen == 7
    assert again.age(events_now=12) == 5
    np.testing.assert_array_equal(again.slots["head.0.bias"], overlay.slots["head.0.bias"])


@pytest.mark.parametrize(
    "slots",
    [
        {"other": np.zeros(3, np.float32)},
        {"head.0.bias": np.zeros(4, np.float32)},
        {"head.0.bias": np.array([0, np.nan, 0], np.float32)},
        {"head.0.bias": np.array([0, np.inf, 0], np.float32)},
    ],
)
def test_an_overlay_that_does_not_fit_is_refused(slots: dict[str, np.ndarray]) -> None:
    declared = [TensorSpec(name="head.0.bias", shape=(3,))]

    with pytest.raises(SlotMismatch):
        Overlay("id", 0, slots).check(declared)


def test_windows_keep_the_newest_items_and_are_padded_on_the_right() -> None:
    encoded = encode_windows([[1, 2, 3, 4], [5], []], 3)

    assert encoded.tolist() == [[2, 3, 4], [5, 0, 0], [0, 0, 0]]


def test_a_window_of_no_length_holds_nothing() -> None:
    assert encode_windows([[1, 2], []], 0).shape == (2, 0)


def test_an_item_that_the_model_has_no_row_for_is_no_item() -> None:
    assert FeatureSpec(items=3).known(np.array([0, 1, 3, 4, -1])).tolist() == [0, 1, 3, 0, 0]


def test_settings_are_read_by_path_and_type() -> None:
    settings = parse_settings(["duet.max_lag=0", "trunk.name=din", "train.learning_rate=1e-3"])

    assert settings == {
        "duet": {"max_lag": 0},
        "trunk": {"name": "din"},
        "train": {"learning_rate": 0.001},
    }


@pytest.mark.parametrize("pairs", [["duet"], ["=1"], ["a=1", "a.b=2"]])
def test_a_setting_without_path_or_value_is_refused(pairs: list[str]) -> None:
    with pytest.raises(BadSetting):
        parse_settings(pairs)


class Toy(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int = 1


def test_an_unknown_setting_is_told_its_nearest_name() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'toy\.width'"):
        validated(Toy, "toy", {"widht": 3})


def test_a_wrong_type_is_told_with_its_path_and_value() -> None:
    with pytest.raises(BadSetting, match=r"toy\.width.*'wide'"):
        validated(Toy, "toy", {"width": "wide"})
