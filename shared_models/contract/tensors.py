"""Arrays between processes: names, shapes, and the codecs that write float32 numbers as bytes."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from typing_extensions import override

from protos.v1 import tensor_pb2
from shared_models.contract.errors import BadAsk

Float32Array = NDArray[np.float32]
Int64Array = NDArray[np.int64]
Dim = int | str
"""A size, or the name of a size that may differ from run to run."""


class TensorSpec(BaseModel):
    """Name, element type and shape of a tensor, as data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    dtype: Literal["float32", "int64"] = "float32"
    shape: tuple[Dim, ...]

    @property
    def size(self) -> int:
        """Number of elements; only for shapes without named sizes."""
        return int(np.prod([int(size) for size in self.shape], dtype=np.int64))

    @override
    def __str__(self) -> str:
        """As in ``float32 (32, 32)``."""
        return f"{self.dtype} ({', '.join(map(str, self.shape))})"


class Codec(StrEnum):
    """How float32 numbers travel. The accuracy that a codec costs is measured, not assumed."""

    F32 = "f32"
    F16 = "f16"
    I8ROW = "i8row"


class _Coding(Protocol):
    """Writes an array as bytes and reads it back."""

    def encode(self, array: Float32Array) -> bytes: ...
    def decode(self, data: bytes, shape: tuple[int, ...]) -> Float32Array: ...


class _Plain:
    """IEEE numbers, little endian."""

    def __init__(self, dtype: str) -> None:
        self._dtype = np.dtype(dtype)

    def encode(self, array: Float32Array) -> bytes:
        data: bytes = array.astype(self._dtype).tobytes()
        return data

    def decode(self, data: bytes, shape: tuple[int, ...]) -> Float32Array:
        numbers: Float32Array = np.frombuffer(data, self._dtype).astype(np.float32)
        return numbers.reshape(shape)


class _Int8Rows:
    """Signed bytes with one float32 scale for each row (last axis), the scales first."""

    def encode(self, array: Float32Array) -> bytes:
        rows = array.reshape(-1, array.shape[-1])
        scales = np.abs(rows).max(axis=1, initial=0.0).astype("<f4") / np.float32(127)
        steps = np.where(scales > 0, scales, np.float32(1))[:, None]
        return bytes(scales.tobytes() + np.rint(rows / steps).astype(np.int8).tobytes())

    def decode(self, data: bytes, shape: tuple[int, ...]) -> Float32Array:
        rows = int(np.prod(shape[:-1], dtype=np.int64))
        scales = np.frombuffer(data, "<f4", count=rows)
        steps = np.frombuffer(data, np.int8, offset=4 * rows).reshape(rows, shape[-1])
        # What a scale that is huge or not finite makes of its row is the reader's to refuse.
        with np.errstate(over="ignore", invalid="ignore"):
            numbers: Float32Array = (steps * scales[:, None]).astype(np.float32)
        return numbers.reshape(shape)


_CODINGS: Final[Mapping[Codec, tuple[tensor_pb2.Codec.ValueType, _Coding]]] = {
    Codec.F32: (tensor_pb2.CODEC_F32, _Plain("<f4")),
    Codec.F16: (tensor_pb2.CODEC_F16, _Plain("<f2")),
    Codec.I8ROW: (tensor_pb2.CODEC_I8ROW, _Int8Rows()),
}
_BY_WIRE: Final[Mapping[int, _Coding]] = dict(_CODINGS.values())


def through(codec: Codec, array: Float32Array) -> Float32Array:
    """What is left of ``array`` (float32, one axis or more) on the other side of the wire."""
    _, coding = _CODINGS[codec]
    return coding.decode(coding.encode(array), array.shape)


def tensor_to_proto(name: str, array: Float32Array, codec: Codec) -> tensor_pb2.Tensor:
    """Write ``array`` (float32, any shape) with ``codec``."""
    wire, coding = _CODINGS[codec]
    return tensor_pb2.Tensor(
        name=name, shape=array.shape, codec=wire, data=coding.encode(np.atleast_1d(array))
    )


def tensor_from_proto(tensor: tensor_pb2.Tensor) -> Float32Array:
    """Read a tensor back as float32 of its own shape.

    Raises:
        BadAsk: unknown codec, or the bytes do not fill the shape.
    """
    coding = _BY_WIRE.get(tensor.codec)
    if coding is None:
        raise BadAsk(f"tensor {tensor.name!r} has unknown codec {tensor.codec}")
    try:
        return coding.decode(tensor.data, tuple(tensor.shape))
    except (ValueError, IndexError) as error:
        raise BadAsk(f"tensor {tensor.name!r}: bytes do not fill {tuple(tensor.shape)}") from error
