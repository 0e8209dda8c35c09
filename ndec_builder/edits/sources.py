"""The images that edited copies are made from."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ndec_builder.core.console import number_of
from ndec_builder.core.errors import NdecError
from ndec_builder.core.workspace import Workspace


def choose_sources(images: int, count: int, seed: int) -> np.ndarray:
    """Row numbers (count,) int64: repeated shuffles of all rows, so that use counts differ by at most one."""
    rng = np.random.default_rng(seed)
    rounds = [rng.permutation(images) for _ in range(-(-count // images))]
    return np.concatenate(rounds)[:count]


def refuse_changed_sources(workspace: Workspace, role: str, chosen: pa.Table) -> None:
    """Raise NdecError if a source was replaced or removed while copies were made. chosen: rows of the images table."""
    ids, sums = (chosen[name].to_pylist() for name in ("image_id", "sha256"))
    now = {name: row["sha256"] for name, row in workspace.image_rows(role, ids, ["sha256"]).items()}
    changed = {name for name, sha256 in zip(ids, sums, strict=True) if now.get(name, "gone") != sha256}
    if changed:
        raise NdecError(
            f"{number_of(len(changed), 'image')} of the role {role}, {min(changed)!r} first, changed while the copies "
            "were made: run the same command again"
        )
