"""A search by local features: which references share keypoints with a query, where complete pictures look different.

A keypoint becomes a code of 128 bits: the signs of its 128 SIFT numbers after a fixed rotation (random signs and a
Hadamard matrix, so in whole numbers: the same bits on every machine). The keypoints of a query vote for the references
of their nearest codes (Hamming distance); a vote counts more, the closer it is compared with the last neighbour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.linalg import hadamard

CODE_BYTES = 16
QUERY_CODES, REFERENCE_CODES = 200, 16  # keypoints of a picture, evenly spread over all of its own
_NEIGHBOURS = 10
FLAT_ROWS = 1_000_000  # with more codes in the index, only the nearest of its cells are searched
PROBES = 8
_NONE = np.zeros(0, np.int64)

_ROTATION = hadamard(128).astype(np.float32) * np.random.default_rng(0).choice([-1.0, 1.0], 128).astype(np.float32)


def keypoint_codes(descriptors: np.ndarray) -> np.ndarray:
    """(n, 16) uint8 from SIFT descriptors (n, 128) of whole numbers 0..255."""
    values = np.rint(16 * np.sqrt(descriptors)).astype(np.float32)
    values = values * 128 - values.sum(axis=1, keepdims=True)  # whole numbers: sums of them are exact in any order
    coarse = np.rint(values / 256).astype(np.float32)
    return np.packbits(coarse @ _ROTATION.T > 0, axis=1)


def spread_rows(count: int, most: int) -> np.ndarray:
    """At most `most` of `count` rows, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


class LocalIndex:
    """codes: (n, 16) uint8 of all references, one after the other · counts: (references,) int, codes of each."""

    def __init__(self, codes: np.ndarray, counts: np.ndarray) -> None:
        self.references = len(counts)
        self._ends = np.cumsum(counts)  # the owner of a code is found by bisection: no number is kept for each
        self._centres: Any = None  # kept here: FAISS does not own them
        if len(codes) <= FLAT_ROWS:
            self._index = _flat(codes)
        else:
            # codes of the index, evenly spread, are the centres: no training, so always the same
            self._centres = _flat(np.unique(codes[spread_rows(len(codes), round(4 * len(codes) ** 0.5))], axis=0))
            self._index = _cells(self._centres, codes)

    @property
    def bytes_per_reference(self) -> float:
        """Memory of the index: the codes, in cells also 8 bytes for the row of each; where each reference ends."""
        codes = int(self._ends[-1]) if self.references else 0
        return codes * (CODE_BYTES + 8 * (self._centres is not None)) / max(1, self.references) + self._ends.itemsize

    def best(self, queries: Sequence[Sequence[np.ndarray]], top: int) -> list[np.ndarray]:
        """For each query the rows of the `top` references with the most votes, the best first, ties by row; fewer if
        fewer have votes.

        queries: of each, the codes (m, 16) of its variants: as it is, mirrored …; a reference counts with its best one.
        """
        return [rows for rows, _ in self.ranked(queries, top)]

    def ranked(self, queries: Sequence[Sequence[np.ndarray]], top: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """The rows of `best` and their votes, float64."""
        found, votes = [], self._votes([codes for variants in queries for codes in variants])
        for variants in queries:
            own = [next(votes) for _ in variants]
            rows, places = np.unique(np.concatenate([rows for rows, _ in own] or [_NONE]), return_inverse=True)
            total = np.zeros(len(rows))
            np.maximum.at(total, places, np.concatenate([values for _, values in own] or [_NONE]))
            order = np.argsort(-total, kind="stable")[:top]
            order = order[total[order] > 0]
            found.append((rows[order], total[order]))
        return found

    def _votes(self, parts: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of each part the references with votes, ascending, and their votes: one call of FAISS for all."""
        count = min(_NEIGHBOURS, int(self._ends[-1]) if self.references else 0)
        sizes = [len(codes) if count > 1 else 0 for codes in parts]
        raw: np.ndarray = np.zeros((0, count), np.int32)
        rows: np.ndarray = np.zeros((0, count), np.int64)
        if sum(sizes):
            raw, rows = self._index.search(np.concatenate(parts), count)
        found = rows >= 0
        distances = np.where(found, raw, 8 * CODE_BYTES).astype(np.float64)
        weights = (distances[:, -1:] - distances) / np.maximum(distances[:, -1:], 1)
        owners = np.where(found, np.searchsorted(self._ends, rows, side="right"), 0)
        for end, size in zip(np.cumsum(sizes).tolist(), sizes, strict=True):
            owner, weight = owners[end - size : end], weights[end - size : end]
            # one vote of a keypoint for a reference: neighbours are sorted, so the first is the closest
            pair, first = np.unique(np.arange(size)[:, None] * self.references + owner, return_index=True)
            rows_found, places = np.unique(pair % self.references, return_inverse=True)
            yield rows_found, np.bincount(places, weights=weight.ravel()[first], minlength=len(rows_found))


def _flat(codes: np.ndarray) -> Any:
    import faiss

    index = faiss.IndexBinaryFlat(8 * CODE_BYTES)
    index.add(np.ascontiguousarray(codes))
    return index


def _cells(centres: Any, codes: np.ndarray) -> Any:
    """An inverted file: each code is in the cell of its nearest centre."""
    import faiss

    index = faiss.IndexBinaryIVF(centres, 8 * CODE_BYTES, centres.ntotal)
    index.train(np.ascontiguousarray(codes[:1]))  # nothing to do: the centres exist
    index.add(np.ascontiguousarray(codes))
    index.nprobe = min(PROBES, centres.ntotal)
    return index
