"""Turns found pairs into rows of the candidates table."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.candidates.attribution import Attribution, equal_or_unknown, row_of, source_of
from ndec_builder.candidates.duplicates import check_pairs
from ndec_builder.candidates.role_vectors import RoleVectors
from ndec_builder.candidates.search.caps import total_order
from ndec_builder.candidates.search.pairs import Pairs
from ndec_builder.candidates.search.score_normalization import Normalization, normalized
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.schemas import CANDIDATES, conform, pair_id, table_of
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace


@dataclass(frozen=True)
class CandidateContext:
    """Everything besides scores that the columns of a candidate need."""

    background: RoleVectors | None = None  # None: score_normalized is null
    normalization: Normalization = field(default_factory=Normalization)
    rank_by: str = "raw"
    attribution: Attribution = field(default_factory=Attribution)
    engine: Engine = field(default_factory=Engine)  # runs the shards of pictures and of the search


def candidate_table(
    workspace: Workspace,
    split: str,
    pairs: Pairs,
    sides: tuple[RoleVectors, RoleVectors],
    context: CandidateContext,
    first_rank: int = 1,
) -> pa.Table:
    """Return pairs with raw scores as candidates (schema CANDIDATES), in the total order, ranked from `first_rank`.

    `context.rank_by` names the score that orders them. same_photo and same_author are null if the metadata of one side
    do not tell. Geometry and pre-label columns are null.
    """
    pool, gallery = sides
    shifted = normalized_scores(pairs, pool, context)
    ranked_by = shifted if context.rank_by == "normalized" and shifted is not None else pairs.scores
    order = total_order(ranked_by, pairs.queries, pairs.references)  # rows are in the order of their ids
    pairs, shifted = pairs.take(order), None if shifted is None else shifted[order]
    names = list(zip(pool.names(pairs.queries), gallery.names(pairs.references), strict=True))
    queries, references = pool.rows([q for q, _ in names]), gallery.rows([r for _, r in names])
    duplicates = check_pairs(
        workspace,
        workspace.candidates(split) / "duplicates",
        [(queries[q], references[r], float(s)) for (q, r), s in zip(names, pairs.scores, strict=True)],
        context.engine,
    )
    left, right = (
        {image_id: source_of(row, row_of(context.attribution, side.role, image_id)) for image_id, row in rows.items()}
        for side, rows in ((pool, queries), (gallery, references))
    )
    rows = []
    for position, (query_id, reference_id) in enumerate(names):
        same_photo = equal_or_unknown(left[query_id].photo, right[reference_id].photo)
        rows.append(
            {
                "pair_id": pair_id(split, query_id, reference_id),
                "split": split,
                "query_id": query_id,
                "reference_id": reference_id,
                "score": float(pairs.scores[position]),
                "score_normalized": None if shifted is None else float(shifted[position]),
                "rank": first_rank + position,
                "duplicate_of": reference_id if duplicates[position] or same_photo else None,
                "same_photo": same_photo,
                "same_author": equal_or_unknown(left[query_id].author, right[reference_id].author),
            }
        )
    return table_of(CANDIDATES, rows)


def normalized_scores(pairs: Pairs, pool: RoleVectors, context: CandidateContext) -> np.ndarray | None:
    """Normalised scores (n,) float32 of pairs with raw scores; None without a background."""
    if context.background is None or not len(pairs):
        return None
    queries, inverse = np.unique(pairs.queries, return_inverse=True)
    offsets = context.normalization.offsets(pool.vectors.take(queries), context.background.vectors.load())
    return normalized(pairs.scores, offsets[inverse])


def all_candidates(workspace: Workspace, split: str) -> pa.Table:
    """All pairs of a split in one table, ranks ascending: mined, by local features, rechecked; each pair once."""
    first, *second = workspace.candidate_files(split) or [workspace.candidates(split) / "candidates.parquet"]
    mined = read_table(first)  # the error for a missing file says what to do
    tables, seen = [mined], mined["pair_id"].combine_chunks()
    for path in second:  # of an earlier mining, perhaps
        rechecked = read_table(path)
        tables.append(rechecked.filter(pc.invert(pc.is_in(rechecked["pair_id"], value_set=seen))))
        seen = pa.concat_arrays([seen, tables[-1]["pair_id"].combine_chunks()])
    # tables of an earlier version lack the last columns; those become null
    return conform(pa.concat_tables([CANDIDATES.empty_table(), *tables], promote_options="default"), CANDIDATES)
