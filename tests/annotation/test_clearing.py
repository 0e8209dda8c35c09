"""Auto-clearing: proven by a random slice or refused, only as edited copies, withdrawn if labels contradict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from ndec_builder.annotation import auto_clear, resolve
from ndec_builder.annotation.decisions.clearing import (
    check_slice,
    clearable,
    contradicted_pairs,
    slice_pairs,
    slice_verdict,
    smallest_slice,
)
from ndec_builder.annotation.push_options import PushOptions, read_push_options
from ndec_builder.annotation.settings import AutoClearConfig, PushConfig, ResolveConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import CANDIDATES, LABEL_ROWS, LABELS, PRELABELS, TASKS, pair_id, table_of
from ndec_builder.core.storage import read_json, read_table, write_json, write_table
from ndec_builder.core.workspace import Workspace
from support.votes import push_rows

PAIRS, HIGH = 600, 400


def probabilities() -> dict[str, float]:
    """400 pairs at 0.90…0.99, 200 below; ids as hashes are."""
    values = np.concatenate([np.linspace(0.99, 0.90, HIGH), np.linspace(0.89, 0.05, PAIRS - HIGH)])
    return {pair_id("test", f"q{n}", f"r{n}"): float(np.float32(value)) for n, value in enumerate(values)}


@pytest.fixture
def bench(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    rows = [
        {"pair_id": pair, "split": "test", "query_id": f"q{n}", "reference_id": f"r{n}", "score": 0.9, "rank": n + 1,
         "prelabel": "edited_copy" if value >= 0.5 else "hard_negative", "prelabel_confidence": max(value, 1 - value)}
        for n, (pair, value) in enumerate(probabilities().items())
    ]  # fmt: skip
    write_table(workspace.candidates("test") / "candidates.parquet", table_of(CANDIDATES, rows))
    return workspace


def push(workspace: Workspace, **settings_: Any) -> pa.Table:
    """The plan of a first push, written as the tasks table."""
    config = PushConfig(workspace.root, annotators=("ann", "ben"), overlap=0.0, **settings_)
    table = read_table(workspace.candidates("test") / "candidates.parquet")
    tasks = push_rows(config, [table])
    write_table(workspace.annotation("test") / "tasks.parquet", tasks)
    AnnotationTables(workspace, "test").keep_options(config.hints, config.check_above, config.check_pairs)
    return tasks


def answer(workspace: Workspace, wrong: set[str], pairs: set[str]) -> None:
    """Everybody who has these pairs labels them: copies, but for `wrong`."""
    tasks = read_table(workspace.annotation("test") / "tasks.parquet").to_pylist()
    rows = [
        {name: task[name] for name in ("pair_id", "round", "annotator", "batch", "is_gold")}
        | {"label": "hard_negative" if task["pair_id"] in wrong else "edited_copy", "seconds": 3.0}
        for task in tasks
        if task["pair_id"] in pairs
    ]
    write_table(workspace.annotation("test") / "labels.parquet", table_of(LABEL_ROWS, rows))


def test_a_sample_is_drawn_at_random_and_grows(bench: Workspace) -> None:
    few = push(bench, sample=50)["pair_id"].to_pylist()
    more = push(bench, sample=120)["pair_id"].to_pylist()
    assert len(few) == 50 and len(more) == 120 and set(few) <= set(more)
    with pytest.raises(UsageError, match="sample is -1"):
        PushConfig(bench.root, sample=-1)


def test_likely_copies_come_last_and_in_portions(bench: Workspace) -> None:
    values = probabilities()
    first = push(bench, order="copies_last", count=100)
    table = read_table(bench.candidates("test") / "candidates.parquet")
    config = PushConfig(bench.root, annotators=("ann", "ben"), overlap=0.0, order="copies_last", count=50)
    more = push_rows(config, [table], first)
    given = [pair for rows in (first, more) for pair in rows["pair_id"].to_pylist()]
    assert len(given) == 150 and set(given) == set(sorted(values, key=lambda pair: values[pair])[:150])
    assert given[:100] == sorted(given[:100], key=lambda pair: values[pair])
    with pytest.raises(UsageError, match="order is 'copies-last'"):
        PushConfig(bench.root, order="copies-last")


def test_only_pairs_below_a_probability_are_assigned(bench: Workspace) -> None:
    values = probabilities()
    given_ = push(bench, below=0.5)["pair_id"].to_pylist()
    assert sorted(given_) == sorted(pair for pair, value in values.items() if value < 0.5)
    with pytest.raises(UsageError, match="below is 0"):
        PushConfig(bench.root, below=0.0)


def test_the_slice_comes_first_and_its_contradicted_pairs_go_to_one_more(bench: Workspace) -> None:
    tasks = push(bench, check_pairs=160, order="informative")
    rows = tasks.to_pylist()
    first = {row["pair_id"] for row in rows if row["position"] <= 80}
    slice_ = slice_pairs(probabilities(), 0.9, 160)
    assert first == set(slice_) and len(rows) == PAIRS  # each pair once, since overlap is off

    config = PushConfig(bench.root, annotators=("ann", "ben", "cleo"), overlap=0.0, check_pairs=160)
    table = read_table(bench.candidates("test") / "candidates.parquet")
    who = {row["pair_id"]: row["annotator"] for row in rows}
    says = {slice_[0]: "hard_negative", slice_[1]: "edited_copy", slice_[2]: "unsure"}
    labels = [
        {"pair_id": pair, "round": "first", "annotator": who[pair], "label": label, "batch": 1, "is_gold": False}
        for pair, label in says.items()
    ]
    more = push_rows(config, [table], tasks, table_of(LABEL_ROWS, labels))
    assert sorted(more["pair_id"].to_pylist()) == sorted([slice_[0], slice_[2]])
    assert all(row["annotator"] != who[row["pair_id"]] for row in more.to_pylist())
    tasks = pa.concat_tables([tasks, more])  # they are open: nobody else gets them meanwhile
    assert push_rows(config, [table], tasks, table_of(LABEL_ROWS, labels)).num_rows == 0


@pytest.mark.slow
@given(st.lists(st.sampled_from(["edited_copy", "hard_negative", "unrelated", "unsure"]), max_size=6))
def test_a_contradicting_label_triggers_one_more_and_two_decide(given_: list[str]) -> None:
    lead = sum({"edited_copy": 1, "unsure": 0}.get(label, -1) for label in given_)
    assert slice_verdict(given_) == (True if lead > 0 else False if lead <= -2 else None)
    assert contradicted_pairs(["p"], {"p": given_}) == (["p"] if given_ and lead in (0, -1) else [])


@pytest.mark.slow
def test_clearing_discards_copies_and_resolve_reverts_it_on_contradiction(
    bench: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = bench.annotation("test")
    values, slice_ = probabilities(), set(slice_pairs(probabilities(), 0.9, 220))
    push(bench, check_pairs=220)
    answer(bench, set(), slice_)
    monkeypatch.setattr(
        auto_clear, "_remove_from_queues", lambda config, tables, chosen: without(tables.workspace, chosen)
    )
    auto_clear.run(AutoClearConfig(bench.root))
    cleared = read_table(directory / "cleared.parquet").to_pylist()
    lowest = min(values[pair] for pair in slice_)  # nothing is cleared below what was checked
    high = {pair for pair, value in values.items() if value >= lowest} - slice_
    assert {row["pair_id"] for row in cleared} == high and 170 < len(high) <= 180
    decisions = {r["pair_id"]: r for r in read_table(resolve.run(ResolveConfig(bench.root))).to_pylist()}
    auto = {pair for pair, row in decisions.items() if row["basis"] == "auto_cleared"}
    assert auto == {row["pair_id"] for row in cleared}
    assert {decisions[pair]["decision"] for pair in auto} == {"edited_copy"}
    assert {decisions[pair]["labels"] for pair in auto} == {0}
    said = read_json(directory / "agreement.json")["auto_clear"]
    assert (said["pairs"], said["withdrawn"], said["checked"], said["wrong"], said["refused"]) == (
        len(high),
        0,
        220,
        0,
        "",
    )
    assert said["bound"] == pytest.approx((1 - 0.0225 ** (1 / 220)) / 0.9)
    assert said["confidence"] == pytest.approx(0.9775)  # the first look may use three quarters of the error

    # Pre-labels that are learnt again change neither the slice nor what was cleared.
    rows = [
        {"pair_id": p, "edited_copy": 0.95 - v / 2, "hard_negative": v / 2, "unrelated": 0.05}
        for p, v in values.items()
    ]
    write_table(directory / "prelabels.parquet", table_of(PRELABELS, rows))
    again = {r["pair_id"]: r for r in read_table(resolve.run(ResolveConfig(bench.root))).to_pylist()}
    assert {pair for pair, row in again.items() if row["basis"] == "auto_cleared"} == auto

    # Nobody is given a cleared pair …
    config = PushConfig(bench.root, annotators=("ann", "ben"), overlap=0.0)
    inputs = [read_table(bench.candidates("test") / "candidates.parquet")]
    left, labels = read_table(directory / "tasks.parquet"), read_table(directory / "labels.parquet")
    assert push_rows(config, inputs, left, labels).num_rows == 0
    # … until labels contradict: then all of them are open again.
    answer(bench, set(sorted(slice_)[:9]), slice_)
    decisions = {r["pair_id"]: r for r in read_table(resolve.run(ResolveConfig(bench.root))).to_pylist()}
    assert all(decisions[pair]["decision"] is None for pair in auto if pair in decisions)
    said = read_json(directory / "agreement.json")["auto_clear"]
    assert said["withdrawn"] == len(high) and said["pairs"] == 0 and "contradicts" in said["refused"]
    assert f"{len(high)} pairs are no longer auto-cleared" in capsys.readouterr().err
    labels = read_table(directory / "labels.parquet")
    again = push_rows(config, inputs, left, labels)
    assert set(again["pair_id"].to_pylist()) == auto


def without(workspace: Workspace, chosen: dict[str, float]) -> pa.Table:
    rows = read_table(workspace.annotation("test") / "tasks.parquet").to_pylist()
    return table_of(TASKS, [row for row in rows if row["pair_id"] not in chosen])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checked", "wrong", "message"),
    [
        (100, 0, "has 100 pairs .* 209 are needed .*--check-pairs 209"),
        (240, 3, "contradicts: 3 of its 240 pairs"),
        (240, -20, "20 of them not labelled yet or disputed"),
    ],
)
def test_clearing_is_refused_with_the_reason(bench: Workspace, checked: int, wrong: int, message: str) -> None:
    slice_ = slice_pairs(probabilities(), 0.9, checked)
    push(bench, check_pairs=checked)
    highest = sorted(slice_, key=lambda pair: -probabilities()[pair])
    answer(bench, set(highest[: max(wrong, 0)]), set(slice_[: checked + min(wrong, 0)]))
    before = read_table(bench.annotation("test") / "tasks.parquet")
    with pytest.raises(NdecError, match=message):
        auto_clear.run(AutoClearConfig(bench.root))
    assert not (bench.annotation("test") / "cleared.parquet").exists()
    assert read_table(bench.annotation("test") / "tasks.parquet").equals(before)


@settings(max_examples=40)
@given(st.integers(0, 2**20), st.floats(0, 0.2), st.integers(0, 400))
def test_nothing_below_the_proof_and_no_labelled_pair_is_cleared(seed: int, error: float, drawn: int) -> None:
    """SIMULATED labels: whatever they are, cleared pairs lie above a threshold that they prove."""
    rng = np.random.default_rng(seed)
    values = probabilities()
    slice_ = slice_pairs(values, 0.9, drawn)
    votes = {p: [str(rng.choice(["edited_copy", "hard_negative"], p=[1 - error, error]))] * 2 for p in slice_}
    found = check_slice(values, 0.9, drawn, votes, 0.02)
    cleared = clearable(values, found, votes)
    assert not set(cleared) & set(slice_) and all(value >= 0.9 for value in cleared.values())
    assert bool(found.refused) == (found.threshold is None) and (not found.refused or not cleared)
    if found.threshold is not None:
        inside = [pair for pair in slice_ if values[pair] >= found.threshold]
        assert found.checked == len(inside) and found.wrong == sum(votes[p][0] != "edited_copy" for p in inside)
        exact = beta.ppf(found.confidence, found.wrong + 1, found.checked - found.wrong)
        assert found.bound == pytest.approx(exact / 0.9) and found.bound <= 0.02


def test_a_push_of_the_same_slice_is_no_new_look(bench: Workspace) -> None:
    options = PushOptions().after_slice(["a", "b"]).after_push(False, 0.9, 2)
    assert options.after_slice(["a", "b"]).check_sizes == (2,)
    assert options.after_slice(["a", "b", "c"]).check_sizes == (2, 3)
    assert options.after_slice(["a", "c"]).check_sizes == (2, 2)  # other pairs, after relearning
    write_json(bench.annotation("test") / "hints.json", {"check_pairs": 2})  # of an earlier version
    older = read_push_options(bench.annotation("test"))
    assert older.check_sizes == older.after_slice(["a", "b"]).check_sizes == (2,)


@pytest.mark.slow
def test_too_many_wrong_clearings_are_rare_with_simulated_annotators() -> None:
    """SIMULATED people of 8 % error, 4 % no copies above 0.9: 2 % is claimed in at most 5 % of the draws.

    And slips of people alone hinder nothing: where all are copies, nearly every slice proves it.
    """
    values, claimed = probabilities(), {0.0: 0, 0.04: 0}
    for rate in claimed:
        for seed in range(150):
            rng = np.random.default_rng(seed)
            slice_ = slice_pairs(values, 0.9, 320)
            truth = {pair: "hard_negative" if rng.random() < rate else "edited_copy" for pair in slice_}

            def say(pair: str, truth: dict[str, str] = truth, rng: np.random.Generator = rng) -> str:
                other = [label for label in LABELS if label != truth[pair]]
                return truth[pair] if rng.random() > 0.08 else str(rng.choice(other))

            votes = {pair: [say(pair)] for pair in slice_}
            for _ in range(5):
                for pair in contradicted_pairs(slice_, votes):
                    votes[pair].append(say(pair))
            claimed[rate] += check_slice(values, 0.9, 320, votes, 0.02).threshold is not None
    assert claimed[0.04] <= 13  # 7.5 of 150 are allowed on average; more than 13 happen once in fifty
    assert claimed[0.0] >= 75 and smallest_slice(0.02) == 209


def test_a_check_needs_pre_labels_and_valid_settings(tmp_path: Path) -> None:
    rows = [{"pair_id": "p", "split": "test", "query_id": "q", "reference_id": "r", "score": 0.9, "rank": 1}]
    with pytest.raises(NdecError, match="no pre-label to check; run `ndec prelabel"):
        push_rows(PushConfig(tmp_path, check_pairs=5), [table_of(CANDIDATES, rows)])
    for make, message in (
        (lambda: AutoClearConfig(tmp_path, above=0.3), "above is 0.3"),
        (lambda: AutoClearConfig(tmp_path, allowed=0.7), "allowed is 0.7"),
        (lambda: PushConfig(tmp_path, check_above=1.0), "check_above is 1.0"),
        (lambda: PushConfig(tmp_path, check_pairs=-1), "check_pairs is -1"),
        (lambda: PushConfig(tmp_path, audit_pairs=0), "audit_pairs is 0"),
    ):
        with pytest.raises(UsageError, match=message):
            make()
