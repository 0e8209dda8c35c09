"""The features of rival pairs, against a simple second computation."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.annotation.decisions.rival_features import RIVALS, rival_features
from ndec_builder.core.schemas import CANDIDATES, table_of


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 25))
def test_rivals_are_the_other_pairs_of_query_and_reference(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [
        {"pair_id": f"p{n}", "query_id": f"q{rng.integers(6)}", "reference_id": f"r{rng.integers(5)}",
         "score": float(np.float32(rng.choice([0.3, 0.5, 0.7]))), "rank": n}
        for n in range(count)
    ]  # fmt: skip
    first = np.where(rng.random(count) < 0.2, np.nan, rng.random(count))
    found = rival_features(table_of(CANDIDATES, rows), first)
    assert found.shape == (count, len(RIVALS))
    known = [0.5 if np.isnan(p) else min(max(p, 0.002), 0.998) for p in first]
    odds = [np.log(p / (1 - p)) for p in known]
    for n, row in enumerate(rows):
        expected = []
        for side in ("query_id", "reference_id"):
            others = [m for m in range(count) if m != n and rows[m][side] == row[side]]
            expected.append(len(others))
            scores = [rows[m]["score"] for m in others]
            if not others:
                expected += [np.nan] * 3
            elif side == "query_id":
                best = max(odds[m] for m in others)
                expected += [best, odds[n] - best, row["score"] - max(scores)]
            else:
                above = np.mean([score > row["score"] for score in scores])
                expected += [np.mean([odds[m] for m in others]), row["score"] - np.mean(scores), above]
        np.testing.assert_allclose(found[n], expected, atol=1e-6)
    order = rng.permutation(count)  # the order of the pairs changes nothing
    shuffled = rival_features(table_of(CANDIDATES, [rows[n] for n in order]), first[order])
    np.testing.assert_allclose(shuffled, found[order], atol=1e-12)
