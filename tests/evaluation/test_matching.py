"""Matching against brute force, with plenty of ties."""

from __future__ import annotations

import numpy as np
import pytest

from ndec_builder.candidates.search.score_normalization import Normalization
from ndec_builder.core.errors import NdecError
from ndec_builder.evaluation.detectors import search
from ndec_builder.evaluation.detectors.search import Background, search_pairs


def brute_force(queries: np.ndarray, references: np.ndarray, k: int | None, limit: int) -> list[tuple[float, int, int]]:
    rows = []
    for q, left in enumerate(queries):
        own = [
            (-float(np.float32(sum(float(a) * float(b) for a, b in zip(left, right, strict=True)))), q, r)
            for r, right in enumerate(references)
        ]
        rows += sorted(own)[: k or len(own)]
    return [(-score, q, r) for score, q, r in sorted(rows)[:limit]]


@pytest.mark.parametrize("seed", range(12))
def test_equals_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sides = [rng.integers(-2, 3, (int(rng.integers(2, 14)), 6)).astype(float) for _ in range(2)]  # few values: ties
    queries, references = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1) for x in sides)
    queries, references = queries.astype(np.float16), references.astype(np.float16)
    ids = [f"q{i:03d}" for i in range(len(queries))], [f"r{i:03d}" for i in range(len(references))]
    for k, limit in ((None, 10_000), (None, 7), (2, 10_000), (3, 5), (99, 10_000)):
        found = search_pairs(ids[0], queries, ids[1], references, k=k, limit=limit)
        order = np.lexsort((found.reference, found.query, -found.scores))
        got = [(float(found.scores[i]), int(found.query[i]), int(found.reference[i])) for i in order]
        assert got == brute_force(queries, references, k, limit), (k, limit)


@pytest.mark.parametrize("weight", [0.0, 1.5])
def test_sorting_all_pairs_gives_what_a_search_gives(weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    sides = [rng.integers(-3, 4, (count, 16)).astype(float) for count in (60, 50, 20)]  # few values: ties
    queries, references, others = ((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16) for x in sides)
    background = Background(others, Normalization(weight, 3)) if weight else None
    ids = [f"q{i:03d}" for i in range(60)], [f"r{i:03d}" for i in range(50)]
    found = []
    for few in (0, search.FEW_PAIRS):
        monkeypatch.setattr(search, "FEW_PAIRS", few)
        found.append(search_pairs(ids[0], queries, ids[1], references, background=background, limit=1000))
    searched, sorted_pairs = found
    assert len(searched) == 1000 and searched.protocol == sorted_pairs.protocol
    for name in ("query", "reference", "scores"):
        one, two = getattr(searched, name), getattr(sorted_pairs, name)
        assert one.dtype == two.dtype and np.array_equal(one, two), name


def test_says_how_it_searched() -> None:
    vectors = np.eye(4, dtype=np.float16)
    ids = list("abcd")
    assert search_pairs(ids, vectors, ids, vectors).protocol == "all pairs of 4 queries × 4 references, raw cosine"
    assert "global top 5 of 4 queries" in search_pairs(ids, vectors, ids, vectors, limit=5).protocol
    assert "top 2 per query" in search_pairs(ids, vectors, ids, vectors, k=2).protocol


def test_a_pair_scores_the_same_whatever_is_searched_with_it() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 256))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    ids = [f"{i:02d}" for i in range(40)]
    whole = search_pairs(ids, vectors, ids, vectors)
    for i, j in ((0, 39), (17, 3)):
        alone = search_pairs(ids[i : i + 1], vectors[i : i + 1], ids[j : j + 1], vectors[j : j + 1])
        assert alone.scores[0] == whole.scores[(whole.query == i) & (whole.reference == j)][0]


def test_bad_vectors() -> None:
    with pytest.raises(NdecError, match="3-d"):
        search_pairs(["a"], np.ones((1, 3), np.float16), ["b"], np.ones((1, 4), np.float16))
    with pytest.raises(NdecError, match="NaN"):
        search_pairs(["a"], np.full((1, 3), np.nan, np.float16), ["b"], np.ones((1, 3), np.float16))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", ["mean", "min"])
def test_normalised_scores_and_their_top_equal_brute_force(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    queries, references, background = (
        (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)
        for x in (rng.normal(size=(int(rng.integers(4, 15)), 6)) for _ in range(3))
    )
    n = int(rng.integers(1, 4))
    normalisation = Background(background, Normalization(1.5, n, kind))
    ids = [f"q{i:03d}" for i in range(len(queries))], [f"r{i:03d}" for i in range(len(references))]
    expected = []
    for row, query in enumerate(queries.astype(float)):
        best = sorted((float(np.float32(query @ other)) for other in background.astype(float)), reverse=True)[:n]
        offset = 1.5 * (sum(best) / n if kind == "mean" else best[-1])
        for column, reference in enumerate(references.astype(float)):
            expected.append((float(np.float32(float(np.float32(query @ reference)) - offset)), row, column))
    expected.sort(key=lambda entry: (-entry[0], entry[1], entry[2]))
    for limit in (10_000, 9):
        found = search_pairs(ids[0], queries, ids[1], references, background=normalisation, limit=limit)
        order = np.lexsort((found.reference, found.query, -found.scores))
        assert found.scores[order] == pytest.approx([score for score, _, _ in expected[:limit]])
        pairs = list(zip(found.query[order].tolist(), found.reference[order].tolist(), strict=True))
        assert pairs == [(q, r) for _, q, r in expected[:limit]]
    assert "background images" in found.protocol


def test_a_background_that_is_too_small() -> None:
    vectors = np.eye(4, dtype=np.float16)
    with pytest.raises(NdecError, match="10 best background scores, but the background has 4"):
        search_pairs(
            list("abcd"), vectors, list("abcd"), vectors, background=Background(vectors, Normalization(1.0, 10))
        )


def test_the_old_name_still_works_and_warns() -> None:
    from ndec_builder import evaluation

    with pytest.warns(DeprecationWarning, match="search_pairs"):
        assert evaluation.match is search_pairs
