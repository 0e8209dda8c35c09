"""What is searched (images of a role with their vectors) and what comes out (rows of the candidates table)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ndec_builder.candidates.caps import id_ranks, total_order
from ndec_builder.candidates.duplicates import find_duplicates
from ndec_builder.candidates.search import Pairs, best_scores
from ndec_builder.candidates.splits import Rows
from ndec_builder.core.columns import images_fingerprint
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import CANDIDATES, pair_id, table_of
from ndec_builder.core.storage import read_json, read_table
from ndec_builder.core.workspace import Workspace

if TYPE_CHECKING:
    from ndec_builder.embeddings.store import Embeddings

GALLERY = {"test": "reference", "train": "basic"}  # split → role of the images that the pool is searched in
BACKGROUND = {"test": "basic"}  # split → role whose images scores are normalised against
NORMALIZATION_NEIGHBOURS = 3  # score − mean of the query's 3 best background scores, factor 1


@dataclass(frozen=True)
class Side:
    """The embedded images of a role: rows of the images table, ids ascending, vectors (n, d) float16 in that order."""

    role: str
    rows: Rows
    ids: list[str]
    vectors: np.ndarray
    stored: Embeddings  # as read, for the comparison of spaces

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256("\x1f".join(self.ids).encode())
        digest.update(repr(self.vectors.shape).encode() + np.ascontiguousarray(self.vectors).tobytes())
        return digest.hexdigest()

    def without(self, image_ids: Collection[str]) -> Side:
        keep = [position for position, image_id in enumerate(self.ids) if image_id not in image_ids]
        return Side(self.role, self.rows, [self.ids[position] for position in keep], self.vectors[keep], self.stored)


def load_side(workspace: Workspace, role: str, model: str) -> Side:
    """Read a role's images and vectors; embeds them first where that is missing. Raises NdecError when not ingested."""
    from ndec_builder.embeddings.store import read_embeddings

    images = workspace.read_images(role)
    if not images.num_rows:
        raise NdecError(f"the {role} table of {workspace.root} is empty; run `ndec ingest {role} FOLDER` with images")
    if not _is_embedded(workspace, role, model):
        from ndec_builder.embeddings.embed import run as embed
        from ndec_builder.embeddings.settings import EmbedConfig

        embed(EmbedConfig(workspace=workspace.root, role=role, model=model))
    stored = read_embeddings(workspace.embeddings(role, model))
    rows = {row["image_id"]: row for row in images.to_pylist()}
    order = sorted((image_id, position) for position, image_id in enumerate(stored.ids))
    if unknown := [image_id for image_id, _ in order if image_id not in rows]:
        raise NdecError(
            f"{len(unknown)} embedded {role} images, {unknown[0]!r} first, are not in {workspace.images(role)}; "
            f"run `ndec embed {role} --model {model}` again"
        )
    positions = [position for _, position in order]
    return Side(role, rows, [image_id for image_id, _ in order], stored.vectors[positions], stored)


def load_sides(workspace: Workspace, split: str, model: str) -> tuple[Side, Side, Side | None]:
    """Return pool, gallery and, where it is embedded already, the background that scores are normalised against.

    Raises NdecError when their vectors cannot be compared.
    """
    from ndec_builder.embeddings.store import check_same_space

    pool, gallery = (load_side(workspace, role, model) for role in ("pool", GALLERY[split]))
    role = BACKGROUND.get(split)
    background = load_side(workspace, role, model) if role and _is_embedded(workspace, role, model) else None
    for side in (pool, background):
        if side is not None:
            check_same_space(side.stored, gallery.stored)
    return pool, gallery, background


def _is_embedded(workspace: Workspace, role: str, model: str) -> bool:
    """Whether the embeddings are finished and were made from the image files that are listed now."""
    path = workspace.embeddings(role, model) / "run.json"
    if not path.is_file() or not workspace.images(role).is_file():
        return False
    images = workspace.read_images(role, ["image_id", "uri", "sha256", "rotation"])
    return bool(read_json(path).get("inputs", {}).get("images") == images_fingerprint(images))


def candidate_table(
    workspace: Workspace,
    split: str,
    pairs: Pairs,
    sides: tuple[Side, Side],
    background: Side | None,
    first_rank: int = 1,
) -> pa.Table:
    """Return the pairs as candidates (schema CANDIDATES), in the total order, ranked from `first_rank`.

    score_normalized is null without a background. Geometry and pre-label columns are null here.
    """
    pool, gallery = sides
    order = total_order(pairs.scores, id_ranks(pool.ids)[pairs.queries], id_ranks(gallery.ids)[pairs.references])
    pairs = pairs.take(order)
    names = [(pool.ids[q], gallery.ids[r]) for q, r in zip(pairs.queries, pairs.references, strict=True)]
    duplicates = find_duplicates(
        [(pool.rows[q], gallery.rows[r], float(s)) for (q, r), s in zip(names, pairs.scores, strict=True)],
        workspace.resolve,
    )
    normalized = normalize(pairs, pool, background)
    return table_of(
        CANDIDATES,
        [
            {
                "pair_id": pair_id(split, query_id, reference_id),
                "split": split,
                "query_id": query_id,
                "reference_id": reference_id,
                "score": float(pairs.scores[position]),
                "score_normalized": None if normalized is None else float(normalized[position]),
                "rank": first_rank + position,
                "duplicate_of": reference_id if duplicates[position] else None,
            }
            for position, (query_id, reference_id) in enumerate(names)
        ],
    )


def normalize(pairs: Pairs, pool: Side, background: Side | None) -> np.ndarray | None:
    """Return score − mean of the query's best background scores, (n,) float32; None without a background."""
    if background is None or not len(pairs):
        return None
    queries, inverse = np.unique(pairs.queries, return_inverse=True)
    best = best_scores(pool.vectors[queries], background.vectors, NORMALIZATION_NEIGHBOURS)
    means = best.astype(np.float64).sum(axis=1) / best.shape[1]
    return (pairs.scores.astype(np.float64) - means[inverse]).astype(np.float32)


def all_candidates(workspace: Workspace, split: str) -> pa.Table:
    """Mined and rechecked pairs of a split in one table, ranks ascending."""
    directory = workspace.candidates(split)
    tables = [read_table(directory / "candidates.parquet")]
    if (directory / "recheck.parquet").is_file():
        tables.append(read_table(directory / "recheck.parquet"))
    return pa.concat_tables(tables)
