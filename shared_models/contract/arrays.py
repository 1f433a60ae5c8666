"""Named arrays as bytes: the tables of a bundle, and what proves it."""

import io
import zipfile
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy

from shared_models.contract.errors import BundleCorrupt

Arrays = Mapping[str, np.ndarray[Any, Any]]
_UNIX: Final = 3
_NO_ARRAYS: Final = (
    *(zipfile.BadZipFile, ValueError, TypeError, OSError, EOFError, KeyError),
    *(NotImplementedError, RuntimeError, OverflowError, SyntaxError),
)
"""What damaged archives and headers raise in the libraries that read them."""


def arrays_to_bytes(arrays: Arrays) -> bytes:
    """Named arrays as an npz file whose bytes depend on the arrays alone.

    `numpy.savez` leaves the archive's headers to Python, whose versions write them differently.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in sorted(arrays.items()):
            content, entry = io.BytesIO(), zipfile.ZipInfo(f"{name}.npy")
            npy.write_array(content, np.asanyarray(array), version=(1, 0), allow_pickle=False)
            entry.create_system = _UNIX
            archive.writestr(entry, content.getvalue())
    return buffer.getvalue()


def arrays_from_bytes(data: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """Read what `arrays_to_bytes` wrote; nothing in it is ever executed, or larger than ``data``.

    Raises:
        BundleCorrupt: these are no such arrays.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {
                info.filename.removesuffix(".npy"): _array(archive, info)
                for info in archive.infolist()
            }
    except _NO_ARRAYS as error:
        raise BundleCorrupt(f"not a file of arrays: {error}") from error


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray[Any, Any]:
    """One array; a header that promises more than there is gets no memory for it."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename} is compressed")
    content = io.BytesIO(archive.read(info))
    if npy.read_magic(content) != (1, 0):
        raise ValueError(f"{info.filename} is of another version")
    shape, by_column, dtype = npy.read_array_header_1_0(content)
    if dtype.hasobject:
        raise ValueError(f"{info.filename} holds objects")
    numbers = np.frombuffer(content.getbuffer()[content.tell() :], dtype)
    return numbers.reshape(shape, order="F" if by_column else "C").copy()
