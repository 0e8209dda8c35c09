"""The audit round: who gets which pairs, and what status, agreement and decisions say afterwards."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binom, hypergeom

from ndec_builder.annotation import resolve
from ndec_builder.annotation.decisions.audit import (
    Audit,
    audit_bound,
    audit_judges,
    current_audit,
    evaluate_audit,
)
from ndec_builder.annotation.decisions.audit_text import audit_text
from ndec_builder.annotation.decisions.label_statistics import draw_pairs
from ndec_builder.annotation.push_options import PushOptions
from ndec_builder.annotation.settings import PushConfig, ResolveConfig, StatusConfig
from ndec_builder.annotation.status import audit_and_clearing, findings_text
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import CANDIDATES, SKIPS, TASKS, table_of
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.core.workspace import Workspace
from support.votes import Vote, labels_of, push_rows, tasks_of


def candidates_of(pairs: list[str]) -> pa.Table:
    rows = [
        {"pair_id": p, "split": "test", "query_id": f"q-{p}", "reference_id": f"r-{p}", "score": 0.9, "rank": n + 1}
        for n, p in enumerate(pairs)
    ]
    return table_of(CANDIDATES, rows)


def first_round(count: int) -> list[Vote]:
    return [(f"p{number:03d}", "first", "ann" if number % 2 else "ben", "hard_negative") for number in range(count)]


def plan(root: Path, votes: list[Vote], tasks: pa.Table, people: tuple[str, ...], pairs: int = 20) -> pa.Table:
    ids = sorted({vote[0] for vote in votes})
    config = PushConfig(root, round="audit", annotators=people, audit_pairs=pairs)
    return push_rows(config, [candidates_of(ids)], tasks, labels_of(votes))


def test_each_drawn_pair_goes_to_one_who_has_not_seen_it_then_disputed_ones_to_one_more(tmp_path: Path) -> None:
    votes = first_round(60)
    tasks = tasks_of(votes)
    audit = plan(tmp_path, votes, tasks, ("ann", "ben", "cleo", "dora"))
    seen = {(vote[0], vote[2]) for vote in votes}
    people = Counter(audit["pair_id"].to_pylist())
    assert sorted(people) == sorted(draw_pairs([vote[0] for vote in votes], 20)) and set(people.values()) == {1}
    assert not seen & set(zip(audit["pair_id"].to_pylist(), audit["annotator"].to_pylist(), strict=True))

    tasks = pa.concat_tables([tasks, audit])
    assert plan(tmp_path, votes, tasks, ("cleo", "dora")).num_rows == 0  # a second draw changes nothing
    rows = audit.to_pylist()
    odd = rows[0]["pair_id"]
    votes += [(r["pair_id"], "audit", r["annotator"], "hard_negative") for r in rows]
    votes.append((odd, "audit", rows[0]["annotator"], "edited_copy"))  # a correction: now it is disputed
    barred = {name for pair, name in seen if pair == odd} | {r["annotator"] for r in rows if r["pair_id"] == odd}
    with pytest.raises(NdecError, match="too few annotators for the round 'audit'"):
        plan(tmp_path, votes, tasks, tuple(barred))
    third = plan(tmp_path, votes, tasks, ("ann", "ben", "cleo", "dora", "eve")).to_pylist()
    assert [row["pair_id"] for row in third] == [odd] and third[0]["annotator"] not in barred
    tasks = pa.concat_tables([tasks, table_of(TASKS, third)])
    assert (
        plan(tmp_path, votes, tasks, ("ann", "ben", "cleo", "dora", "eve")).num_rows == 0
    )  # it is open with the third


def test_a_copy_found_by_the_audit_is_confirmed_if_an_annotator_is_left(tmp_path: Path) -> None:
    votes = first_round(30)
    tasks = tasks_of(votes)
    audit = plan(tmp_path, votes, tasks, ("cleo", "dora"))
    tasks, rows = pa.concat_tables([tasks, audit]), audit.to_pylist()
    copy = rows[0]["pair_id"]
    label = {True: "edited_copy", False: "hard_negative"}
    votes += [(r["pair_id"], "audit", r["annotator"], label[r["pair_id"] == copy]) for r in rows]
    second = plan(tmp_path, votes, tasks, ("cleo", "dora"))  # one says copy: the other is asked
    assert second["pair_id"].to_pylist() == [copy]
    votes.append((copy, "audit", second["annotator"][0].as_py(), "edited_copy"))
    tasks = pa.concat_tables([tasks, second])
    assert plan(tmp_path, votes, tasks, ("cleo", "dora")).num_rows == 0  # nobody is left: two have to do
    more = plan(tmp_path, votes, tasks, ("cleo", "dora", "eve")).to_pylist()
    assert [(row["pair_id"], row["annotator"]) for row in more] == [(copy, "eve")]


def test_two_annotators_re_label_each_pair_if_hints_were_ever_shown(tmp_path: Path) -> None:
    votes = first_round(30)
    tasks = tasks_of(votes)
    AnnotationTables(Workspace(tmp_path), "test").keep_options(True, 0.9, 0)
    AnnotationTables(Workspace(tmp_path), "test").keep_options(False, 0.9, 0)  # off again: labels may have followed one
    assert audit_judges(AnnotationTables(Workspace(tmp_path), "test").options) == 2
    audit = plan(tmp_path, votes, tasks, ("cleo", "dora")).to_pylist()
    people = Counter(row["pair_id"] for row in audit)
    assert len(people) == 20 and set(people.values()) == {2}
    drawn = sorted(people)
    one = {pair: ["hard_negative"] for pair in drawn} | {drawn[0]: ["edited_copy"]}
    assert (evaluate_audit(30, drawn, one, 2).audited, evaluate_audit(30, drawn, one, 2).doubtful) == (
        1,
        1,
    )  # a copy counts at once
    two = {pair: given_ * 2 for pair, given_ in one.items()}
    found = evaluate_audit(30, drawn, two, 2)
    assert (found.audited, found.copies, found.judges) == (20, 1, 2) and "by two" in audit_text(found)
    assert found.bound == evaluate_audit(30, drawn, two).bound


def test_an_audit_needs_annotators_and_kept_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    votes = first_round(6)
    with pytest.raises(NdecError, match="needs 1 more who have not seen it"):
        plan(tmp_path, votes, tasks_of(votes), ("ann",))
    plan(tmp_path, votes, tasks_of(votes), ("cleo", "dora"))
    assert "fewer than the 20 asked for" in capsys.readouterr().err  # and the bound that they can reach
    copies = [(pair, round_, name, "edited_copy") for pair, round_, name, _ in votes]
    with pytest.raises(NdecError, match="nothing to audit"):
        plan(tmp_path, copies, tasks_of(copies), ("cleo", "dora"))


@pytest.mark.slow
def test_agreement_status_and_decisions_follow_the_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = Workspace(tmp_path)
    votes = first_round(400)
    tasks = tasks_of(votes)
    audit = plan(tmp_path, votes, tasks, ("cleo", "dora"), pairs=300)
    answers = [(r["pair_id"], "audit", r["annotator"], "hard_negative") for r in audit.to_pylist()]
    copy = answers[0][0]
    answers = [(p, r, a, "edited_copy" if p == copy else label) for p, r, a, label in answers]
    extra = plan(tmp_path, votes + answers, pa.concat_tables([tasks, audit]), ("cleo", "dora"), pairs=300)
    answers += [(r["pair_id"], "audit", r["annotator"], "edited_copy") for r in extra.to_pylist()]
    audit = pa.concat_tables([audit, extra])
    directory = workspace.annotation("test")
    pairs = sorted({vote[0] for vote in votes})
    write_table(workspace.candidates("test") / "candidates.parquet", candidates_of(pairs))
    write_table(directory / "tasks.parquet", pa.concat_tables([tasks, audit]))
    write_table(directory / "labels.parquet", labels_of(votes + answers))
    decisions = read_table(resolve.run(ResolveConfig(tmp_path))).to_pylist()
    found = read_json(directory / "agreement.json")["audit"]
    assert (found["kept"], found["audited"], found["copies"], found["doubtful"]) == (400, 300, 1, 0)
    assert found["bound"] == audit_bound(1, 300, 400)
    assert "1 edited copy" in capsys.readouterr().err
    no_skips = table_of(SKIPS, [])
    changed = {row["pair_id"]: (row["decision"], row["basis"]) for row in decisions}
    assert changed.pop(copy) == ("edited_copy", "adjudicated")
    assert set(changed.values()) == {("hard_negative", "agreed")}
    assert current_audit(directory, labels_of(votes + answers), PushOptions(), no_skips) == Audit(
        400, 300, 300, 1, 0, found["bound"], watched_bound=found["watched_bound"]
    )
    assert current_audit(directory, labels_of(votes), PushOptions(), no_skips) == Audit(400, 300, 0, 0, 0, None)
    config = StatusConfig(tmp_path)
    assert findings_text(audit_and_clearing(config)) == [
        audit_text(current_audit(directory, labels_of(votes + answers), PushOptions(), no_skips))
    ]  # type: ignore[arg-type]


def test_a_pair_that_the_auditor_skips_counts_as_a_copy_until_somebody_labels_it(tmp_path: Path) -> None:
    """People skip what is hard to tell: the pairs that they do label are no random sample of all."""
    workspace = Workspace(tmp_path)
    votes = first_round(40)
    tasks = tasks_of(votes)
    audit = plan(tmp_path, votes, tasks, ("cleo",), pairs=10).to_pylist()
    given = [row["pair_id"] for row in audit]
    clean = [(pair, "audit", "cleo", "hard_negative") for pair in given]
    directory = workspace.annotation("test")
    pairs = sorted({vote[0] for vote in votes})
    write_table(workspace.candidates("test") / "candidates.parquet", candidates_of(pairs))
    write_table(directory / "tasks.parquet", pa.concat_tables([tasks, table_of(TASKS, audit)]))

    def found(labels: list[Vote], skipped: str) -> dict[str, float]:
        write_table(directory / "labels.parquet", labels_of(votes + labels))
        row = {"pair_id": skipped, "round": "audit", "annotator": "cleo", "kind": "skipped", "label_rows": 0}
        write_table(directory / "skips.parquet", table_of(SKIPS, [row]))
        resolve.run(ResolveConfig(tmp_path))
        return read_json(directory / "agreement.json")["audit"]

    some = found(clean[1:], given[0])
    assert (some["audited"], some["copies"], some["skipped"], some["open"]) == (9, 0, 1, 1)
    # of 40 kept pairs, 1 "copy" among 10: its pair stays in the dataset, so nothing is taken off the bound
    copies = max(n for n in range(1, 41) if chance_of_at_most(1, n) > 0.05)
    assert some["bound"] == pytest.approx(copies / 40) and some["watched_bound"] >= some["bound"]
    assert "1 skipped" in audit_text(audit_and_clearing(StatusConfig(tmp_path))["audit"])
    labelled = found(clean, given[0])
    assert (labelled["audited"], labelled["skipped"]) == (10, 0) and labelled["bound"] == audit_bound(0, 10, 40)


def test_an_audit_that_later_pairs_interrupt_says_so(tmp_path: Path) -> None:
    """The sample is the beginning of an order of all kept pairs; status showed the bound of the pairs kept before."""
    workspace = Workspace(tmp_path)
    directory = workspace.annotation("test")
    votes = first_round(40)
    pairs = draw_pairs([vote[0] for vote in votes], 40)  # in the order of the audit
    early = [vote for vote in votes if vote[0] not in (pairs[0], pairs[7])]
    audit = plan(tmp_path, early, tasks_of(early), ("cleo",), pairs=10).to_pylist()
    answers = [(row["pair_id"], "audit", "cleo", "hard_negative") for row in audit]

    def says(first: list[Vote]) -> str:
        write_table(workspace.candidates("test") / "candidates.parquet", candidates_of(pairs))
        write_table(directory / "tasks.parquet", pa.concat_tables([tasks_of(first), table_of(TASKS, audit)]))
        write_table(directory / "labels.parquet", labels_of(first + answers))
        resolve.run(ResolveConfig(tmp_path))
        return audit_text(audit_and_clearing(StatusConfig(tmp_path))["audit"])

    assert "10 of 10" in says(early) and "earlier draw" not in says(early)
    without_first = [vote for vote in votes if vote[0] != pairs[0]]
    assert "6 of 6" in says(without_first) and "4 pairs of an earlier draw do not count" in says(without_first)
    assert says(votes).startswith("audit: nothing is known about the 40 kept hard negatives; 10 pairs of an earlier")
    assert read_json(directory / "agreement.json")["audit"] is None


def chance_of_at_most(found: int, copies: int) -> float:
    """P(at most `found` copies are seen in 10 of 40 pairs with that many copies, 10 % of them overlooked)."""
    there = np.arange(min(10, copies) + 1)
    return float((hypergeom.pmf(there, 40, copies, 10) * binom.cdf(found, there, 0.9)).sum())
