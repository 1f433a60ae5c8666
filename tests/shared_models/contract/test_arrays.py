"""Named arrays as bytes: the same on every machine, and never larger than they are."""

import hashlib
import io

import numpy as np
import pytest

from shared_models.contract.arrays import arrays_from_bytes, arrays_to_bytes
from shared_models.contract.errors import BundleCorrupt


def test_bytes_depend_on_the_arrays_alone_and_not_on_the_version_of_python() -> None:
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.zeros((), np.int64)}

    data = arrays_to_bytes(arrays)

    # Python 3.11.2 and 3.11.7, whose own archives differ, come to the same.
    expected = "dc4512a8772bcb5a282a5bd19c00976c84ce5106c21382c305de067e6b8bad3e"
    assert hashlib.sha256(data).hexdigest() == expected
    read = arrays_from_bytes(data)
    assert set(read) == {"a", "b"}
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_a_header_that_promises_more_than_there_is_gets_no_memory() -> None:
    data = arrays_to_bytes({"a": np.zeros((2, 3), np.float32)})
    lying = data.replace(b"(2, 3)", b"(9**9)"[:6])
    huge = data.replace(b"(2, 3), }", b"(2, 9999999999), }"[:9])

    for damaged in (lying, huge):
        with pytest.raises(BundleCorrupt, match="not a file of arrays"):
            arrays_from_bytes(damaged)


def test_an_archive_that_is_compressed_is_refused() -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.zeros(1_000_000))

    with pytest.raises(BundleCorrupt, match="compressed"):
        arrays_from_bytes(buffer.getvalue())


@pytest.mark.parametrize("data", [b"", b"PK", b"\x93NUMPY"])
def test_bytes_that_are_no_archive_are_refused(data: bytes) -> None:
    with pytest.raises(BundleCorrupt, match="not a file of arrays"):
        arrays_from_bytes(data)
