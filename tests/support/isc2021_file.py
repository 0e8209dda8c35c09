"""A descriptor file of one side in the ISC2021 format, as the challenge's baselines write it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np


def write_isc2021(path: Path, image_names: list[str], vectors: np.ndarray) -> Path:
    """Write float32 `vectors` (n, d) and bytes `image_names`."""
    with h5py.File(path, "w") as file:
        file.create_dataset("vectors", data=vectors.astype(np.float32), track_times=False)
        file.create_dataset("image_names", data=np.array([name.encode() for name in image_names], dtype=np.bytes_))
    return path
