"""Untrusted HDF5: only arrays stored in the file itself, and of plausible size. Every failure is one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ndec_builder.core.errors import NdecError

MAX_PACKED = 200  # largest plausible compression of an array of numbers
_SMALL = 64 << 20  # arrays up to this size are read without that check


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file. Raises NdecError if it is not HDF5 or damaged, also while it is read."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    # h5py raises almost any error for a damaged file
    except (OSError, LookupError, ValueError, TypeError, RuntimeError, MemoryError, NotImplementedError) as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise NdecError(
            f"{path} cannot be read as HDF5 descriptors ({text}); download it again, or convert it"
        ) from None


def array(file: Any, name: str) -> np.ndarray:
    """Read one array. Raises ValueError, which `opened` converts, for links and for compression bombs."""
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is a link; only arrays in the file itself are read")
    data = file[name]
    if not isinstance(data, h5py.Dataset):
        raise ValueError(f"{name} is not an array")
    if data.external or data.is_virtual:
        raise ValueError(f"{name} is stored in a different file; only arrays in the file itself are read")
    size = data.size * data.dtype.itemsize if data.size else 0
    if size > _SMALL and size > MAX_PACKED * data.id.get_storage_size():
        raise ValueError(f"{name} claims {size} bytes but stores {data.id.get_storage_size()}")
    return np.asarray(data[()])
