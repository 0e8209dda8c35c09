"""Who gets which pair."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.annotation.assignment.queues import (
    assign_new_pairs,
    default_annotators,
    disputed_pairs,
    double_check_pairs,
    pairs_to_label,
)
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import CANDIDATES, DECISIONS, LABEL_ROWS, TASKS, table_of

NONE = table_of(TASKS, [])
NAMES = ("ann", "ben", "cat", "dan")


def pairs(count: int, start: int = 0) -> list[tuple[str, str, str]]:
    return [(f"p{i:03d}", f"q{i}", f"r{i}") for i in range(start, start + count)]


def test_pairs_come_in_rank_order_once_without_duplicates() -> None:
    def table(*rows: tuple[int, str, str | None]) -> pa.Table:
        filled = [
            {"rank": rank, "pair_id": p, "query_id": "q" + p, "reference_id": "r", "duplicate_of": d}
            for rank, p, d in rows
        ]
        return table_of(CANDIDATES, filled)

    first, recheck = table((2, "b", None), (1, "a", None), (3, "c", "r")), table((1, "d", None), (2, "a", None))
    assert pairs_to_label([first, recheck]) == [("a", "qa", "r"), ("b", "qb", "r"), ("d", "qd", "r")]


@given(count=st.integers(0, 60), people=st.integers(1, 4), overlap=st.floats(0, 1), more=st.integers(0, 20))
def test_the_queues_are_even_complete_and_never_change_afterwards(
    count: int, people: int, overlap: float, more: int
) -> None:
    names = NAMES[:people]
    first = assign_new_pairs(pairs(count), "first", names, tasks=NONE, overlap=overlap)
    rows = first.to_pylist()
    seen = Counter(row["pair_id"] for row in rows)
    assert set(seen) == {p for p, _, _ in pairs(count)}
    twice = sum(n == 2 for n in seen.values())
    assert twice == (int(count * overlap + 1e-9) if people > 1 else 0) and max(seen.values(), default=0) <= 2
    load = Counter(row["annotator"] for row in rows)
    assert max((load[n] for n in names), default=0) - min((load[n] for n in names), default=0) <= 1
    for name in names:  # positions 1, 2, 3 … in rank order
        own = [(row["position"], row["pair_id"]) for row in rows if row["annotator"] == name]
        assert [p for p, _ in own] == list(range(1, len(own) + 1)) and own == sorted(own)
    assert assign_new_pairs(pairs(count), "first", names, tasks=first, overlap=overlap).num_rows == 0  # idempotent
    second = assign_new_pairs(pairs(count + more), "first", names, tasks=first, overlap=overlap).to_pylist()
    assert {row["pair_id"] for row in second} == {p for p, _, _ in pairs(more, count)}
    assert all(row["batch"] == 2 for row in second) or not rows or not second


def test_a_later_round_never_goes_to_an_annotator_who_saw_the_pair() -> None:
    seen_by = {"p000": {"ann"}, "p001": {"ben"}, "p002": {"ann", "ben"}}
    rows = assign_new_pairs(pairs(3), "double_check", ("ann", "ben", "cat"), tasks=NONE, seen_by=seen_by).to_pylist()
    assert all(row["annotator"] not in seen_by[row["pair_id"]] for row in rows) and len(rows) == 3
    with pytest.raises(NdecError, match=r"too few annotators for the round 'double_check'.* name 1 more"):
        assign_new_pairs(pairs(3), "double_check", ("ann", "ben"), tasks=NONE, seen_by=seen_by)


def test_which_pairs_the_later_rounds_re_label() -> None:
    def label(pair_id: str, annotator: str, value: str) -> dict[str, Any]:
        return {"pair_id": pair_id, "round": "first", "annotator": annotator, "label": value}

    rows = [label("a", "x", "hard_negative"), label("b", "x", "unrelated"), label("c", "x", "unsure")]
    labels = table_of(LABEL_ROWS, [*rows, label("c", "y", "hard_negative"), label("b", "x", "hard_negative")])
    assert double_check_pairs(labels, "hard_negative") == {"a", "b"}  # b was changed; c is disputed
    assert double_check_pairs(table_of(LABEL_ROWS, rows), "all") == {"a", "b", "c"}
    decisions = [{"pair_id": "a", "decision": None, "labels": 2}, {"pair_id": "b", "decision": None, "labels": 0}]
    assert disputed_pairs(table_of(DECISIONS, [*decisions, {"pair_id": "c", "decision": "unsure", "labels": 2}])) == {
        "a"
    }


def test_active_annotators_continue_if_nobody_is_named() -> None:
    def tasks(*keys: tuple[str, str, str]) -> pa.Table:
        return table_of(TASKS, [{"pair_id": p, "round": r, "annotator": who} for p, r, who in keys])

    def labels(*keys: tuple[str, str, str]) -> pa.Table:
        return table_of(LABEL_ROWS, [{"pair_id": p, "round": r, "annotator": who} for p, r, who in keys])

    assert default_annotators(tasks(), labels(), "first") == ("annotator-1",)
    shared = tasks(("a", "first", "ben"), ("b", "first", "ann"), ("c", "first", "ben"))
    assert default_annotators(shared, labels(), "first") == ("ann", "ben")
    assert default_annotators(shared, labels(("b", "first", "ann")), "first") == ("ben",)  # ann is done, or has left
    done = labels(("b", "first", "ann"), ("a", "first", "ben"), ("c", "first", "ben"))
    assert default_annotators(shared, done, "first") == ("ann", "ben")
    assert default_annotators(shared, done, "double_check") == ("ann", "ben")
    assert default_annotators(tasks(("a", "double_check", "eva"), ("b", "first", "ann")), done, "double_check") == (
        "eva",
    )
