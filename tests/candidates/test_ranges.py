"""A search in ranges of queries, on any engine, against a greedy walk over all pairs that shares no code with it."""

from __future__ import annotations

import itertools
import os
import tempfile
from fractions import Fraction
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.candidates.search import ranges, rounds
from ndec_builder.candidates.search.ranges import RangedSearch, Shift
from ndec_builder.candidates.search.score_normalization import Normalization
from ndec_builder.candidates.search.selection import Caps
from ndec_builder.candidates.search.shared_vectors import SharedSearch, share_vectors
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor import free_memory
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.runner import perform

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # thousands of small files


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(threads)


def in_ranges(folder: Path, queries, references, caps, size, *, shift=None, block=8192, mark="f"):
    sides = share_vectors(queries, folder, "queries"), share_vectors(references, folder, "references")
    shared = SharedSearch(*sides, block=block)
    return RangedSearch(shared, caps, Engine(here=True), folder / "work", mark, shift, size)


def greedy(scores: dict[tuple[int, int], float], caps: Caps) -> list[tuple[int, int]]:
    """Take the best pair whose two sides have room, again and again; ties by query, then by reference."""
    left, room_q, room_r, taken = dict(scores), {}, {}, []
    while left and len(taken) < caps.top:
        pair = min(left, key=lambda pair: (-left[pair], pair))
        del left[pair]
        q, r = pair
        if room_q.setdefault(q, caps.max_per_query or 10**9) and room_r.setdefault(r, caps.max_per_reference or 10**9):
            room_q[q], room_r[r] = room_q[q] - 1, room_r[r] - 1
            taken.append(pair)
    return taken


def exact_scores(queries, references, offsets=None) -> dict[tuple[int, int], float]:
    found = {}
    for (q, query), (r, reference) in itertools.product(enumerate(queries), enumerate(references)):
        dot = sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(query, reference, strict=True))
        found[q, r] = float(np.float32(float(np.float32(float(dot))) - (0.0 if offsets is None else offsets[q])))
    return found


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    levels = draw(st.sampled_from([2, 3, 1000]))  # two or three values per coordinate: ties everywhere
    n, m, d = draw(st.integers(1, 16)), draw(st.integers(1, 12)), draw(st.integers(1, 4))
    queries, references = (
        (rng.integers(0, levels, (k, d)) / max(1, levels - 1) - 0.5).astype(np.float16) for k in (n, m)
    )
    caps = Caps(draw(st.integers(1, n * m + 2)), draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    return queries, references, caps


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(
    problems(),
    st.integers(1, 16),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
    st.sampled_from([1, 2, 8]),
    st.booleans(),
)
def test_any_split_is_the_greedy_walk(problem, size, block, order, depth, floors):
    """Any size of the ranges, any order in which they finish, floors passed on or not, short first lists."""
    queries, references, caps = problem
    with tempfile.TemporaryDirectory(dir=MEMORY) as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "SAMPLE", 3)
        patch.setattr(rounds, "GUESS_SPARE", 1)
        patch.setattr(rounds, "FIRST_DEPTH", depth)
        patch.setattr(ranges, "MERGE_AT", 0 if floors else 10**9)
        patch.setattr(ranges, "run_shards", in_order(order))
        patch.setattr(os, "fsync", lambda handle: None)
        pairs = in_ranges(Path(name), queries, references, caps, size, block=block).run()
    scores = exact_scores(queries, references)
    want = greedy(scores, caps)
    assert list(zip(pairs.queries.tolist(), pairs.references.tolist(), strict=True)) == want
    assert pairs.scores.tolist() == [scores[pair] for pair in want]


def in_order(chance):
    """`run_shards` that finishes the ranges in an order of its own."""

    def run(folder, plan, work, engine, *, on_done=None, **_):
        results = {}
        for shard in chance.sample(plan.shards, len(plan.shards)):
            results[shard.index] = perform(work, folder, shard)
            if on_done is not None:
                on_done(shard, results[shard.index])
        return [results[shard.index] for shard in plan.shards]

    return run


@pytest.fixture(scope="module")
def hubs():
    """3,000 queries around 6 of 90 references, so that references fill up and lists end too early; many ties."""
    rng = np.random.default_rng(3)
    references = rng.normal(size=(90, 16))
    queries = np.repeat(references[rng.integers(0, 6, 50)], 60, axis=0) + rng.normal(size=(3000, 16)) / 3
    queries, references = (
        (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float16) for v in (queries, references)
    )
    queries[1::7] = queries[0]
    references[50:] = references[:40]
    return queries, references


def walk(scores, caps):
    """The greedy walk over a matrix of scores (n, m)."""
    per_query, per_reference, want = np.zeros(len(scores), int), np.zeros(scores.shape[1], int), []
    for q, r in zip(*np.unravel_index(np.argsort(-scores, axis=None, kind="stable"), scores.shape), strict=True):
        if len(want) < caps.top and per_query[q] < caps.max_per_query and per_reference[r] < caps.max_per_reference:
            per_query[q], per_reference[r] = per_query[q] + 1, per_reference[r] + 1
            want.append((q, r))
    return want


@pytest.mark.slow
@pytest.mark.parametrize("normalised", [False, True])
def test_sample_floors_and_second_rounds(hubs, tmp_path, monkeypatch, normalised):
    monkeypatch.setattr(rounds, "SAMPLE", 64)
    queries, references = hubs
    caps, background = Caps(700, 2, 12), references[::3]
    scores = (queries.astype(np.float64) @ references.astype(np.float64).T).astype(np.float32)
    shift = None
    if normalised:
        shift = Shift(Normalization(1.0, 2), share_vectors(background, tmp_path, "background"))
        near = (queries.astype(np.float64) @ background.astype(np.float64).T).astype(np.float32)
        near = -np.sort(-near.astype(np.float64), axis=1)
        scores = (scores - ((near[:, 0] + near[:, 1]) / 2)[:, None]).astype(np.float32)
    search = in_ranges(tmp_path, queries, references, caps, 500, shift=shift, block=200)
    pairs = search.run()
    want = walk(scores, caps)
    assert list(zip(pairs.queries, pairs.references, strict=True)) == want
    np.testing.assert_array_equal(pairs.scores, scores[pairs.queries, pairs.references])
    assert search.ranges[:2] == [1, 6]
    assert len(search.ranges) > 2, "no query was searched deeper"


def test_finished_ranges_are_not_searched_again(hubs, tmp_path, monkeypatch, capsys):
    queries, references = hubs
    caps, searched = Caps(300, 1, 4), []
    work = ranges.RangeTask.__call__

    def until_the_fourth(task, shard):
        searched.append(shard.index)
        if len(searched) == 4:
            raise KeyboardInterrupt
        return work(task, shard)

    monkeypatch.setattr(ranges.RangeTask, "__call__", until_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        in_ranges(tmp_path, queries, references, caps, 500).run()
    pairs = in_ranges(tmp_path, queries, references, caps, 500).run()
    assert searched[:7] == [0, 1, 2, 3, 3, 4, 5]
    assert "3 of 6 shards are already done" in capsys.readouterr().err
    fresh = in_ranges(tmp_path / "fresh", queries, references, caps, 3000).run()
    for name in ("queries", "references", "scores"):
        assert getattr(pairs, name).tobytes() == getattr(fresh, name).tobytes()


def test_references_that_do_not_fit_into_memory_are_refused_with_both_sizes(hubs, tmp_path, monkeypatch):
    memory = tmp_path / "meminfo"
    memory.write_text("MemTotal: 16 kB\nMemFree: 1 kB\nMemAvailable: 2 kB\n")
    monkeypatch.setattr(free_memory, "MEMINFO", memory)
    with pytest.raises(NdecError, match=r"90 vectors of 16 dimensions take 0\.0 GB.* nodes with more memory"):
        in_ranges(tmp_path, *hubs, Caps(10, 1, 1), 500).run()


def test_vectors_that_changed_are_read_again(tmp_path):
    """The same files with other vectors, in one process."""
    queries = np.eye(3, dtype=np.float16)
    for number, references in enumerate((queries[:1], queries[2:])):
        pairs = in_ranges(tmp_path, queries, references, Caps(1, 1, 1), 10, mark=str(number)).run()
        assert pairs.queries.tolist() == [2 * number]


@pytest.mark.parametrize(
    ("size", "references", "dim"), [(1024, 10**9, 512), (20_480, 10**6, 512), (2**20, 18_626, 512)]
)
def test_ranges_of_a_large_search_have_about_the_same_work(size, references, dim):
    assert ranges.range_size_for(10**9, references, dim) == pytest.approx(size, rel=0.05)


def test_a_medium_search_has_sixteen_ranges_and_a_small_one_fewer():
    assert -(-500_000 // ranges.range_size_for(500_000, 50_000, 512)) == 16
    assert -(-100_000 // ranges.range_size_for(100_000, 20_000, 512)) == 3  # 10¹² multiplications
    assert ranges.range_size_for(3000, 1000, 512) > 3000
