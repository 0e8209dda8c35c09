"""The approximate search: its scores are exact, its recall is measured and correct."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from ndec_builder.candidates.search.exact import top_pairs
from ndec_builder.candidates.search.faiss_flat import FlatPass
from ndec_builder.candidates.search.faiss_ivf import IvfOptions, IvfPass
from ndec_builder.candidates.search.proposals import Rough
from ndec_builder.candidates.search.recall import measure_recall
from ndec_builder.core.errors import UsageError


def unit16(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(threads)


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(7)
    references = rng.normal(size=(3000, 32))
    queries = references[rng.integers(0, 3000, 600)] + rng.normal(size=(600, 32)) / 2
    return unit16(queries), unit16(references)


def exact(vectors):
    return (vectors[0].astype(np.float64) @ vectors[1].astype(np.float64).T).astype(np.float32)


@pytest.mark.parametrize("options", [IvfOptions(), IvfOptions(lists=20, probes=2, pq_bytes=4)])
def test_pairs_have_exact_scores_and_most_are_found(vectors, options):
    queries, references = vectors
    engine = IvfPass(references, options)
    ids = range(600), range(3000)
    pairs = top_pairs(ids[0], queries, ids[1], references, top=200, engine=engine)
    np.testing.assert_array_equal(pairs.scores, exact(vectors)[pairs.queries, pairs.references])
    want = top_pairs(ids[0], queries, ids[1], references, top=200, search="faiss")
    common = set(zip(pairs.queries, pairs.references, strict=True)) & set(
        zip(want.queries, want.references, strict=True)
    )
    assert len(common) > 100


def test_all_lists_probed_is_the_exact_search(vectors):
    queries, references = vectors
    engine = IvfPass(references, IvfOptions(lists=10, probes=10))
    recall = measure_recall(queries, references, engine, FlatPass(references), 0.7)
    assert (recall.queries, recall.nearest, recall.pairs_found) == (600, 1.0, 1.0)
    scores = exact(vectors)
    assert recall.pairs == int((scores >= np.float32(0.7)).sum())
    assert str(recall) == (
        f"recall on 600 sampled queries: 100.00% of the nearest references, 100.00% of their {recall.pairs} pairs at "
        "or above the cut"
    )


def test_recall_counts_what_is_missed(vectors):
    """An index that finds nothing for every third query."""
    queries, references = vectors

    class Forgetful:
        def search(self, block, wanted):
            rough = FlatPass(references).search(block, wanted)
            keep = rough.rows % 3 != 0
            return Rough(rough.rows[keep], rough.columns[keep], rough.bounds)

    cut = 0.75
    recall = measure_recall(queries, references, Forgetful(), FlatPass(references), cut)
    assert recall.nearest == pytest.approx(2 / 3)
    above = exact(vectors) >= np.float32(cut)
    assert recall.pairs_found == pytest.approx(above[np.arange(600) % 3 != 0].sum() / above.sum())
    assert measure_recall(queries, references, Forgetful(), FlatPass(references), 2.0).pairs_found is None
    offsets = np.full(600, 0.5)  # normalised scores and a cut of them
    shifted = measure_recall(queries, references, Forgetful(), FlatPass(references), cut - 0.5, offsets)
    assert shifted.pairs == recall.pairs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (IvfOptions(lists=4000), "ivf_lists is 4000, but there are 3000 references"),
        (IvfOptions(pq_bytes=7), "ivf_pq_bytes is 7; it must divide the 32 dimensions"),
    ],
)
def test_bad_options(vectors, options, message):
    with pytest.raises(UsageError, match=message):
        IvfPass(vectors[1], options)
