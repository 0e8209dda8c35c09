"""Images that a split must not mine, so that training and test never share an image, a duplicate or a group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.candidates.duplicates import DUPLICATE_SCORE, check_pairs
from ndec_builder.candidates.kept_queries import FORMERLY_MINED
from ndec_builder.candidates.role_vectors import RoleVectors
from ndec_builder.candidates.search.exact import pairs_above
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.schemas import SPLITS
from ndec_builder.core.storage import fingerprint, read_json, read_table
from ndec_builder.core.workspace import Workspace

SKIP_COLUMNS = ["image_id", "sha256", "group"]
_CLOSEST = 3  # used images to compare each pool image with: a re-encoding is the closest one or equal to it


@dataclass(frozen=True)
class OtherSplit:
    """The pool images in any pair of the split that was mined first, and their fingerprint for `run.json`."""

    split: str
    used: frozenset[str]

    @property
    def fingerprint(self) -> str:
        return fingerprint(sorted(self.used))


def split_mined_first(workspace: Workspace, split: str) -> OtherSplit | None:
    """Return the other split if it was mined before this one, else None.

    `run.json` records which of two mined splits skipped the other: mining the first one again keeps the order.
    """
    other = next(name for name in SPLITS if name != split)
    directory = workspace.candidates(other)
    if not (directory / "candidates.parquet").is_file() or not (directory / "run.json").is_file():
        return None
    if (read_json(directory / "run.json").get("skipped") or {}).get("split") == split:
        return None
    return OtherSplit(other, frozenset(used_images(workspace, other)))


def used_images(workspace: Workspace, split: str) -> set[str]:
    """Pool images in any pair of a split: mined, now or earlier, found by `recheck`, or given to people."""
    paths = [*workspace.candidate_files(split), workspace.candidates(split) / FORMERLY_MINED]
    tables = [read_table(path, ["query_id"]) for path in paths if path.is_file()]
    if (tasks := workspace.annotation(split) / "tasks.parquet").is_file():
        given = read_table(tasks, ["query_id", "is_gold"])
        tables.append(given.filter(pc.invert(given["is_gold"])))
    if (gold := workspace.annotation(split) / "gold.parquet").is_file():  # its queries may be of another role
        given = read_table(gold, ["query_id", "query_role"])
        tables.append(given.filter(pc.equal(given["query_role"], "pool")))
    return {name for table in tables for name in table["query_id"].to_pylist()}


def skip_reasons(pool: pa.Table, used: Collection[str], groups: Collection[str]) -> dict[str, str]:
    """Return {image_id: reason} of the pool images to leave out: used, same bytes as a used one, or in a closed group.

    `pool`: SKIP_COLUMNS of the images table. `groups` are closed, and so are the groups of used images. An image
    without a group is in none, and one that was never opened equals none by bytes.
    """
    if not used and not set(groups) - {None, ""}:
        return {}
    is_used = _is_in(pool["image_id"], used)
    hashes, own = (set(pool[name].filter(is_used).to_pylist()) for name in ("sha256", "group"))
    twin = _is_in(pool["sha256"], hashes - {None})
    reasons: dict[str, str] = {}
    for mask, reason in (
        (_is_in(pool["group"], set(groups) - {None, ""}), "group of a reference"),
        (_is_in(pool["group"], own - {None, ""}), "group used by the other split"),
        (twin, "duplicate of an image used by the other split"),
        (is_used, "used by the other split"),  # the last reason wins
    ):
        reasons |= dict.fromkeys(pool["image_id"].filter(mask).to_pylist(), reason)
    return reasons


def near_duplicates_of_used(
    workspace: Workspace, pool: RoleVectors, used: Collection[str], split: str, engine: Engine | None = None
) -> set[str]:
    """Return the pool images, except those in `used`, that are re-encodings or resizes of used ones."""
    is_used = _is_in(pool.ids, used).to_numpy(zero_copy_only=False)
    if not is_used.any() or is_used.all():
        return set()
    left, right = np.flatnonzero(~is_used), np.flatnonzero(is_used)
    used_vectors = pool.vectors.take(right).load()
    found = pairs_above(pool.vectors.take(left), used_vectors, DUPLICATE_SCORE, closest=_CLOSEST)
    found = found.take(np.lexsort((found.references, -found.scores, found.queries)))
    first, second = pool.names(left[found.queries]), pool.names(right[found.references])
    rows = pool.rows([*first, *second])
    marks = check_pairs(
        workspace,
        workspace.candidates(split) / "skipped",
        [(rows[a], rows[b], float(score)) for a, b, score in zip(first, second, found.scores, strict=True)],
        engine,
    )
    return {image_id for mark, image_id in zip(marks, first, strict=True) if mark}


def closed_to_training(workspace: Workspace, split: str) -> tuple[set[str], set[str]]:
    """Groups and file hashes of the references: every manifest leaves out training pairs with these."""
    if split != "train" or not workspace.images("reference").is_file():
        return set(), set()
    table = read_table(workspace.images("reference"), ["group", "sha256"])
    return set(table["group"].to_pylist()) - {None, ""}, set(table["sha256"].to_pylist()) - {None}


def allowed_gallery(gallery: RoleVectors, closed: set[str], hashes: set[str]) -> tuple[RoleVectors, dict[str, str]]:
    """Leave out training images that a reference closes; return the others and {image_id: reason}.

    Raises NdecError if none is left.
    """
    if not closed and not hashes:
        return gallery, {}
    columns = read_table(gallery.table, SKIP_COLUMNS).to_pydict()
    reasons = {
        image_id: "group of a reference" if group in closed else "same bytes as a reference"
        for image_id, sha256, group in zip(*(columns[name] for name in SKIP_COLUMNS), strict=True)
        if group in closed or sha256 in hashes
    }
    left = gallery.without(reasons)
    if not len(left):
        raise NdecError(
            f"every {gallery.role} image has the bytes or the group of a reference, so none may be trained on; "
            f"ingest other images with `ndec ingest {gallery.role} FOLDER`"
        )
    return left, reasons


def allowed_pool(
    workspace: Workspace, split: str, pool: RoleVectors, first: OtherSplit | None, closed: set[str], engine: Engine
) -> tuple[RoleVectors, dict[str, str]]:
    """Leave out images that the other split used, their duplicates and groups; return the rest and {image_id: reason}.

    Raises NdecError if none is left.
    """
    used = first.used if first else frozenset()
    if not used and not closed:
        return pool, {}
    reasons = skip_reasons(read_table(pool.table, SKIP_COLUMNS), used, closed)
    near = near_duplicates_of_used(workspace, pool, used, split, engine)
    reasons |= dict.fromkeys(near - set(reasons), "duplicate of an image used by the other split")
    left = pool.without(reasons)
    if not len(left):
        raise NdecError(
            f"no pool image is left to mine: {count_reasons(reasons)}; ingest more with `ndec ingest pool FOLDER`, "
            "or mine the first split again with a smaller --top"
        )
    return left, reasons


def count_reasons(reasons: dict[str, str]) -> dict[str, int]:
    return dict(sorted(Counter(reasons.values()).items()))


def _is_in(column: pa.ChunkedArray | pa.Array, values: Collection[str]) -> pa.ChunkedArray | pa.Array:
    return pc.is_in(column, value_set=pa.array(sorted(values), pa.string()))
