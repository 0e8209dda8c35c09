"""Labels → decisions and agreement: rules by example, properties, and scikit-learn's kappa as second computation."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from ndec_builder.annotation import resolve
from ndec_builder.annotation.decisions.agreement import agreement_report, cohen_kappa
from ndec_builder.annotation.decisions.resolution import decision_table
from ndec_builder.annotation.settings import ResolveConfig, StatusConfig
from ndec_builder.annotation.staleness import stale_results
from ndec_builder.annotation.status import former_text, status, status_text
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import CANDIDATES, LABEL_ROWS, LABELS, POSTERIOR, ROUNDS, SKIPS, TASKS, table_of
from ndec_builder.core.storage import read_json, read_table, write_json, write_table
from ndec_builder.core.workspace import Workspace

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
Vote = tuple[str, str, str, str]  # pair_id, round, annotator, label


def labels_of(votes: list[Vote]) -> pa.Table:
    rows = [
        {"pair_id": p, "round": r, "annotator": a, "label": label, "seconds": 3.0, "batch": 1, "is_gold": False}
        | {"annotated_at": NOON + timedelta(seconds=4 * i)}
        for i, (p, r, a, label) in enumerate(votes)
    ]
    return table_of(LABEL_ROWS, rows)


def tasks_of(pair_ids: list[str]) -> pa.Table:
    row = {"round": "first", "annotator": "ann", "batch": 1, "is_gold": False}
    return table_of(TASKS, [row | {"pair_id": p, "position": i + 1} for i, p in enumerate(pair_ids)])


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([], (None, None, 0, None)),
        ([("first", "ann", "unrelated")], ("unrelated", "agreed", 1, 1.0)),
        ([("first", "ann", "unsure"), ("first", "ben", "unsure")], ("unsure", "agreed", 2, 1.0)),
        ([("first", "ann", "unsure"), ("first", "ben", "unrelated")], (None, None, 2, None)),
        ([("first", "ann", "unrelated"), ("first", "ann", "hard_negative")], ("hard_negative", "agreed", 1, 1.0)),
        (
            [("first", "ann", "hard_negative"), ("double_check", "ben", "hard_negative")],
            ("hard_negative", "double_checked", 2, 1.0),
        ),
        ([("first", "ann", "hard_negative"), ("double_check", "ben", "edited_copy")], (None, None, 2, None)),
        (
            [
                ("first", "a", "hard_negative"),
                ("double_check", "b", "edited_copy"),
                ("adjudication", "c", "edited_copy"),
            ],
            ("edited_copy", "adjudicated", 3, 2 / 3),
        ),
        ([("adjudication", "a", "unsure"), ("adjudication", "b", "unrelated")], (None, None, 2, None)),
    ],
)
def test_decisions_by_rule(votes: list[tuple[str, str, str]], expected: tuple[Any, ...]) -> None:
    table = decision_table(tasks_of(["p"]), labels_of([("p", *vote) for vote in votes]))
    row = table.to_pylist()[0]
    assert (row["decision"], row["basis"], row["labels"]) == expected[:3]
    assert row["agreement"] == (None if expected[3] is None else pytest.approx(expected[3]))


votes_strategy = st.lists(
    st.tuples(st.sampled_from("pqrs"), st.sampled_from(ROUNDS[:3]), st.sampled_from("abc"), st.sampled_from(LABELS)),
    max_size=40,
)


@pytest.mark.slow
@given(votes=votes_strategy, seed=st.integers(0, 99))
def test_only_an_annotators_newest_label_counts_and_the_order_of_annotators_does_not_matter(
    votes: list[Vote], seed: int
) -> None:
    tasks = tasks_of(list("srqp"))
    table = decision_table(tasks, labels_of(votes))
    newest = list({vote[:3]: vote for vote in votes}.values())
    random.Random(seed).shuffle(newest)
    assert decision_table(tasks, labels_of(newest)).equals(table)
    assert table["pair_id"].to_pylist() == ["p", "q", "r", "s"]
    for row in table.to_pylist():
        mine = [vote for vote in newest if vote[0] == row["pair_id"]]
        assert row["labels"] == len(mine)
        if row["decision"]:  # recomputed: a decision is never one that the deciding people did not all give
            last = [v[3] for v in mine if v[1] == "adjudication"] or [v[3] for v in mine]
            assert set(last) == {row["decision"]}
            assert row["agreement"] == pytest.approx(sum(v[3] == row["decision"] for v in mine) / len(mine))


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=60))
def test_kappa_equals_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    kappa = cohen_kappa(first, second)
    if len(set(first) | set(second)) == 1:
        assert kappa is None  # scikit-learn gives NaN
    else:
        assert kappa == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


def test_agreement_counts_shared_pairs_only_and_is_null_without_them() -> None:
    votes: list[Vote] = [("p", "first", "ann", "unrelated"), ("q", "first", "ben", "unsure")]
    none = {"pairs": 0, "raw_agreement": None, "kappa": None, "alpha": None}
    assert agreement_report(labels_of(votes))["rounds"]["first"] == none
    votes += [
        ("q", "first", "ann", "unsure"),
        ("p", "first", "ben", "hard_negative"),
        ("p", "double_check", "cat", "unrelated"),
    ]
    figures = agreement_report(labels_of(votes))
    assert figures["rounds"]["first"]["raw_agreement"] == 0.5
    assert figures["rounds"]["first"]["kappa"] == pytest.approx(
        cohen_kappa_score(["unrelated", "unsure"], ["hard_negative", "unsure"])
    )
    second = figures["rounds"]["double_check"]
    assert (second["pairs"], second["raw_agreement"], second["kappa"], second["alpha"]) == (2, 0.5, None, None)
    assert (second["confirmed"]["n"], second["confirmed"]["confirmed"]) == (1, 0)
    assert [(r["round"], r["annotator"], r["labels"]) for r in figures["raters"]] == [
        ("first", "ann", 2), ("first", "ben", 2), ("double_check", "cat", 1),
    ]  # fmt: skip
    assert figures["raters"][0]["median_seconds_per_pair"] == 3.0


def test_resolve_writes_the_same_bytes_twice_and_needs_tasks_and_labels(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    config = ResolveConfig(tmp_path, "train")
    with pytest.raises(NdecError, match=r"ndec annotate push --split train"):
        resolve.run(config)
    directory = workspace.annotation("train")
    write_table(directory / "tasks.parquet", tasks_of(["p", "q"]))
    with pytest.raises(NdecError, match=r"ndec annotate pull --split train"):
        resolve.run(config)
    write_table(
        directory / "labels.parquet", labels_of([("p", "first", "ann", "unsure"), ("q", "first", "ann", "unsure")])
    )
    first = resolve.run(config).read_bytes(), (directory / "agreement.json").read_bytes()
    assert (resolve.run(config).read_bytes(), (directory / "agreement.json").read_bytes()) == first
    assert read_table(directory / "decisions.parquet").num_rows == 2
    still_open = {"disputed": 0, "skipped": 0, "unlabelled": 0, "former": 0}
    counts = {"pairs": 2, "unsure": 2, "basis": {"agreed": 2}} | still_open
    assert read_json(directory / "run.json")["counts"] == counts
    rows = status(StatusConfig(tmp_path, "train"))
    assert rows[0]["done"] == 2 and rows[0]["labels_per_hour"] == 900.0 and "900.0" in status_text(rows)


def test_labels_pulled_after_resolving_make_the_decisions_out_of_date(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    directory = workspace.annotation("train")
    write_table(directory / "tasks.parquet", tasks_of(["p", "q"]))
    votes = [("p", "first", "ann", "unsure"), ("q", "first", "ann", "unsure")]
    write_table(directory / "labels.parquet", labels_of(votes))
    resolve.run(ResolveConfig(tmp_path, "train"))
    write_json(directory / "run.json", {"stage": "annotate push", "inputs": {}})  # a later push replaces the record
    assert stale_results(workspace) == []
    write_table(directory / "labels.parquet", labels_of([*votes, ("p", "first", "ann", "unrelated")]))
    assert [found.command for found in stale_results(workspace)] == ["ndec annotate resolve --split train"]
    resolve.run(ResolveConfig(tmp_path, "train"))
    assert stale_results(workspace) == []


def test_breaks_are_not_working_time(tmp_path: Path) -> None:
    moments = [NOON, NOON + timedelta(seconds=6), NOON + timedelta(hours=3), NOON + timedelta(hours=3, seconds=12)]
    workspace = Workspace(tmp_path)
    directory = workspace.annotation("test")
    write_table(directory / "tasks.parquet", tasks_of(list("pqrs")))

    def speed(moments: list[datetime]) -> float | None:
        rows = labels_of([(pair, "first", "ann", "unsure") for pair in "pqrs"[: len(moments)]]).to_pylist()
        rows = [row | {"annotated_at": moment} for row, moment in zip(rows, moments, strict=True)]
        write_table(directory / "labels.parquet", table_of(LABEL_ROWS, rows))
        found = status(StatusConfig(tmp_path, "test"))[0]["labels_per_hour"]
        return None if found is None else float(found)

    assert speed(moments) == 400.0
    assert speed(moments[:1]) is None
    assert speed([NOON, NOON]) is None


def test_agreement_json_bounds_the_copies_that_one_annotator_would_have_kept(tmp_path: Path) -> None:
    directory = Workspace(tmp_path).annotation("test")
    pairs = [f"p{i:03d}" for i in range(300)]
    votes: list[Vote] = [(pair, "first", "ann", "hard_negative") for pair in pairs]
    votes += [(pair, "first", "ben", "edited_copy" if pair == "p007" else "hard_negative") for pair in pairs]
    votes += [("p007", "adjudication", "cleo", "edited_copy")]
    write_table(directory / "tasks.parquet", tasks_of(pairs))
    write_table(directory / "labels.parquet", labels_of(votes))
    resolve.run(ResolveConfig(tmp_path))
    found = read_json(directory / "agreement.json")
    assert found["residual"] == {"n": 300, "k": 1, "undecided": 0} and 0.0157 < found["residual_bound"] < 0.0158
    ann, ben, _ = found["annotators"]
    assert (ann["annotator"], ann["checked"]["right"], ann["checked"]["n"]) == ("ann", 299, 300)
    assert ben["checked"]["right"] == 300 and found["alpha"] is not None and found["kappa"] is not None


def test_the_posterior_is_an_option(tmp_path: Path) -> None:
    """Bayes' rule by hand for one pair: the prior is the smoothed share, all annotators are good."""
    directory = Workspace(tmp_path).annotation("test")
    votes: list[Vote] = [(f"p{n}", "first", name, "hard_negative") for n in range(40) for name in ("ann", "ben")]
    votes += [("odd", "first", "ann", "edited_copy"), ("odd", "first", "ben", "hard_negative")]
    write_table(directory / "tasks.parquet", tasks_of(sorted({vote[0] for vote in votes})))
    write_table(directory / "labels.parquet", labels_of(votes))
    resolve.run(ResolveConfig(tmp_path))
    assert not (directory / "posterior.parquet").exists()
    assert read_json(directory / "agreement.json")["posterior"] is None
    resolve.run(ResolveConfig(tmp_path, posterior=True))
    table = read_table(directory / "posterior.parquet")
    assert table.schema.equals(POSTERIOR) and table.num_rows == 41
    found = read_json(directory / "agreement.json")["posterior"]
    ann, ben = (np.array(found["annotators"][name]["confusion"]) for name in ("ann", "ben"))
    shares = np.array(list(found["shares"].values()))
    odds = shares * ann[:, 0] * ben[:, 1]
    odd = next(row for row in table.to_pylist() if row["pair_id"] == "odd")
    assert list(odd.values())[1:] == pytest.approx((odds / odds.sum()).tolist(), abs=1e-3)
    assert found["annotators"]["ben"]["accuracy"] > 0.9
    resolve.run(ResolveConfig(tmp_path))
    assert not (directory / "posterior.parquet").exists()  # it would not be that of these labels for long


def test_resolve_says_what_was_decided_and_what_is_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """a: agreed, b: disputed, c: skipped, d: nobody has labelled it, e: its label was withdrawn by Skip."""
    workspace = Workspace(tmp_path)
    tables = AnnotationTables(workspace, "test")
    tables.write("tasks", tasks_of(list("abcde")))
    votes: list[Vote] = [
        ("a", "first", "ann", "unrelated"), ("a", "first", "ben", "unrelated"), ("b", "first", "ann", "edited_copy"),
        ("b", "first", "ben", "hard_negative"), ("e", "first", "ann", "hard_negative"),
    ]  # fmt: skip
    tables.write("labels", labels_of(votes))
    skip = {"kind": "skipped", "round": "first", "annotator": "ann"}
    tables.write(
        "skips", table_of(SKIPS, [skip | {"pair_id": "c", "label_rows": 0}, skip | {"pair_id": "e", "label_rows": 1}])
    )
    resolve.run(ResolveConfig(tmp_path))
    said = capsys.readouterr().err
    assert "labels that count: 1 edited_copy, 1 hard_negative, 2 unrelated, 0 unsure" in said
    assert "decisions: 0 edited_copy, 0 hard_negative, 1 unrelated, 0 unsure of 5 pairs" in said
    assert "open: 1 disputed, 2 skipped, 1 unlabelled" in said
    assert "first κ 0.33 (n = 2)" in said  # by hand: observed 1/2, by chance 1/4
    counts = read_json(tables.directory / "run.json")["counts"]
    assert (counts["disputed"], counts["skipped"], counts["unlabelled"]) == (1, 2, 1)
    agreed = read_json(tables.directory / "agreement.json")
    assert (agreed["labels_withdrawn"], agreed["skipped"]) == (1, {"ann": 2})


def test_labels_of_pairs_that_are_no_longer_mined_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = Workspace(tmp_path)
    tables = AnnotationTables(workspace, "test")
    ids = {"query_id": "q", "reference_id": "r"}
    rows = [row | ids for row in tasks_of(["mined", "former"]).to_pylist()]
    tables.write("tasks", table_of(TASKS, rows))
    tables.write(
        "labels", labels_of([("mined", "first", "ann", "hard_negative"), ("former", "first", "ann", "unsure")])
    )
    row = {"pair_id": "mined", "split": "test", "query_id": "q", "reference_id": "r", "rank": 1}
    write_table(workspace.candidates("test") / "candidates.parquet", table_of(CANDIDATES, [row]))
    assert AnnotationTables(workspace, "test").former["pair_id"].to_pylist() == ["former"]
    decisions = read_table(resolve.run(ResolveConfig(tmp_path)))
    assert "1 labelled pair is no longer among the mined ones; such labels count" in capsys.readouterr().err
    decided = dict(zip(decisions["pair_id"].to_pylist(), decisions["decision"].to_pylist(), strict=True))
    assert decided == {"mined": "hard_negative", "former": "unsure"}
    assert read_json(tables.directory / "run.json")["counts"]["former"] == 1
    assert "no longer among the mined ones" in "".join(former_text(StatusConfig(tmp_path)))


def test_mined_pairs_that_nobody_got_are_counted(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    tables = AnnotationTables(workspace, "test")
    tables.write("tasks", tasks_of(["given"]))
    names, ids = ("given", "new", "other", "same"), {"split": "test", "query_id": "q", "reference_id": "r"}
    rows = [
        ids | {"pair_id": name, "rank": rank, "duplicate_of": "r" if name == "same" else None}
        for rank, name in enumerate(names)
    ]
    write_table(workspace.candidates("test") / "candidates.parquet", table_of(CANDIDATES, rows))
    assert former_text(StatusConfig(tmp_path)) == [
        "2 mined pairs given to nobody yet: `ndec annotate push --split test`"
    ]
    tables.write("tasks", tasks_of(["given", "new", "other"]))
    assert former_text(StatusConfig(tmp_path)) == []
