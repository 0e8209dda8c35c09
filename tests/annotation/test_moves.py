"""Who takes over which pair: no annotator gets a pair twice, no pair is lost, the load stays even."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.annotation.assignment.queues import assign_new_pairs
from ndec_builder.annotation.assignment.reassign import open_rows, reassign, rows_for_newcomers
from ndec_builder.core.schemas import TASKS, table_of

NONE = table_of(TASKS, [])


def pairs(count: int) -> list[tuple[str, str, str]]:
    return [(f"p{i:03d}", f"q{i}", f"r{i}") for i in range(count)]


def looks(rows: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    return Counter((row["pair_id"], row["annotator"]) for row in rows)


@given(
    count=st.integers(1, 40),
    people=st.integers(2, 4),
    overlap=st.floats(0, 1),
    overlap_people=st.sampled_from([2, 3]),
    done=st.sets(st.integers(0, 39)),
)
def test_leaving_keeps_every_pair_and_every_label(
    count: int, people: int, overlap: float, overlap_people: int, done: set[int]
) -> None:
    names = ["ann", "ben", "cleo", "dan"][:people]
    tasks = assign_new_pairs(pairs(count), "first", names, tasks=NONE, overlap=overlap, overlap_people=overlap_people)
    rows = tasks.to_pylist()
    labelled = {(f"p{i:03d}", "first", name) for i in done for name in names}
    leaving = open_rows(rows, labelled, "first", "ann")
    result = reassign(tasks, leaving, names[1:], labelled)
    after = result.tasks.to_pylist()
    assert not result.stuck and result.moved + result.dropped == len(leaving)
    assert {row["pair_id"] for row in after} == {row["pair_id"] for row in rows}
    assert max(looks(after).values()) == 1
    before, now = Counter(row["pair_id"] for row in rows), Counter(row["pair_id"] for row in after)
    assert all(now[pair] <= before[pair] for pair in before)  # never beyond the chosen overlap
    assert result.dropped == sum((before - now).values())
    assert open_rows(after, labelled, "first", "ann") == []
    kept = [row for row in rows if row not in leaving]
    assert [row for row in after if row in kept] == kept  # nobody else's queue changes but at its end
    for name in names[1:]:
        positions = [row["position"] for row in after if row["annotator"] == name]
        assert len(set(positions)) == len(positions)
    again = reassign(result.tasks, open_rows(after, labelled, "first", "ann"), names[1:], labelled)
    assert again.tasks.equals(result.tasks)


@given(count=st.integers(1, 60), newcomers=st.integers(1, 2), done=st.sets(st.integers(0, 59)))
def test_newcomers_take_an_even_share_from_the_ends(count: int, newcomers: int, done: set[int]) -> None:
    old, new = ["ann", "ben"], ["cleo", "dan"][:newcomers]
    tasks = assign_new_pairs(pairs(count), "first", old, tasks=NONE)
    rows = tasks.to_pylist()
    labelled = {(f"p{i:03d}", "first", name) for i in done for name in old}
    given_away = rows_for_newcomers(rows, labelled, "first", new, [*old, *new])
    for donor, chosen in given_away.items():
        queue = open_rows(rows, labelled, "first", donor)
        assert {r["pair_id"] for r in chosen} == {r["pair_id"] for r in queue[len(queue) - len(chosen) :]}
        tasks = reassign(tasks, chosen, new, labelled).tasks
    load = [len(open_rows(tasks.to_pylist(), labelled, "first", name)) for name in [*old, *new]]
    even = sum(load) / len(load)
    assert max(load) <= max(even + 1, min(load) + 1, 1)
    assert not rows_for_newcomers(tasks.to_pylist(), labelled, "first", new, [*old, *new])


def test_gold_pairs_are_dropped_and_the_only_annotator_cannot_leave() -> None:
    base = {"round": "first", "annotator": "ann", "batch": 1, "query_id": "q", "reference_id": "r"}
    rows = [
        base | {"pair_id": "g", "position": 1, "is_gold": True},
        base | {"pair_id": "p", "position": 2, "is_gold": False},
    ]
    tasks = table_of(TASKS, rows)
    result = reassign(tasks, rows, ["ben"], set())
    assert [(r["pair_id"], r["annotator"]) for r in result.tasks.to_pylist()] == [("p", "ben")] and result.dropped == 1
    alone = reassign(tasks, rows[1:], [], set())
    assert [row["pair_id"] for row in alone.stuck] == ["p"] and alone.tasks.num_rows == 2


def test_a_pair_seen_in_another_round_does_not_come_back() -> None:
    base = {"pair_id": "p", "batch": 1, "position": 1, "query_id": "q", "reference_id": "r", "is_gold": False}
    rows = [base | {"round": "first", "annotator": "ben"}, base | {"round": "double_check", "annotator": "ann"}]
    result = reassign(table_of(TASKS, rows), rows[1:], ["ben"], {("p", "first", "ben")})
    assert [row["annotator"] for row in result.stuck] == ["ann"]
