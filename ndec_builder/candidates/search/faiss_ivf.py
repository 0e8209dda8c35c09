"""An approximate first pass, only on request: FAISS IVF, with product quantisation where memory is short.

It visits the lists of references nearest to a query, and so may miss pairs; the scores of those it finds are exact like
all others. How much it misses is measured against the exact search on a sample of the queries (`recall`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ndec_builder.candidates.search.proposals import Rough, Wanted
from ndec_builder.core.errors import UsageError

TRAIN_PER_LIST = 64  # vectors for k-means; FAISS warns below 39 and gains little above 256
LEAST_DEPTH = 32  # pairs looked at per query: product quantisation ranks roughly
TILE = 65536


@dataclass(frozen=True)
class IvfOptions:
    """lists and probes 0: chosen by size, 4·√m and a sixteenth of the lists; pq_bytes 0: float16 vectors."""

    lists: int = 0
    probes: int = 0
    pq_bytes: int = 0


class IvfPass:
    """References (m, d) float16 in an inverted file."""

    def __init__(self, references: np.ndarray, options: IvfOptions) -> None:
        import faiss

        count, dim = references.shape
        self.lists = options.lists or max(1, min(round(4 * count**0.5), count // 39))
        self.probes = min(self.lists, options.probes or -(-self.lists // 16))
        if self.lists > count:
            raise UsageError(f"ivf_lists is {self.lists}, but there are {count} references; set it lower, or to 0")
        if options.pq_bytes and (dim % options.pq_bytes or count < 256):
            raise UsageError(
                f"ivf_pq_bytes is {options.pq_bytes}; it must divide the {dim} dimensions of the vectors, and training "
                f"it takes 256 references or more (there are {count})"
            )
        kind = f"PQ{options.pq_bytes}" if options.pq_bytes else "SQfp16"
        self.index = faiss.index_factory(dim, f"IVF{self.lists},{kind}", faiss.METRIC_INNER_PRODUCT)
        faiss.extract_index_ivf(self.index).nprobe = self.probes
        sample = np.linspace(0, count - 1, min(count, max(256, self.lists * TRAIN_PER_LIST))).astype(np.int64)
        self.index.train(references[sample].astype(np.float32))
        for start in range(0, count, TILE):
            self.index.add(references[start : start + TILE].astype(np.float32))

    def search(self, block: np.ndarray, wanted: Wanted) -> Rough:
        """The nearest pairs found; the bounds are −inf, since nothing is known about what is left out."""
        depth = min(max(LEAST_DEPTH, 4 * wanted.depth), self.index.ntotal)
        _, columns = self.index.search(block.astype(np.float32), depth)
        rows, places = np.nonzero(columns >= 0)
        bounds = np.full(len(block), -np.inf, dtype=np.float32)
        return Rough(rows, columns[rows, places].astype(np.int64), bounds)
