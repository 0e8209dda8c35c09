"""The audit: who gets which pairs, what its labels mean, and that the bound holds with simulated annotators."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, hypergeom

from ndec_builder.annotation import resolve
from ndec_builder.annotation.decisions.audit import (
    Audit,
    audit_bound,
    audit_judges,
    audit_sample,
    audit_text,
    audit_verdict,
    current_audit,
    disputed_in_audit,
    evaluate_audit,
    overruled,
    pairs_needed,
    unconfirmed_in_audit,
)
from ndec_builder.annotation.decisions.binomial import rare_upper
from ndec_builder.annotation.decisions.label_statistics import draw_pairs
from ndec_builder.annotation.push_options import PushOptions
from ndec_builder.annotation.settings import PushConfig, ResolveConfig, StatusConfig
from ndec_builder.annotation.status import audit_and_clearing, findings_text
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import CANDIDATES, LABELS, TASKS, table_of
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.core.workspace import Workspace
from support.votes import Vote, labels_of, push_rows, tasks_of


def candidates_of(pairs: list[str]) -> pa.Table:
    rows = [
        {"pair_id": p, "split": "test", "query_id": f"q-{p}", "reference_id": f"r-{p}", "score": 0.9, "rank": n + 1}
        for n, p in enumerate(pairs)
    ]
    return table_of(CANDIDATES, rows)


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
    changed = {row["pair_id"]: (row["decision"], row["basis"]) for row in decisions}
    assert changed.pop(copy) == ("edited_copy", "adjudicated")
    assert set(changed.values()) == {("hard_negative", "agreed")}
    assert current_audit(directory, labels_of(votes + answers), PushOptions()) == Audit(
        400, 300, 300, 1, 0, found["bound"], watched_bound=found["watched_bound"]
    )
    assert current_audit(directory, labels_of(votes), PushOptions()) == Audit(400, 300, 0, 0, 0, None)
    config = StatusConfig(tmp_path)
    assert findings_text(audit_and_clearing(config)) == [
        audit_text(current_audit(directory, labels_of(votes + answers), PushOptions()))
    ]  # type: ignore[arg-type]
