"""Weighted decisions: pairs without much doubt are decided, and pushes continue for the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.annotation import resolve
from ndec_builder.annotation.decisions.label_statistics import posterior_of
from ndec_builder.annotation.decisions.resolution import decision_table
from ndec_builder.annotation.decisions.weighted import weighted_decisions
from ndec_builder.annotation.settings import PushConfig, ResolveConfig
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import CANDIDATES, LABELS, PRELABELS, table_of
from ndec_builder.core.storage import read_table, write_table
from ndec_builder.core.workspace import Workspace
from support.votes import Vote, labels_of, push_rows, tasks_of

pytestmark = pytest.mark.slow

PEOPLE = ("ann", "ben", "cleo", "dora")


VOTES: list[Vote] = [
    *((f"h{n}", "first", PEOPLE[n % 2], "hard_negative") for n in range(30)),
    *((f"c{n}", "first", PEOPLE[n % 2], "edited_copy") for n in range(30)),
    ("odd", "first", "ann", "hard_negative"),
    ("both", "first", "ann", "edited_copy"), ("both", "double_check", "ben", "hard_negative"),
    ("blank", "first", "ann", "unsure"), ("blank", "double_check", "ben", "unsure"),
]  # fmt: skip
PRIOR = (
    {f"h{n}": (0.05, 0.9, 0.05) for n in range(30)}
    | {f"c{n}": (0.95, 0.03, 0.02) for n in range(30)}
    | {"odd": (0.9, 0.05, 0.05), "both": (0.03, 0.9, 0.07), "blank": (0.4, 0.3, 0.3)}
)


def test_doubt_stays_open_and_a_prior_settles_a_dispute() -> None:
    found = weighted_decisions(labels_of(VOTES), PRIOR, 0.01, 0.05)
    assert {found[f"h{n}"] for n in range(30)} == {("hard_negative", "agreed")}
    assert {found[f"c{n}"] for n in range(30)} == {("edited_copy", "agreed")}
    assert found["odd"] == (None, None)  # one person against all that is known
    assert found["blank"] == ("unsure", "double_checked")
    assert weighted_decisions(labels_of(VOTES), PRIOR, 0.2, 0.2)["both"] == ("hard_negative", "double_checked")
    audit = [*VOTES, ("odd", "audit", "cleo", "edited_copy"), ("odd", "audit", "dora", "edited_copy")]
    assert weighted_decisions(labels_of(audit), PRIOR, 0.01, 0.05) == found  # the audit stays apart


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**20), st.floats(0.005, 0.2), st.floats(0.005, 0.2))
def test_decisions_are_those_of_the_posterior(seed: int, keep: float, discard: float) -> None:
    rng = np.random.default_rng(seed)
    votes = [
        (f"p{rng.integers(40)}", str(rng.choice(["first", "double_check"])), str(rng.choice(PEOPLE)),
         str(rng.choice(LABELS)))
        for _ in range(80)
    ]  # fmt: skip
    prior = {f"p{n}": (float(p), float(1 - p) / 2, float(1 - p) / 2) for n, p in enumerate(rng.random(40))}
    labels = labels_of(votes)
    found = weighted_decisions(labels, prior, keep, discard)
    pairs, posterior = posterior_of(labels, prior)
    assert sorted(found) == pairs
    for pair, row in zip(pairs, posterior.probabilities, strict=True):
        decision = found[pair][0]
        if decision == "edited_copy":
            assert row[0] >= 1 - discard
        elif decision in ("hard_negative", "unrelated"):
            assert row[0] <= keep and row[LABELS.index(decision)] == row[1:].max()
        elif decision is None:
            assert keep < row[0] < 1 - discard
        else:
            assert sum(vote[0] == pair and vote[3] == "unsure" for vote in votes) >= 2


def test_resolve_and_adjudicate_weigh_labels_if_set(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    pairs = sorted(PRIOR)
    candidates = [
        {"pair_id": p, "split": "test", "query_id": f"q-{p}", "reference_id": f"r-{p}", "score": 0.9, "rank": n + 1}
        for n, p in enumerate(pairs)
    ]
    write_table(workspace.candidates("test") / "candidates.parquet", table_of(CANDIDATES, candidates))
    names = ("edited_copy", "hard_negative", "unrelated")
    rows = [{"pair_id": pair, **dict(zip(names, PRIOR[pair], strict=True))} for pair in pairs]
    directory = workspace.annotation("test")
    write_table(directory / "prelabels.parquet", table_of(PRELABELS, rows))
    write_table(directory / "tasks.parquet", tasks_of(VOTES))
    write_table(directory / "labels.parquet", labels_of(VOTES))
    table = read_table(resolve.run(ResolveConfig(tmp_path, decide="weighed"))).to_pylist()
    expected = weighted_decisions(labels_of(VOTES), PRIOR, 0.01, 0.05)
    assert {row["pair_id"]: (row["decision"], row["basis"]) for row in table} == expected
    assert read_table(resolve.run(ResolveConfig(tmp_path))).to_pylist() != table

    def adjudicate(votes: list[Vote], tasks: pa.Table) -> pa.Table:
        config = PushConfig(tmp_path, round="adjudication", annotators=PEOPLE, decide="weighed")
        tables = [table_of(CANDIDATES, candidates)]
        return push_rows(config, tables, tasks, labels_of(votes))

    open_ = {pair for pair, (decision, _) in expected.items() if decision is None}
    more = adjudicate(VOTES, tasks_of(VOTES))
    assert set(more["pair_id"].to_pylist()) == open_ and "odd" in open_
    seen = {(vote[0], vote[2]) for vote in VOTES}
    assert not seen & set(zip(more["pair_id"].to_pylist(), more["annotator"].to_pylist(), strict=True))
    tasks = pa.concat_tables([tasks_of(VOTES), more])
    assert adjudicate(VOTES, tasks).num_rows == 0  # they are open with somebody
    votes = [*VOTES, *((r["pair_id"], "adjudication", r["annotator"], "edited_copy") for r in more.to_pylist())]
    again = set(adjudicate(votes, tasks)["pair_id"].to_pylist())
    assert again == {
        pair for pair, (d, _) in weighted_decisions(labels_of(votes), PRIOR, 0.01, 0.05).items() if d is None
    }
    for make in (lambda: ResolveConfig(tmp_path, decide="guess"), lambda: PushConfig(tmp_path, decide="guess")):
        with pytest.raises(UsageError, match="decide is 'guess'"):
            make()


def test_a_doubtful_pair_that_all_have_seen_does_not_block_the_double_check(tmp_path: Path) -> None:
    votes = [*VOTES, *(("odd", "first", name, "unsure") for name in PEOPLE[1:])]
    rows = [{"pair_id": p, "edited_copy": v[0], "hard_negative": v[1], "unrelated": v[2]} for p, v in PRIOR.items()]
    write_table(Workspace(tmp_path).annotation("test") / "prelabels.parquet", table_of(PRELABELS, rows))
    candidates = [{"pair_id": p, "query_id": f"q-{p}", "reference_id": f"r-{p}", "rank": 1} for p in sorted(PRIOR)]

    def again(names: tuple[str, ...], votes: list[Vote]) -> set[str]:
        config = PushConfig(tmp_path, round="double_check", double_check="uncertain", annotators=names)
        tables = [table_of(CANDIDATES, candidates)]
        return set(push_rows(config, tables, tasks_of(votes), labels_of(votes))["pair_id"].to_pylist())

    more: list[Vote] = [("h3", "first", "ben", "edited_copy")]
    assert again(PEOPLE, [*votes, *more]) >= {"h3"} and "odd" not in again(PEOPLE, [*votes, *more])
    with pytest.raises(NdecError, match="too few annotators for the round 'double_check'"):
        again(("ann", "ben"), [("blank", "first", "ann", "unsure"), ("blank", "first", "ben", "unsure")])


def test_weighting_needs_fewer_labels_for_no_more_errors_with_simulated_annotators() -> None:
    """SIMULATED: 2,000 pairs, a calibrated prior, people of 3 % and 8 % error; compared with two labels and a third."""
    rng = np.random.default_rng(3)
    copy = rng.beta(0.2, 0.4, 2000)
    truth = np.where(rng.random(2000) < copy, "edited_copy", "hard_negative")
    errors = dict(zip(PEOPLE, (0.03, 0.08, 0.03, 0.08), strict=True))
    prior = {f"p{n}": (float(p), float(1 - p) * 0.97, float(1 - p) * 0.03) for n, p in enumerate(copy)}

    def vote(n: int, round_: str, name: str) -> Vote:
        other = "hard_negative" if truth[n] == "edited_copy" else "edited_copy"
        return (f"p{n}", round_, name, other if rng.random() < errors[name] else str(truth[n]))

    votes = [vote(n, "first", PEOPLE[n % 4]) for n in range(2000)]
    for step in (1, 2, 3):
        open_ = {pair for pair, (d, _) in weighted_decisions(labels_of(votes), prior, 0.01, 0.03).items() if d is None}
        votes += [vote(n, "adjudication", PEOPLE[(n + step) % 4]) for n in range(2000) if f"p{n}" in open_]
    found = {pair: decision for pair, (decision, _) in weighted_decisions(labels_of(votes), prior, 0.01, 0.03).items()}
    twice = [vote(n, "first", PEOPLE[n % 4]) for n in range(2000)]
    twice += [vote(n, "double_check", PEOPLE[(n + 1) % 4]) for n in range(2000)]
    table = decision_table(tasks_of(twice), labels_of(twice)).to_pylist()
    twice += [
        vote(int(r["pair_id"][1:]), "adjudication", PEOPLE[(int(r["pair_id"][1:]) + 2) % 4])
        for r in table
        if r["decision"] is None
    ]
    counted = {r["pair_id"]: r["decision"] for r in decision_table(tasks_of(twice), labels_of(twice)).to_pylist()}
    wrong = [sum(one[f"p{n}"] not in (truth[n], None) for n in range(2000)) for one in (found, counted)]
    assert list(found.values()).count(None) < 60  # nobody counts what is still open as decided
    assert len(votes) < 0.7 * len(twice) and wrong[0] <= wrong[1]
