"""Pairs that cannot be kept any more, and pairs that wait for another label, against the rule for keeping queries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.annotation.assignment.undecided_queries import pairs_behind_likely_copies, pairs_of_dropped_queries
from ndec_builder.annotation.settings import PushConfig, StatusConfig
from ndec_builder.annotation.status import former_text, unassigned_pairs
from ndec_builder.candidates.kept_queries import kept_queries
from ndec_builder.cli.assist.status import first_open_step, survey
from ndec_builder.core.errors import UsageError
from ndec_builder.core.schemas import CANDIDATES, DECISIONS, LABEL_ROWS, LABELS, table_of
from ndec_builder.core.storage import read_table, write_table
from support.replaced_picture import Team
from support.votes import labels_of, push_rows, tasks_of


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 12))
def test_a_pair_of_a_dropped_query_is_in_no_dataset_whatever_its_label(seed: int, queries: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = [(f"p{n}", f"q{rng.integers(queries)}", f"r{n}") for n in range(20)]
    told = {pair[0]: rng.choice([*LABELS, None], p=[0.2, 0.2, 0.2, 0.1, 0.3]) for pair in pairs}
    candidates = table_of(
        CANDIDATES,
        [
            {"pair_id": p, "query_id": q, "reference_id": r, "score": 0.5, "rank": n}
            for n, (p, q, r) in enumerate(pairs)
        ],
    )

    def decisions(changed: dict[str, str | None]) -> object:
        rows = [{"pair_id": p, "decision": None if d is None else str(d)} for p, d in (told | changed).items()]
        return table_of(DECISIONS, rows)

    out = pairs_of_dropped_queries(pairs, decisions({}))
    for pair in out:
        before = kept_queries(candidates, decisions({})).kept
        assert all(kept_queries(candidates, decisions({pair: label})).kept == before for label in LABELS)
    # and only such: a query's copy itself is not settled by itself
    for pair, query, _ in pairs:
        others = [told[p] for p, q, _ in pairs if q == query and p != pair]
        assert (pair in out) == ("edited_copy" in others)
    chances = {pair[0]: float(rng.random()) for pair in pairs}
    late = pairs_behind_likely_copies(pairs, decisions({}), chances)
    for query in {pair[1] for pair in pairs}:
        own = [pair[0] for pair in pairs if pair[1] == query]
        best = max(own, key=lambda pair: chances[pair])
        assert best not in late
        assert set(own) & late == (set(own) - {best} if told[best] is None and chances[best] >= 0.5 else set())


def test_a_push_skips_pairs_that_cannot_matter(tmp_path: Path) -> None:
    chances = {"copy": 0.9, "other": 0.2, "alone": 0.8, "plain": 0.1}
    rows = [
        {"pair_id": pair, "split": "test", "query_id": {"copy": "q1", "other": "q1"}.get(pair, pair),
         "reference_id": pair, "score": 0.9, "rank": n + 1, "prelabel": "edited_copy" if p >= 0.5 else "hard_negative",
         "prelabel_confidence": max(p, 1 - p)}
        for n, (pair, p) in enumerate(chances.items())
    ]  # fmt: skip
    table = table_of(CANDIDATES, rows)
    config = PushConfig(tmp_path, annotators=("ann", "ben"), overlap=0.0, keepable=True)
    first = push_rows(config, [table])
    assert sorted(first["pair_id"].to_pylist()) == ["alone", "copy", "plain"]
    for label, then in (("edited_copy", []), ("hard_negative", ["other"])):
        labels = [
            {"pair_id": row["pair_id"], "round": "first", "annotator": row["annotator"], "label": label, "batch": 1,
             "is_gold": False}
            for row in first.to_pylist()
        ]  # fmt: skip
        more = push_rows(config, [table], first, table_of(LABEL_ROWS, labels))
        assert more["pair_id"].to_pylist() == then
    with pytest.raises(UsageError, match="keepable is for the split test"):
        PushConfig(tmp_path, split="train", keepable=True)


def test_finishing_queries_pushes_the_open_pairs_that_alone_drop_a_hard_negative(tmp_path: Path) -> None:
    """q1: hard and open. q2: hard, a copy and open. q3: unrelated and open. q4: hard alone."""
    ends = [("a", "q1"), ("b", "q1"), ("c", "q2"), ("d", "q2"), ("e", "q2"), ("f", "q3"), ("g", "q3"), ("h", "q4")]
    rows = [
        {"pair_id": pair, "split": "test", "query_id": query, "reference_id": f"r{pair}", "score": 0.9, "rank": n + 1}
        for n, (pair, query) in enumerate(ends)
    ]
    given = {"a": "hard_negative", "c": "hard_negative", "d": "edited_copy", "f": "unrelated", "h": "hard_negative"}
    votes = [(pair, "first", "ann", label) for pair, label in given.items()]
    config = PushConfig(tmp_path, annotators=("ann",), finish_queries=True)
    found = push_rows(config, [table_of(CANDIDATES, rows)], tasks_of(votes), labels_of(votes))
    assert found["pair_id"].to_pylist() == ["b"]
    with pytest.raises(UsageError, match="finish_queries is for the split test"):
        PushConfig(tmp_path, split="train", finish_queries=True)


@pytest.mark.slow
def test_what_a_push_leaves_out_on_purpose_is_not_the_next_step(team: Team) -> None:
    """`ndec status` named the push, which leaves these pairs out again, before everything else."""
    path = team.workspace.candidates("test") / "candidates.parquet"
    rows = read_table(path).to_pylist()
    for number, row in enumerate(rows):
        row |= {"prelabel": "edited_copy", "prelabel_confidence": 0.9 if number < 2 else 0.6}
    write_table(path, table_of(CANDIDATES, rows))

    def unassigned() -> tuple[int, int, str | None]:
        stages = [stage for stage in survey(team.workspace.root) if stage.name == "labels test"]
        return *unassigned_pairs(team.tables), first_open_step(stages, Path())

    team.push("ann", below=0.8)
    team.answer("ann", "hard_negative")
    team.pull()
    assert unassigned() == (0, 2, None)
    text = "; ".join(former_text(StatusConfig(team.workspace.root)))
    assert text == "2 mined pairs left out by the settings of the last push (below, keepable or finish_queries)"
    fresh = [rows[2] | {"pair_id": "new", "reference_id": "ref-x", "rank": 99, "prelabel_confidence": 0.1}]
    write_table(path.with_name("recheck.parquet"), table_of(CANDIDATES, fresh))
    assert unassigned() == (1, 2, "ndec annotate push --split test")  # found since: that push would give it out
    team.push("ann", keepable=True)
    assert unassigned()[:2] == (0, 0)
