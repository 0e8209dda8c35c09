"""The audit: who gets which pairs, what its labels say, and that the bound holds against simulated annotators."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from ndec_builder.annotation import resolve
from ndec_builder.annotation.audit import (
    Audit,
    as_text,
    disputed,
    live,
    look,
    overruled,
    pairs_needed,
    sample,
    unconfirmed,
    verdict,
)
from ndec_builder.annotation.planning import new_tasks
from ndec_builder.annotation.policy import draw
from ndec_builder.annotation.settings import PushConfig, ResolveConfig, StatusConfig
from ndec_builder.annotation.status import findings, found_so_far
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import CANDIDATES, LABEL_ROWS, LABELS, SET_ASIDE, TASKS, table_of
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.core.workspace import Workspace

START = datetime(2026, 1, 1, tzinfo=UTC)
Vote = tuple[str, str, str, str]  # pair_id, round, annotator, label


def labels_of(votes: list[Vote]) -> pa.Table:
    rows = [
        {"pair_id": p, "round": r, "annotator": a, "label": label, "seconds": 3.0, "batch": 1, "is_gold": False,
         "annotated_at": START + timedelta(seconds=number)}
        for number, (p, r, a, label) in enumerate(votes)
    ]  # fmt: skip
    return table_of(LABEL_ROWS, rows)


def tasks_of(votes: list[Vote]) -> pa.Table:
    rows = [
        {"pair_id": p, "round": r, "annotator": a, "batch": 1, "position": number + 1, "query_id": f"q-{p}",
         "reference_id": f"r-{p}", "is_gold": False}
        for number, (p, r, a, _) in enumerate(dict.fromkeys((*vote[:3], "") for vote in votes))
    ]  # fmt: skip
    return table_of(TASKS, rows)


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
        ("h", "open", None),
        ("hh", "clean", None),
        ("hu", "clean", None),  # they differ, but nobody says copy
        ("cc", "copy", ("edited_copy", "adjudicated")),
        ("hc", "doubtful", (None, None)),
        ("hcc", "copy", ("edited_copy", "adjudicated")),
        ("hch", "clean", None),
        ("cuh", "clean", None),
        ("??", "doubtful", ("unsure", "adjudicated")),
        ("h?", "doubtful", (None, None)),
        ("cchh", "doubtful", (None, None)),
    ],
)
def test_what_the_labels_of_an_audited_pair_say(votes: str, expected: str, decision: Any) -> None:
    names = dict(zip("chu?", LABELS, strict=True))
    given_ = [names[vote] for vote in votes]
    assert verdict(given_) == expected and overruled(given_) == decision
    assert disputed({"p": given_}) == (["p"] if expected == "doubtful" and votes != "??" else [])


@given(st.sets(st.text("abc123", min_size=3, max_size=6), max_size=30), st.integers(0, 30), st.data())
def test_the_sample_is_a_beginning_of_the_random_order(kept: set[str], count: int, data: st.DataObject) -> None:
    """Pairs drawn once stay the sample while the kept ones stay; pairs kept later break it off, never thin it out."""
    given_ = set(draw(kept, count))
    assert sample(kept, given_) == draw(kept, count)
    more = kept | data.draw(st.sets(st.text("abc123", min_size=3, max_size=6), max_size=5))
    found = sample(more, given_)
    assert found == draw(more, len(found)) and set(found) <= given_


def test_the_bound_is_a_quantile_of_beta_and_doubtful_pairs_count_as_copies() -> None:
    pairs = [f"p{number}" for number in range(300)]
    votes = {pair: ["hard_negative"] * 2 for pair in pairs[:280]} | {
        "p3": ["edited_copy", "edited_copy"], "p4": ["edited_copy", "hard_negative"], "p290": ["hard_negative"],
    }  # fmt: skip
    audit = look(5000, pairs, votes)
    assert (audit.drawn, audit.audited, audit.open, audit.copies, audit.doubtful) == (300, 280, 20, 1, 1)
    assert audit.bound == pytest.approx(beta.ppf(0.95, 2 + 1, 280 - 2))
    assert "of the 5,000 kept" in as_text(audit) and "further copy" in as_text(audit)
    assert look(10, [], {}).bound is None and "none yet" in as_text(look(10, [], {}))


@pytest.mark.parametrize("copies", [0, 1, 4])
def test_how_many_pairs_prove_one_per_cent(copies: int) -> None:
    need = pairs_needed(copies)
    assert beta.ppf(0.95, copies + 1, need - copies) <= 0.01 < beta.ppf(0.95, copies + 1, need - 1 - copies)
    assert copies or need == 299


def test_with_simulated_annotators_the_bound_covers_the_true_rate() -> None:
    """SIMULATED: 60 audits of pairs of which 2 % are copies, by people of 3 % and 8 % error and a third who decides."""
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(60):
        is_copy = rng.random(4000) < 0.02
        kept = [f"{number:05d}" for number in rng.permutation(100_000)[:4000]]
        truth = dict(zip(kept, is_copy, strict=True))
        drawn = draw(kept, 300)

        def says(pair: str, error: float, truth: dict[str, Any] = truth) -> str:
            return "edited_copy" if truth[pair] != (rng.random() < error) else "hard_negative"

        votes = {pair: [says(pair, 0.03), says(pair, 0.08)] for pair in drawn}
        for pair in disputed(votes):
            votes[pair].append(says(pair, 0.03))
        bound = look(len(kept), drawn, votes).bound
        covered += bound is not None and bound >= is_copy.mean()
    assert covered >= 53  # 57 of 60 are expected; 52 or fewer happen once in a hundred


@pytest.mark.parametrize(
    ("votes", "again"),
    [
        *(("hh", False), ("hc", False), ("cc", True), ("ccc", False), ("cch", True), ("cccc", False), ("ccch", True)),
        *(("??", True), ("??h", True), ("??hh", False), ("h", False)),
    ],
)
def test_what_counts_against_the_dataset_is_confirmed(votes: str, again: bool) -> None:
    words = {"c": "edited_copy", "h": "hard_negative", "?": "unsure"}
    assert unconfirmed({"p": [words[vote] for vote in votes]}) == (["p"] if again else [])


def test_confirmation_spares_clean_pairs_and_finds_copies() -> None:
    """SIMULATED: people of 8 % error; six of them at most look at a pair."""
    rng = np.random.default_rng(7)

    def say(truth: str) -> str:
        return truth if rng.random() > 0.08 else str(rng.choice([label for label in LABELS if label != truth]))

    found = {}
    for truth in ("hard_negative", "edited_copy"):
        votes = {str(n): [say(truth), say(truth)] for n in range(6000)}
        plain = {pair: given + [say(truth)] * (pair in disputed({pair: given})) for pair, given in votes.items()}
        for _ in range(4):
            for pair in {*disputed(votes), *unconfirmed(votes)}:
                votes[pair] = [*votes[pair], say(truth)]
        found[truth] = [
            np.mean([verdict(given) in ("copy", "doubtful") for given in some.values()]) for some in (plain, votes)
        ]
    assert found["hard_negative"][1] < 0.0005 < 0.002 < found["hard_negative"][0]
    assert found["edited_copy"][1] > 0.975


def first_round(count: int) -> list[Vote]:
    return [(f"p{number:03d}", "first", "ann" if number % 2 else "ben", "hard_negative") for number in range(count)]


def plan(root: Path, votes: list[Vote], tasks: pa.Table, people: tuple[str, ...], pairs: int = 20) -> pa.Table:
    ids = sorted({vote[0] for vote in votes})
    config = PushConfig(root, round="audit", annotators=people, audit_pairs=pairs)
    return new_tasks(config, [candidates_of(ids)], tasks, labels_of(votes), table_of(SET_ASIDE, []))


def test_each_drawn_pair_goes_to_two_who_have_not_seen_it_then_disputed_ones_to_a_third(tmp_path: Path) -> None:
    votes = first_round(60)
    tasks = tasks_of(votes)
    audit = plan(tmp_path, votes, tasks, ("ann", "ben", "cleo", "dora"))
    seen = {(vote[0], vote[2]) for vote in votes}
    people = Counter(audit["pair_id"].to_pylist())
    assert sorted(people) == sorted(draw([vote[0] for vote in votes], 20)) and set(people.values()) == {2}
    assert not seen & set(zip(audit["pair_id"].to_pylist(), audit["annotator"].to_pylist(), strict=True))

    tasks = pa.concat_tables([tasks, audit])
    assert plan(tmp_path, votes, tasks, ("cleo", "dora")).num_rows == 0  # a second draw changes nothing
    rows = audit.to_pylist()
    odd = rows[0]["pair_id"]
    votes += [(r["pair_id"], "audit", r["annotator"], "hard_negative") for r in rows]
    votes.append((odd, "audit", rows[0]["annotator"], "edited_copy"))  # a correction: now the two disagree
    barred = {name for pair, name in seen if pair == odd} | {r["annotator"] for r in rows if r["pair_id"] == odd}
    with pytest.raises(NdecError, match="too few people for the round 'audit'"):
        plan(tmp_path, votes, tasks, tuple(barred))
    third = plan(tmp_path, votes, tasks, ("ann", "ben", "cleo", "dora", "eve")).to_pylist()
    assert [row["pair_id"] for row in third] == [odd] and third[0]["annotator"] not in barred
    tasks = pa.concat_tables([tasks, table_of(TASKS, third)])
    assert (
        plan(tmp_path, votes, tasks, ("ann", "ben", "cleo", "dora", "eve")).num_rows == 0
    )  # it is open with the third


def test_a_copy_of_the_audit_is_confirmed_where_somebody_is_left(tmp_path: Path) -> None:
    votes = first_round(30)
    tasks = tasks_of(votes)
    audit = plan(tmp_path, votes, tasks, ("cleo", "dora"))
    tasks, rows = pa.concat_tables([tasks, audit]), audit.to_pylist()
    copy = rows[0]["pair_id"]
    label = {True: "edited_copy", False: "hard_negative"}
    votes += [(r["pair_id"], "audit", r["annotator"], label[r["pair_id"] == copy]) for r in rows]
    assert plan(tmp_path, votes, tasks, ("cleo", "dora")).num_rows == 0  # nobody is left: two have to do
    more = plan(tmp_path, votes, tasks, ("cleo", "dora", "eve")).to_pylist()
    assert [(row["pair_id"], row["annotator"]) for row in more] == [(copy, "eve")]


def test_too_few_people_and_nothing_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    votes = first_round(6)
    with pytest.raises(NdecError, match="needs 2 more who have not seen it"):
        plan(tmp_path, votes, tasks_of(votes), ("ann", "ben"))
    plan(tmp_path, votes, tasks_of(votes), ("cleo", "dora"))
    assert "fewer than the 20 asked for" in capsys.readouterr().err  # and the bound that they can reach
    copies = [(pair, round_, name, "edited_copy") for pair, round_, name, _ in votes]
    with pytest.raises(NdecError, match="nothing to audit"):
        plan(tmp_path, copies, tasks_of(copies), ("cleo", "dora"))


def test_agreement_status_and_decisions_follow_the_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = Workspace(tmp_path)
    votes = first_round(400)
    tasks = tasks_of(votes)
    audit = plan(tmp_path, votes, tasks, ("cleo", "dora"), pairs=300)
    answers = [(r["pair_id"], "audit", r["annotator"], "hard_negative") for r in audit.to_pylist()]
    copy = answers[0][0]
    answers = [(p, r, a, "edited_copy" if p == copy else label) for p, r, a, label in answers]
    directory = workspace.annotation("test")
    pairs = sorted({vote[0] for vote in votes})
    write_table(workspace.candidates("test") / "candidates.parquet", candidates_of(pairs))
    write_table(directory / "tasks.parquet", pa.concat_tables([tasks, audit]))
    write_table(directory / "labels.parquet", labels_of(votes + answers))
    decisions = read_table(resolve.run(ResolveConfig(tmp_path))).to_pylist()
    found = read_json(directory / "agreement.json")["audit"]
    assert (found["kept"], found["audited"], found["copies"], found["doubtful"]) == (400, 300, 1, 0)
    assert found["bound"] == pytest.approx(beta.ppf(0.95, 2, 299))
    assert "1 edited copies" in capsys.readouterr().err
    changed = {row["pair_id"]: (row["decision"], row["basis"]) for row in decisions}
    assert changed.pop(copy) == ("edited_copy", "adjudicated")
    assert set(changed.values()) == {("hard_negative", "agreed")}
    assert live(directory, labels_of(votes + answers)) == Audit(400, 300, 300, 1, 0, found["bound"])
    assert live(directory, labels_of(votes)) == Audit(400, 300, 0, 0, 0, None)
    config = StatusConfig(tmp_path)
    assert findings(found_so_far(config)) == [as_text(live(directory, labels_of(votes + answers)))]  # type: ignore[arg-type]
