"""The first pass with FAISS: inner products in float32, on the CPU or on all GPUs.

The error of a float32 dot of d products, added in any order, is at most d·2**-24·‖q‖‖r‖ (Higham 2002, eq. 3.5); the
margin is twice that. Tensor cores align and truncate the summands instead of rounding each, hence 2**-20 on a GPU.
"""

from __future__ import annotations

import numpy as np

from ndec_builder.candidates.search.pairs import largest_norm
from ndec_builder.candidates.search.proposals import Collector, Proposals, SearchRequest, bounds_of, lowest_proposal

FLAT_TILE = 65536  # references converted to float32 at a time: 128 MB at 512 dimensions
_KEPT_VALUES = 1 << 26  # values: references up to 256 MB in float32 are converted once, not per block
GPU_DEPTH = 2048  # the most that FAISS finds per query on a GPU


class FlatPass:
    """References (m, d) float16; converted to float32 tile by tile, or once if they are few."""

    def __init__(self, references: np.ndarray, tile: int = 0) -> None:
        self.references = references
        self.kept = references.astype(np.float32) if references.size <= _KEPT_VALUES else None
        self.tile = tile or (FLAT_TILE if self.kept is None else max(1, len(references)))
        self.norm = largest_norm(references if self.kept is None else self.kept)

    def search(self, block: np.ndarray, wanted: SearchRequest) -> Proposals:
        import faiss

        all_references = self.references if self.kept is None else self.kept
        queries = block.astype(np.float32)
        margin = 2 * block.shape[1] * 2.0**-24 * largest_norm(queries) * self.norm
        low, row_low = lowest_proposal(wanted.references, margin), lowest_proposal(wanted.queries, margin)
        found = Collector(len(block), wanted.depth)
        for start in range(0, len(self.references), self.tile):
            references = all_references[start : start + self.tile].astype(np.float32, copy=False)
            k = min(wanted.depth, len(references))
            rough, columns = faiss.knn(queries, references, k, metric=faiss.METRIC_INNER_PRODUCT)
            keep_lists(rough, columns, (low[start : start + self.tile], row_low), start, found, len(references) > k)
        rows, columns, _ = found.pairs()
        return Proposals(rows, columns, bounds_of(found.cut, margin))


class GpuPass:
    """References in float16 on all GPUs, split among them; the queries' lists come back merged."""

    def __init__(self, references: np.ndarray, tile: int = FLAT_TILE) -> None:
        import faiss

        self.flat = FlatPass(references)  # for lists that are too deep for a GPU
        options = faiss.GpuMultipleClonerOptions()
        options.shard, options.useFloat16 = True, True  # lossless: the stored values are float16
        empty = faiss.IndexFlatIP(references.shape[1])
        self.index = faiss.index_cpu_to_all_gpus(empty, co=options)
        for start in range(0, len(references), tile):
            self.index.add(references[start : start + tile].astype(np.float32))

    def search(self, block: np.ndarray, wanted: SearchRequest) -> Proposals:
        count = len(self.flat.references)
        if wanted.depth > min(GPU_DEPTH, count):
            return self.flat.search(block, wanted)
        margin = block.shape[1] * 2.0**-20 * largest_norm(block) * self.flat.norm
        found = Collector(len(block), wanted.depth)
        rough, columns = self.index.search(block.astype(np.float32), wanted.depth)
        lows = lowest_proposal(wanted.references, margin), lowest_proposal(wanted.queries, margin)
        keep_lists(rough, columns, lows, 0, found, count > wanted.depth)
        rows, columns, _ = found.pairs()
        return Proposals(rows, columns, bounds_of(found.cut, margin))


def keep_lists(
    rough: np.ndarray,
    columns: np.ndarray,
    lows: tuple[np.ndarray, np.ndarray],
    start: int,
    found: Collector,
    cut_short: bool,
) -> None:
    """Add the lists (b, k) of a tile that begins at reference `start` to `found`.

    `lows`: the lowest scores to keep, per reference of the tile and per query.
    """
    low, row_low = lows
    if cut_short:
        last = rough[:, -1]
        over = np.flatnonzero(last >= np.maximum(low.min(), row_low))
        found.leave_out(over, last[over])
    rows, places = np.nonzero((columns >= 0) & (rough >= np.maximum(low[columns], row_low[:, None])))
    found.add(rows, columns[rows, places].astype(np.int64) + start, rough[rows, places])
