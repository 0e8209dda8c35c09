"""Which images a split may not mine, so that training and test never share an image, a duplicate or a group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.candidates.duplicates import DUPLICATE_SCORE, check_pairs
from ndec_builder.candidates.role_vectors import Side
from ndec_builder.candidates.search.exact import pairs_above
from ndec_builder.core.schemas import SPLITS
from ndec_builder.core.storage import fingerprint, read_json, read_table
from ndec_builder.core.workspace import Workspace

SKIP_COLUMNS = ["image_id", "sha256", "group"]
CLOSEST = 3  # used images whose pixels a pool image is compared with: a re-encoding is the closest one, or equals it


@dataclass(frozen=True)
class OtherSplit:
    """The pool images that the split mined first used, and a fingerprint of them for `run.json`."""

    split: str
    used: frozenset[str]

    @property
    def fingerprint(self) -> str:
        return fingerprint(sorted(self.used))


def mined_first(workspace: Workspace, split: str) -> OtherSplit | None:
    """Return the other split when it was mined before this one, else None.

    `run.json` says which of two mined splits skipped the other: mining the first one again keeps the order.
    """
    other = next(name for name in SPLITS if name != split)
    directory = workspace.candidates(other)
    if not (directory / "candidates.parquet").is_file() or not (directory / "run.json").is_file():
        return None
    if (read_json(directory / "run.json").get("skipped") or {}).get("split") == split:
        return None
    used = read_table(directory / "candidates.parquet", ["query_id"])["query_id"].to_pylist()
    return OtherSplit(other, frozenset(used))


def skip_reasons(pool: pa.Table, used: Collection[str], groups: Collection[str]) -> dict[str, str]:
    """Return {image_id: reason} of the pool images to leave out: used, same bytes as a used one, or of a closed group.

    `pool`: SKIP_COLUMNS of the images table. `groups` are closed from the start; the groups of used images are closed
    too. An image without a group has none, and one that was never opened has no bytes.
    """
    if not used and not set(groups) - {None, ""}:
        return {}
    is_used = _among(pool["image_id"], used)
    hashes, own = (set(pool[name].filter(is_used).to_pylist()) for name in ("sha256", "group"))
    closed = (own | set(groups)) - {None, ""}
    twin, grouped = _among(pool["sha256"], hashes - {None}), _among(pool["group"], closed)
    reasons: dict[str, str] = {}
    for mask, reason in (
        (grouped, "group used by the other split"),
        (twin, "duplicate of an image used by the other split"),
        (is_used, "used by the other split"),  # the strongest comes last and stays
    ):
        reasons |= dict.fromkeys(pool["image_id"].filter(mask).to_pylist(), reason)
    return reasons


def near_duplicates(workspace: Workspace, pool: Side, used: Collection[str], split: str, workers: int = 1) -> set[str]:
    """Return the pool images that are re-encodings or resizes of used ones; those in `used` itself aside."""
    is_used = _among(pool.ids, used).to_numpy(zero_copy_only=False)
    if not is_used.any() or is_used.all():
        return set()
    left, right = np.flatnonzero(~is_used), np.flatnonzero(is_used)
    used_vectors = pool.vectors.take(right).load()
    found = pairs_above(pool.vectors.take(left), used_vectors, DUPLICATE_SCORE, closest=CLOSEST)
    found = found.take(np.lexsort((found.references, -found.scores, found.queries)))
    first, second = pool.names(left[found.queries]), pool.names(right[found.references])
    rows = pool.rows([*first, *second])
    marks = check_pairs(
        workspace,
        workspace.candidates(split) / "skipped",
        [(rows[a], rows[b], float(score)) for a, b, score in zip(first, second, found.scores, strict=True)],
        workers,
    )
    return {image_id for mark, image_id in zip(marks, first, strict=True) if mark}


def count_reasons(reasons: dict[str, str]) -> dict[str, int]:
    return dict(sorted(Counter(reasons.values()).items()))


def _among(column: pa.ChunkedArray | pa.Array, values: Collection[str]) -> pa.ChunkedArray | pa.Array:
    return pc.is_in(column, value_set=pa.array(sorted(values), pa.string()))
