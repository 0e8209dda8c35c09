"""Exact search of pairs: a fast first pass proposes pairs, the dot of the stored float16 vectors decides.

Scores of the first pass (bf16 matrix products or FAISS) depend on its precision, block size and thread count. They only
propose pairs, with a proven bound on the pairs left out (`proposals`). The score of a pair is exact (`pairs`). The list
of a query is cut at its bound, so every pair in it comes before every pair left out. Queries whose lists are too short
are searched again, four times as deep. References are in memory as float16, queries are read in blocks. The result has
the same bytes for any first pass, block size and number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ndec_builder.candidates.search.caps import id_ranks
from ndec_builder.candidates.search.checkpoint import Checkpoint, report_resumed
from ndec_builder.candidates.search.first_pass import choose
from ndec_builder.candidates.search.pairs import Pairs, Vectors, check_vectors, join_pairs, no_pairs, score_pairs
from ndec_builder.candidates.search.proposals import FirstPass, SearchRequest
from ndec_builder.candidates.search.rounds import FIRST_DEPTH, Rounds, closest_of_each
from ndec_builder.candidates.search.selection import Caps, PairSelection
from ndec_builder.core.console import progress

__all__ = ["Pairs", "best_scores", "check_vectors", "pairs_above", "score_pairs", "top_pairs"]

BLOCK = 8192


def search_block(
    vectors: np.ndarray, references: np.ndarray, engine: FirstPass, wanted: SearchRequest
) -> tuple[Pairs, np.ndarray]:
    """Return the requested pairs of a block (b, d) with exact scores, and bounds (b,) float32 on those left out.

    The pairs of a row are all requested pairs that score above its bound.
    """
    rough = engine.search(vectors, wanted)
    scores = score_pairs(vectors, references, rough.rows, rough.columns)
    floors = np.maximum(wanted.references[rough.columns], wanted.queries[rough.rows])
    keep = np.flatnonzero((scores > rough.bounds[rough.rows]) & (scores >= floors))
    return Pairs(rough.rows, rough.columns, scores).take(keep), rough.bounds


def iter_blocks(
    queries: Vectors, rows: np.ndarray, size: int, first: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (row numbers, their vectors), `size` rows at a time from `first` on; all rows are read as slices."""
    whole = len(rows) == len(queries)
    for start in range(first, len(rows), max(1, size)):
        some = rows[start : start + max(1, size)]
        yield some, queries[start : start + len(some)] if whole else queries[some]


def top_pairs(
    query_ids: Sequence[str] | range,
    queries: Vectors,
    reference_ids: Sequence[str] | range,
    references: np.ndarray,
    *,
    top: int,
    max_per_query: int = 1,
    max_per_reference: int = 10,
    block: int = BLOCK,
    search: str = "auto",
    engine: FirstPass | None = None,
    offsets: np.ndarray | None = None,
    checkpoint: Checkpoint | None = None,
) -> Pairs:
    """Return the global top pairs in the order (score desc, query_id, reference_id), caps kept.

    Exactly the pairs of a greedy walk along all n × m pairs that skips a pair whose query or reference is at its cap
    (0: no cap) and stops at `top`; fewer if no more exist. Vectors are float16 (n, d), (m, d). `engine` is the first
    pass; by default `search` names it (see `first_pass.choose`). `offsets` (n,) float64 are subtracted from the scores
    of each query, and the differences are returned as scores. With a `checkpoint` a stopped search continues. Raises
    NdecError for bad vectors (`check_vectors`).
    """
    check_vectors(queries, references)
    engine = engine or choose(search, queries.shape, references)
    offsets = np.zeros(len(queries)) if offsets is None else offsets
    rounds = Rounds(id_ranks(query_ids), id_ranks(reference_ids), Caps(top, max_per_query, max_per_reference))
    done = 0
    if checkpoint is not None and (state := checkpoint.load()) is not None:
        rounds.restore(state)
        done = int(state["done"])
        report_resumed(done, len(rounds.rows))
    elif len(ahead := rounds.sampled_rows()):
        anything = np.full(len(references), -np.inf, dtype=np.float32)
        pairs, bounds = _search_shifted(queries[ahead], references, engine, anything, offsets[ahead], rounds.depth)
        rounds.add_sample(ahead, Pairs(ahead[pairs.queries], pairs.references, pairs.scores), bounds)
    while len(rows := rounds.rows):
        guess = rounds.guess()
        with progress() as bar:
            task = bar.add_task("searching", total=len(rows), completed=done)
            for some, vectors in iter_blocks(queries, rows, block, done):
                rounds.bounds[some] = search_into(
                    rounds.selection, some, vectors, references, engine, offsets[some], guess, rounds.depth
                )
                done += len(some)
                bar.update(task, completed=done)
                if checkpoint is not None and checkpoint.due():
                    checkpoint.save(done=done, **rounds.state())
        rounds.close()
        done = 0
    return rounds.selection.best


def search_into(
    selection: PairSelection,
    rows: np.ndarray,
    vectors: np.ndarray,
    references: np.ndarray,
    engine: FirstPass,
    offsets: np.ndarray,
    guess: np.float32,
    depth: int,
) -> np.ndarray:
    """Search one block, queries `rows` (b,), and add what reaches the floors and the guess; return bounds (b,)."""
    floors = np.maximum(selection.floors, guess)
    pairs, left_out = _search_shifted(vectors, references, engine, floors, offsets, depth)
    selection.add(Pairs(rows[pairs.queries], pairs.references, pairs.scores))
    # pairs below the guess were left out and may still be needed
    bounds: np.ndarray = np.maximum(left_out, np.nextafter(guess, np.float32(-np.inf)))
    return bounds


def pairs_above(
    queries: Vectors,
    references: np.ndarray,
    cut: float | np.ndarray,
    block: int = BLOCK,
    search: str = "auto",
    closest: int = 0,
) -> Pairs:
    """Return every pair with score ≥ cut, in no particular order; `cut` is a number, or (n,) with one cut per query.

    `closest`: at most this many pairs per query, by (score descending, reference row ascending); 0: all of them.
    """
    check_vectors(queries, references)
    engine = choose(search, queries.shape, references)
    cuts = np.broadcast_to(np.asarray(cut, dtype=np.float32), (len(queries),))
    floors = np.full(len(references), cuts.min(), dtype=np.float32)
    rows: np.ndarray = np.arange(len(queries))
    depth, found = 4 * FIRST_DEPTH, [no_pairs()]
    while len(rows):
        depth = min(depth, len(references))
        deeper: list[np.ndarray] = [np.empty(0, np.int64)]
        for some, vectors in iter_blocks(queries, rows, block):
            pairs, bounds = search_block(vectors, references, engine, SearchRequest(floors, cuts[some], depth))
            done = bounds < cuts[some]
            pairs = pairs.take(np.flatnonzero(done[pairs.queries]))
            if closest:  # per block: near copies of a hub would fill the memory
                pairs = closest_of_each(pairs, closest)
            found.append(Pairs(some[pairs.queries], pairs.references, pairs.scores))
            deeper.append(some[~done])
        rows, depth = np.concatenate(deeper), 4 * depth
    return join_pairs(found)


def best_scores(
    queries: Vectors, references: np.ndarray, count: int, block: int = BLOCK, search: str = "auto"
) -> np.ndarray:
    """Return (n, min(count, m)) float32: each query's best scores against the references, descending."""
    check_vectors(queries, references)
    engine = choose(search, queries.shape, references)
    count = min(count, len(references))
    best = np.empty((len(queries), count), dtype=np.float32)
    floors = np.full(len(references), -np.inf, dtype=np.float32)
    rows: np.ndarray = np.arange(len(queries))
    depth = max(FIRST_DEPTH, 2 * count)
    while len(rows):
        depth = min(depth, len(references))
        deeper: list[np.ndarray] = [np.empty(0, np.int64)]
        for some, vectors in iter_blocks(queries, rows, block):
            none = np.full(len(some), -np.inf, dtype=np.float32)
            pairs, _ = search_block(vectors, references, engine, SearchRequest(floors, none, depth))
            pairs = pairs.take(np.lexsort((-pairs.scores, pairs.queries)))
            starts, ends = (np.searchsorted(pairs.queries, np.arange(len(some)), side) for side in ("left", "right"))
            done = ends - starts >= count
            best[some[done]] = pairs.scores[starts[done][:, None] + np.arange(count)]
            deeper.append(some[~done])
        rows, depth = np.concatenate(deeper), 4 * depth
    return best


def _search_shifted(
    vectors: np.ndarray, references: np.ndarray, engine: FirstPass, floors: np.ndarray, offsets: np.ndarray, depth: int
) -> tuple[Pairs, np.ndarray]:
    """`search_block` for scores minus the offset (b,) of their query; floors (m,) and results are such differences."""
    if not offsets.any():
        none = np.full(len(vectors), -np.inf, dtype=np.float32)
        return search_block(vectors, references, engine, SearchRequest(floors, none, depth))
    # float32 steps down: both the exact score and the difference are rounded to float32
    lowest = np.nextafter((floors.min() + offsets).astype(np.float32), np.float32(-np.inf))
    lowest = np.nextafter(lowest - np.float32(2.0**-22), np.float32(-np.inf))
    raw = np.full(len(references), lowest.min(), dtype=np.float32)
    pairs, bounds = search_block(vectors, references, engine, SearchRequest(raw, lowest, depth))
    shifted = Pairs(pairs.queries, pairs.references, shift(pairs.scores, offsets[pairs.queries]))
    # one step up: scores of pairs left out may round to the bound
    up = np.nextafter(shift(bounds, offsets), np.float32(np.inf))
    bounds = np.where(np.isneginf(bounds), bounds, up)
    keep = (shifted.scores >= floors[pairs.references]) & (shifted.scores > bounds[pairs.queries])
    return shifted.take(np.flatnonzero(keep)), bounds


def shift(scores: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """scores float32 − offsets float64, rounded to float32; equal differences have equal bytes."""
    return (scores.astype(np.float64) - offsets).astype(np.float32) + np.float32(0)
