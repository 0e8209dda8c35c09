"""The audit: who gets which pairs, what its labels mean, and that the bound holds with simulated annotators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, hypergeom

from ndec_builder.annotation.decisions.audit import (
    audit_bound,
    audit_sample,
    audit_verdict,
    disputed_in_audit,
    evaluate_audit,
    overruled,
    pairs_needed,
    unconfirmed_in_audit,
)
from ndec_builder.annotation.decisions.audit_text import audit_text
from ndec_builder.annotation.decisions.binomial import rare_upper
from ndec_builder.annotation.decisions.label_statistics import draw_pairs
from ndec_builder.core.schemas import LABELS


@pytest.mark.parametrize(
    ("votes", "expected", "decision"),
    [
        ("", "open", None),
        ("h", "clean", None),
        ("u", "clean", None),
        ("c", "doubtful", (None, None)),
        ("hh", "clean", None),
        ("hu", "clean", None),  # they differ, but nobody says copy
        ("cc", "copy", ("edited_copy", "adjudicated")),
        ("hc", "doubtful", (None, None)),
        ("hcc", "copy", ("edited_copy", "adjudicated")),
        ("hch", "clean", None),
        ("cuh", "clean", None),
        ("??", "doubtful", ("unsure", "adjudicated")),
        ("h?", "clean", None),
        ("cchh", "doubtful", (None, None)),
    ],
)
def test_the_verdict_follows_from_the_audit_labels(votes: str, expected: str, decision: Any) -> None:
    names = dict(zip("chu?", LABELS, strict=True))
    given_ = [names[vote] for vote in votes]
    assert audit_verdict(given_) == expected and overruled(given_) == decision
    assert disputed_in_audit({"p": given_}) == (["p"] if expected == "doubtful" and votes != "??" else [])


@pytest.mark.slow
@given(st.sets(st.text("abc123", min_size=3, max_size=6), max_size=30), st.integers(0, 30), st.data())
def test_the_sample_is_a_beginning_of_the_random_order(kept: set[str], count: int, data: st.DataObject) -> None:
    """Pairs drawn once stay the sample while the kept ones stay; pairs kept later break it off, never thin it out."""
    given_ = set(draw_pairs(kept, count))
    assert audit_sample(kept, given_) == draw_pairs(kept, count)
    more = kept | data.draw(st.sets(st.text("abc123", min_size=3, max_size=6), max_size=5))
    found = audit_sample(more, given_)
    assert found == draw_pairs(more, len(found)) and set(found) <= given_


def found_at_most(found: int, drawn: int, kind: int, count: int) -> float:
    """P(at most `found` are found), by scipy: hypergeometric, each overlooked with 10 %."""
    there = np.arange(min(drawn, kind) + 1)
    return float((hypergeom.pmf(there, count, kind, drawn) * binom.cdf(found, there, 0.9)).sum())


def test_the_bound_is_for_the_remaining_pairs_and_doubtful_pairs_count_as_copies() -> None:
    pairs = [f"p{number}" for number in range(300)]
    votes = {pair: ["hard_negative"] for pair in pairs[:280]} | {
        "p3": ["edited_copy", "edited_copy"], "p4": ["edited_copy", "hard_negative"],
    }  # fmt: skip
    audit = evaluate_audit(5000, pairs, votes)
    assert (audit.drawn, audit.audited, audit.open, audit.copies, audit.doubtful) == (300, 280, 20, 1, 1)
    assert audit.bound is not None
    copies = round(audit.bound * 4998) + 2  # among the 5,000
    assert found_at_most(2, 280, copies, 5000) > 0.05 >= found_at_most(2, 280, copies + 1, 5000)
    assert "of the 5,000 kept" in audit_text(audit) and "further copy" in audit_text(audit)
    assert evaluate_audit(10, [], {}).bound is None and "none yet" in audit_text(evaluate_audit(10, [], {}))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 4), st.integers(1, 300), st.integers(0, 700))
def test_the_bound_is_the_exact_one(found: int, drawn: int, more: int) -> None:
    drawn = max(drawn, found)
    count = drawn + more
    copies = rare_upper(found, drawn, count, 0.1)
    assert found <= copies <= count
    assert found_at_most(found, drawn, copies, count) > 0.05 or copies == found
    assert copies == count or found_at_most(found, drawn, copies + 1, count) <= 0.05 + 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(("copies", "kept", "need"), [(0, 1667, 298), (1, 1667, 439), (0, 10**6, 332), (1, 30, None)])
def test_how_many_pairs_prove_one_per_cent(copies: int, kept: int, need: int | None) -> None:
    assert pairs_needed(copies, kept) == need
    if need is not None:
        enough, fewer = audit_bound(copies, need, kept), audit_bound(copies, need - 1, kept)
        assert enough is not None and fewer is not None and enough <= 0.01 < fewer


@pytest.mark.slow
def test_with_simulated_annotators_the_bound_covers_what_is_left() -> None:
    """SIMULATED: 60 audits of 1,000 pairs of which 2 % are copies, by people of 3 % and 8 % error."""
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(60):
        kept = [f"{number:05d}" for number in rng.permutation(100_000)[:1000]]
        truth = dict(zip(kept, rng.random(1000) < 0.02, strict=True))
        drawn = draw_pairs(kept, 300)

        def say(pair: str, truth: dict[str, Any] = truth) -> str:
            error = float(rng.choice([0.03, 0.08]))
            return "edited_copy" if truth[pair] != (rng.random() < error) else "hard_negative"

        votes = {pair: [say(pair)] for pair in drawn}
        for _ in range(4):
            for pair in {*disputed_in_audit(votes), *unconfirmed_in_audit(votes)}:
                votes[pair].append(say(pair))
        bound = evaluate_audit(len(kept), drawn, votes).bound
        out = {pair for pair in drawn if audit_verdict(votes[pair]) in ("copy", "doubtful")}
        left = sum(truth[pair] for pair in kept if pair not in out) / (len(kept) - len(out))
        covered += bound is not None and bound >= left
    assert covered >= 53  # 57 of 60 are expected; 52 or fewer happen once in a hundred


@pytest.mark.parametrize(
    ("votes", "again"),
    [
        *(("hh", False), ("hc", False), ("cc", True), ("ccc", False), ("cch", True), ("cccc", False), ("ccch", True)),
        *(
            ("??", True),
            ("??h", False),
            ("c", False),
            ("u", True),
            ("uu", False),
            ("uh", False),
            ("??hh", False),
            ("h", False),
        ),
    ],
)
def test_what_counts_against_the_dataset_is_confirmed(votes: str, again: bool) -> None:
    words = dict(zip("chu?", LABELS, strict=True))
    assert unconfirmed_in_audit({"p": [words[vote] for vote in votes]}) == (["p"] if again else [])


def test_confirmation_spares_clean_pairs_and_finds_copies() -> None:
    """SIMULATED: annotators with 8 % errors; at most six of them label a pair."""
    rng = np.random.default_rng(7)

    def say(truth: str) -> str:
        return truth if rng.random() > 0.08 else str(rng.choice([label for label in LABELS if label != truth]))

    found = {}
    for truth in ("hard_negative", "edited_copy"):
        votes = {str(n): [say(truth), say(truth)] for n in range(6000)}
        plain = {
            pair: given + [say(truth)] * (pair in disputed_in_audit({pair: given})) for pair, given in votes.items()
        }
        for _ in range(4):
            for pair in {*disputed_in_audit(votes), *unconfirmed_in_audit(votes)}:
                votes[pair] = [*votes[pair], say(truth)]
        found[truth] = [
            np.mean([audit_verdict(given) in ("copy", "doubtful") for given in some.values()])
            for some in (plain, votes)
        ]
    assert found["hard_negative"][1] < 0.0005 < 0.002 < found["hard_negative"][0]
    assert found["edited_copy"][1] > 0.975
