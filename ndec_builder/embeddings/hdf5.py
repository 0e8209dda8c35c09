"""HDF5 from outside: arrays that lie in the file itself, of a size that it can hold. Every failure is one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ndec_builder.core.errors import NdecError

MAX_PACKED = 200  # times that packing may make an array of numbers smaller; beyond it is a bomb
_SMALL = 64 << 20  # bytes that are read whatever the file says


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The open file. Raises NdecError for one that is no HDF5 or is damaged, also while it is read."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    # h5py tells of a damaged file by almost any of Python's errors
    except (OSError, LookupError, ValueError, TypeError, RuntimeError, MemoryError, NotImplementedError) as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise NdecError(f"{path} cannot be read as HDF5 descriptors ({text}); get it again, or convert it") from None


def array(file: Any, name: str) -> np.ndarray:
    """One array. Raises ValueError, which `opened` turns into its own words, for links to elsewhere and for bombs."""
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is a link; only arrays in the file itself are read")
    data = file[name]
    if not isinstance(data, h5py.Dataset):
        raise ValueError(f"{name} is no array")
    if data.external or data.is_virtual:
        raise ValueError(f"{name} lies in another file; only arrays in the file itself are read")
    size = data.size * data.dtype.itemsize if data.size else 0
    if size > _SMALL and size > MAX_PACKED * data.id.get_storage_size():
        raise ValueError(f"{name} claims {size} bytes and holds {data.id.get_storage_size()}")
    return np.asarray(data[()])
