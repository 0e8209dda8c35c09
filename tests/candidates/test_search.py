"""Search against a brute-force walk over all pairs, with many ties, random caps and block sizes."""

from __future__ import annotations

from fractions import Fraction

import faiss
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ndec_builder.candidates.search import exact as search
from ndec_builder.candidates.search import rounds
from ndec_builder.candidates.search.bf16 import Bf16Error, Bf16Pass
from ndec_builder.candidates.search.exact import best_scores, pairs_above, score_pairs, top_pairs
from ndec_builder.candidates.search.faiss_flat import FlatPass
from ndec_builder.core.errors import NdecError
from support.needs import missing

ENGINES = {"bf16": Bf16Pass, "faiss": FlatPass}


def engine_of(name, references, tile):
    """A first pass that looks at `tile` references at a time, so that small problems have many tiles."""
    try:
        engine = ENGINES[name](references, tile)
        if len(references) % 2 and isinstance(engine, FlatPass):
            engine.kept = None  # as for references too many to be kept in float32
        return engine
    except Bf16Error as error:
        missing(str(error))


@pytest.fixture(params=ENGINES, autouse=True)
def every_first_pass(request, monkeypatch):
    """Every test runs with both first passes, whatever `auto` would take for so few vectors."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small products are slower on several
    faiss.omp_set_num_threads(1)
    monkeypatch.setattr(search, "choose", lambda _, __, references: engine_of(request.param, references, 512))
    yield request.param
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)


def brute_force(query_ids, queries, reference_ids, references, top, max_per_query, max_per_reference, offsets=None):
    """All pairs by exact rational arithmetic, sorted in Python, walked greedily."""
    rows = []
    taken_off = dict(zip(query_ids, [0.0] * len(query_ids) if offsets is None else offsets, strict=True))
    for query_id, query in zip(query_ids, queries, strict=True):
        for reference_id, reference in zip(reference_ids, references, strict=True):
            dot = sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(query, reference, strict=True))
            score = np.float32(float(np.float32(float(dot))) - taken_off[query_id])
            rows.append((-float(score), query_id, reference_id))
    taken, per_query, per_reference = [], {}, {}
    for score, query_id, reference_id in sorted(rows):
        if max_per_query and per_query.get(query_id, 0) >= max_per_query:
            continue
        if max_per_reference and per_reference.get(reference_id, 0) >= max_per_reference:
            continue
        if len(taken) == top:
            break
        per_query[query_id] = per_query.get(query_id, 0) + 1
        per_reference[reference_id] = per_reference.get(reference_id, 0) + 1
        taken.append((query_id, reference_id, -score))
    return taken


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    levels = draw(st.sampled_from([2, 3, 1000]))  # two or three values per coordinate: ties everywhere
    n, m, d = draw(st.integers(1, 24)), draw(st.integers(1, 40)), draw(st.integers(1, 5))
    queries, references = (rng.integers(0, levels, (k, d)) / max(1, levels - 1) - 0.5 for k in (n, m))
    names = [f"{i:x}" for i in rng.permutation(200)[: n + m]]
    return (
        (names[:n], queries.astype(np.float16), names[n:], references.astype(np.float16)),
        {
            "top": draw(st.integers(1, n * m + 3)),
            "max_per_query": draw(st.integers(0, 4)),
            "max_per_reference": draw(st.integers(0, 4)),
        },
        draw(st.integers(1, 30)),
    )


FORMS = st.tuples(st.sampled_from(sorted(ENGINES)), st.integers(1, 30), st.integers(1, 9), st.sampled_from([3, 2048]))


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(problems(), FORMS, st.sampled_from([None, 0.0, 0.5]))
def test_top_pairs_equal_brute_force(problem, form, spread):
    """Any first pass, tile, block and size of the sample, with and without offsets: the walk over all pairs."""
    (query_ids, queries, reference_ids, references), caps, block = problem
    name, tile, _, sample = form
    offsets = None if spread is None else np.random.default_rng(block).integers(-2, 3, len(queries)) * spread / 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "SAMPLE", sample)
        patch.setattr(rounds, "GUESS_SPARE", 1)
        engine = engine_of(name, references, tile)
        pairs = top_pairs(
            query_ids, queries, reference_ids, references, **caps, block=block, engine=engine, offsets=offsets
        )
    got = [
        (query_ids[q], reference_ids[r], float(s))
        for q, r, s in zip(pairs.queries, pairs.references, pairs.scores, strict=True)
    ]
    assert got == brute_force(query_ids, queries, reference_ids, references, *caps.values(), offsets)


@pytest.mark.slow
@pytest.mark.parametrize(("top", "max_per_query", "max_per_reference"), [(300, 1, 3), (900, 2, 0), (2500, 0, 2)])
def test_floors_guesses_and_dense_tiles_change_nothing(every_first_pass, top, max_per_query, max_per_reference):
    """Thousands of queries around a few hubs, so that every shortcut is taken: the sample, rising floors, full
    references, tiles cut to their best, lists that are too short. Against a walk over the full float64 matrix."""
    rng = np.random.default_rng(top)
    references = rng.normal(size=(90, 16))
    queries = np.repeat(references[rng.integers(0, 6, 40)], 60, axis=0) + rng.normal(size=(2400, 16)) / 3
    queries, references = (unit16(v) for v in (queries, references))
    queries[1::7] = queries[0]  # ties between queries
    references[50:] = references[:40]  # and between references
    names = [f"{i:04d}" for i in range(2400)]
    scores = (queries.astype(np.float64) @ references.astype(np.float64).T).astype(np.float32)
    per_query, per_reference, want = np.zeros(2400, int), np.zeros(90, int), []
    for q, r in zip(*np.unravel_index(np.argsort(-scores, axis=None, kind="stable"), scores.shape), strict=True):
        if len(want) < top and per_query[q] < (max_per_query or 90) and per_reference[r] < (max_per_reference or 2400):
            per_query[q], per_reference[r] = per_query[q] + 1, per_reference[r] + 1
            want.append((q, r))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "SAMPLE", 64)
        patch.setattr("ndec_builder.candidates.search.selection.SETTLE_AT", 500)
        caps = {"top": top, "max_per_query": max_per_query, "max_per_reference": max_per_reference}
        for tile, block in ((32, 100), (64, 1000)):
            engine = engine_of(every_first_pass, references, tile)
            pairs = top_pairs(names, queries, names[:90], references, **caps, block=block, engine=engine)
            assert list(zip(pairs.queries, pairs.references, strict=True)) == want
            np.testing.assert_array_equal(pairs.scores, scores[pairs.queries, pairs.references])


def unit16(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.mark.slow
def test_hub_references_and_ties_beyond_the_first_depth():
    """300 copies of one reference: every list of depth 8, 32, 128 ends in a tie, and the hub is capped."""
    rng = np.random.default_rng(1)
    hub = rng.normal(size=8)
    references = np.vstack([np.tile(hub, (300, 1)), rng.normal(size=(20, 8))])
    references = (references / np.linalg.norm(references, axis=1, keepdims=True)).astype(np.float16)
    queries = np.tile(references[:1], (40, 1))
    names = [f"r{i:03d}" for i in range(320)], [f"q{i:02d}" for i in range(40)]
    pairs = top_pairs(names[1], queries, names[0], references, top=60, max_per_query=2, max_per_reference=1)
    want = brute_force(names[1], queries, names[0], references, 60, 2, 1)
    assert [(names[1][q], names[0][r]) for q, r in zip(pairs.queries, pairs.references, strict=True)] == [
        row[:2] for row in want
    ]


@pytest.mark.slow
def test_scores_closer_than_the_rounding_errors_of_faiss():
    """One vector with its entries moved between places of equal query value, and two changed by some
    2**-24: exact scores differ by a few float32 steps, and FAISS's float32 sums by more than that."""
    sign = np.where(np.arange(1024) % 2, 1.0, -1.0)
    queries = (sign * 2.0**-5).astype(np.float16)[None]
    names = [f"r{i:03d}" for i in range(60)]
    for seed in range(15, 30):
        rng = np.random.default_rng(seed)
        base = (rng.normal(size=1024) / 4).astype(np.float16)
        references = np.tile(base, (60, 1))
        for row in references:
            row[::2], row[1::2] = rng.permutation(row[::2]), rng.permutation(row[1::2])
            row[np.argsort(np.abs(row))[:2]] = rng.integers(-3, 4, 2) * 2.0**-24
        exact = (references.astype(np.float64) @ queries[0].astype(np.float64)).astype(np.float32)
        for top in (1, 2, 3, 5):
            pairs = top_pairs(["q"], queries, names, references, top=top, max_per_query=top, max_per_reference=1)
            assert pairs.references.tolist() == np.lexsort((np.arange(60), -exact))[:top].tolist()
            np.testing.assert_array_equal(pairs.scores, np.sort(exact)[::-1][:top])


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_same_bytes_for_any_block_size(block):
    rng = np.random.default_rng(5)
    queries, references = (rng.normal(size=(n, 96)) for n in (150, 400))
    queries, references = (
        (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float16) for v in (queries, references)
    )
    names = [f"{i:04d}" for i in range(400)]
    want = top_pairs(names[:150], queries, names, references, top=90, block=150)
    got = top_pairs(names[:150], queries, names, references, top=90, block=block)
    for name in ("queries", "references", "scores"):
        assert getattr(got, name).tobytes() == getattr(want, name).tobytes()


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(problems())
def test_pairs_above_and_best_scores(problem):
    (_, queries, _, references), _, block = problem
    exact = queries.astype(np.float64) @ references.astype(np.float64).T  # exact: few bits, see the module
    exact = exact.astype(np.float32)
    cut = float(np.sort(exact, axis=None)[exact.size // 2])
    found = pairs_above(queries, references, cut, block)
    want = {(int(q), int(r)) for q, r in np.argwhere(exact >= np.float32(cut))}
    assert len(found) == len(want)
    assert set(zip(found.queries.tolist(), found.references.tolist(), strict=True)) == want
    best = best_scores(queries, references, 3, block)
    np.testing.assert_array_equal(best, -np.sort(-exact, axis=1)[:, :3])
    cuts = exact[:, 0]  # a cut for each query
    found = pairs_above(queries, references, cuts, block)
    want = {(int(q), int(r)) for q, r in np.argwhere(exact >= cuts[:, None])}
    assert sorted(zip(found.queries.tolist(), found.references.tolist(), strict=True)) == sorted(want)
    found = pairs_above(queries, references, cuts, block, closest=2)
    want = {
        (row, int(column))
        for row, scores in enumerate(exact)
        for column in np.argsort(-scores, kind="stable")[:2]
        if scores[column] >= cuts[row]
    }
    assert sorted(zip(found.queries.tolist(), found.references.tolist(), strict=True)) == sorted(want)


def test_scores_of_normalised_vectors_are_exact():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(6, 1280))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    rows, columns = np.array([0, 1, 2, 3]), np.array([5, 4, 3, 3])
    scores = score_pairs(vectors, vectors, rows, columns)
    for row, column, score in zip(rows, columns, scores, strict=True):
        dot = sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(vectors[row], vectors[column], strict=True))
        assert score == np.float32(float(dot))
        assert Fraction(float(np.float64(float(dot)))) == dot  # float64 holds it without rounding


@pytest.mark.parametrize(
    ("queries", "references", "message"),
    [
        (np.zeros((0, 4)), np.ones((2, 4)), "no query vectors"),
        (np.ones((2, 4)), np.zeros((0, 4)), "no reference vectors"),
        (np.ones((2, 3)), np.ones((2, 4)), "expected 4-d vectors as in the reference embeddings, got 3-d"),
        (np.array([[1.0, np.nan]]), np.ones((2, 2)), "row 0 of the query vectors holds NaN"),
        (np.ones((2, 2)), np.array([[1.0, 1.0], [np.inf, 0]]), "row 1 of the reference vectors holds NaN"),
    ],
)
def test_bad_vectors(queries, references, message):
    with pytest.raises(NdecError, match=message):
        names = ["q"] * len(queries), ["r"] * len(references)
        top_pairs(names[0], queries.astype(np.float16), names[1], references.astype(np.float16), top=1)


@pytest.mark.parametrize("caps", [{}, {"max_per_reference": 1600}])
def test_a_search_for_all_pairs_says_nothing_of_a_cut(capsys, caps):
    """Nothing is cut, so no list ends above the cut; without caps one pass finds everything."""
    rng = np.random.default_rng(1)
    queries, references = (rng.normal(size=(n, 8)).astype(np.float16) / 4 for n in (1500, 40))
    engine = Counting(references)
    pairs = top_pairs(
        range(1500), queries, range(40), references, engine=engine, top=500_000,
        **({"max_per_query": 0, "max_per_reference": 0} | caps),
    )  # fmt: skip
    assert len(pairs) == 60_000
    assert "searched deeper" not in capsys.readouterr().err
    assert caps or engine.rows == 1500


class Counting(FlatPass):
    rows = 0

    def search(self, block, wanted):
        self.rows += len(block)
        return super().search(block, wanted)
