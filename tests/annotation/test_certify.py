"""`ndec annotate certify` on a workspace: what it says, what it keeps, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ndec_builder.annotation import resolve
from ndec_builder.annotation.assignment.rounds import new_tasks
from ndec_builder.annotation.decisions.recall_certificate import GoldErrors, RecallGoal, certify_recall, goal_of_look
from ndec_builder.annotation.push_options import PushOptions, write_push_options
from ndec_builder.annotation.settings import PushConfig, ResolveConfig, StatusConfig
from ndec_builder.annotation.status import audit_and_clearing, findings_text
from ndec_builder.annotation.stopping.certificate import first_labels, measured_error, sample_advice
from ndec_builder.annotation.stopping.progress import certificate_line, certificate_progress, certificate_text
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import CANDIDATES, DECISIONS, GOLD, PRELABELS, table_of
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.manifests.writing.card import _proof
from support.review import PAIRS, SAMPLE, Review
from support.votes import Vote, labels_of, tasks_of


@pytest.fixture
def review(tmp_path: Path) -> Review:
    return Review(tmp_path)


def test_the_stop_is_that_of_the_sample_in_the_ranking(review: Review, capsys: pytest.CaptureFixture[str]) -> None:
    review.label(review.sample)
    stored = review.run(error=0.0)
    ranks = [review.ranking.index(pair) + 1 for pair in review.sample if review.truth[pair] == "hard_negative"]
    assert stored["stop"] == certify_recall(np.array(ranks), PAIRS, SAMPLE, RecallGoal(0.8, 1 - 0.05 * 3 / 4)).stop
    assert stored["to_label"] == review.ranking[: stored["stop"]]  # type: ignore[misc]
    missing = set(stored["to_label"]) - set(review.sample)  # type: ignore[call-overload]
    assert f"{len(missing):,} more labels certify" in capsys.readouterr().err


def test_it_is_reached_when_the_named_pairs_are_labelled_and_then_it_is_true(
    review: Review, capsys: pytest.CaptureFixture[str]
) -> None:
    review.label(review.sample)
    named = list(review.run(error=0.0)["to_label"])  # type: ignore[call-overload]
    review.label(review.sample + named)
    review.run(error=0.0)
    assert "certified: at least 80% of the hard negatives" in capsys.readouterr().err
    labelled = {*review.sample, *named}
    hard = [pair for pair in review.ids if review.truth[pair] == "hard_negative"]
    assert sum(pair in labelled for pair in hard) >= 0.8 * len(hard)
    assert len(labelled) < PAIRS


def test_an_unlabelled_pair_ends_the_sample(review: Review) -> None:
    review.label(review.sample[:200] + review.sample[201:])
    assert review.run(error=0.0)["sample"] == 200


@pytest.mark.slow
def test_the_error_is_measured_on_gold_pairs_and_assumed_without(review: Review) -> None:
    review.label(review.sample)
    assert (review.run()["error"], review.run()["error_source"]) == (0.03, "assumed: there are no labelled gold pairs")
    gold = [{"pair_id": f"g{number}", "truth": "edited_copy"} for number in range(50)]
    write_table(review.workspace.annotation("test") / "gold.parquet", table_of(GOLD, gold))
    votes = [(pair, "first", "ann", review.truth[pair]) for pair in review.sample]
    votes += [(row["pair_id"], "first", "ann", "edited_copy") for row in gold]
    write_table(review.workspace.annotation("test") / "labels.parquet", labels_of(votes))
    stored = review.run(again=True)
    assert stored["error_source"] == "0 of 50 gold pairs"
    assert stored["error"] == 0.0


def test_a_certificate_is_replaced_on_request_only_and_costs_confidence(review: Review) -> None:
    review.label(review.sample)
    first = review.run(error=0.0)
    with pytest.raises(NdecError, match="add --again to replace it"):
        review.run(error=0.0, recall=0.9)
    second = review.run(error=0.0, again=True)
    assert (first["replaced"], second["replaced"]) == (0, 1)
    assert second["goal"] == {"recall": 0.8, "confidence": pytest.approx(1 - 0.05 * 3 / 16)}
    assert second["stop"] >= first["stop"]  # type: ignore[operator]


def test_no_sample_and_a_sample_without_hard_negatives_say_what_to_do(review: Review) -> None:
    with pytest.raises(NdecError, match="random sample of 300 pairs of the split 'test' is not labelled"):
        review.run()
    review.truth = dict.fromkeys(review.ids, "unrelated")
    review.label(review.sample)
    with pytest.raises(NdecError, match=r"holds no hard negative. So at most \d+ of the 1,500 candidates"):
        review.run(error=0.0)


def test_without_relearning_there_is_no_ranking(review: Review) -> None:
    review.label(review.sample)
    (review.workspace.annotation("test") / "prelabels.parquet").unlink()
    with pytest.raises(NdecError, match="run `ndec annotate relearn` first"):
        review.run()


def tables_of(review: Review) -> AnnotationTables:
    return AnnotationTables(review.workspace, "test")


def test_two_crops_called_hard_negatives_are_no_errors(review: Review) -> None:
    """Gold pairs of the kind two_crops accept any label except edited_copy."""
    gold = [{"pair_id": f"g{number}", "truth": "no_copy"} for number in range(20)] + [
        {"pair_id": f"c{number}", "truth": "edited_copy"} for number in range(30)
    ]
    write_table(review.workspace.annotation("test") / "gold.parquet", table_of(GOLD, gold))
    review.label([], [(str(row["pair_id"]), "first", "ann", "hard_negative") for row in gold[:25]])
    error, source = measured_error(tables_of(review))
    assert (error, source) == (GoldErrors(5, 5), "5 of 5 gold pairs")
    # a correction after a pull is one more row of the same label
    corrected: list[Vote] = [(f"c{number}", "first", "ann", "edited_copy") for number in range(2)]
    review.label([], [*((str(row["pair_id"]), "first", "ann", "hard_negative") for row in gold[:25]), *corrected])
    assert measured_error(tables_of(review)) == (GoldErrors(3, 5), "3 of 5 gold pairs")


def test_labels_of_later_rounds_do_not_change_the_sample(review: Review) -> None:
    review.label(review.sample, [(review.sample[0], "adjudication", "ben", "edited_copy")])
    assert first_labels(tables_of(review))[review.sample[0]] == review.truth[review.sample[0]]


def test_pairs_labelled_beyond_the_drawn_sample_do_not_enlarge_it(review: Review) -> None:
    """They were labelled because of their place in the ranking."""
    review.label(review.ids)
    assert review.run(error=0.0)["sample"] == SAMPLE


def test_a_double_check_of_the_whole_sample_confirms_it(review: Review) -> None:
    hard = [pair for pair in review.sample if review.truth[pair] == "hard_negative"]
    again: list[Vote] = [(pair, "double_check", "ben", "hard_negative") for pair in hard]
    review.label(review.sample, again)
    confirmed = review.run()
    review.label(review.sample, again[1:])  # one is missing: it would be chosen, not drawn
    alone = review.run(again=True)
    assert (confirmed["confirmed"], alone["confirmed"]) == (True, False)
    assert confirmed["false"] < alone["false"]  # type: ignore[operator]
    assert confirmed["stop"] < alone["stop"]  # type: ignore[operator]


def test_a_pair_that_the_second_annotator_rejects_is_no_positive(review: Review) -> None:
    hard = [pair for pair in review.sample if review.truth[pair] == "hard_negative"]
    votes: list[Vote] = [(pair, "double_check", "ben", "hard_negative") for pair in hard[1:]]
    review.label(review.sample, [*votes, (hard[0], "double_check", "ben", "unsure")])
    assert review.run()["positives"] == len(hard) - 1


def test_hints_are_refused_because_labels_may_follow_them(review: Review) -> None:
    review.label(review.sample)
    write_push_options(review.workspace.annotation("test"), PushOptions(ever_shown=True, sample=SAMPLE))
    with pytest.raises(NdecError, match="hints were shown on the labelling page"):
        review.run()


def test_a_sorted_queue_is_no_sample(review: Review) -> None:
    review.label(review.ids[:600])
    write_push_options(review.workspace.annotation("test"), PushOptions())
    with pytest.raises(NdecError, match=r"no random sample .* was drawn; the first pairs of a sorted queue cannot"):
        review.run()


def test_it_says_who_left_the_sample_half_way(review: Review, capsys: pytest.CaptureFixture[str]) -> None:
    review.label(review.sample[:200])
    votes: list[Vote] = [(pair, "first", "ann", review.truth[pair]) for pair in review.sample[:200]]
    left: list[Vote] = [(pair, "first", "zoe", "unsure") for pair in review.sample[200:]]
    write_table(review.workspace.annotation("test") / "tasks.parquet", tasks_of(votes + left))
    assert review.run(error=0.0)["sample"] == 200
    assert "counts 200 of the 300 pairs drawn" in (said := capsys.readouterr().err)
    assert "zoe has 100 of them open" in said


def test_a_certificate_of_other_candidates_says_so(review: Review) -> None:
    review.label(review.sample)
    review.run(error=0.0)
    tables = tables_of(review)
    path = review.workspace.candidates("test") / "candidates.parquet"
    write_table(path, tables.mined[0].slice(0, PAIRS - 1))
    assert "mined or cleared differently" in (certificate_line(tables_of(review)) or "")


def test_pairs_of_dropped_queries_need_no_label(review: Review) -> None:
    """The query of a named pair has another pair that is an edited copy: nobody can keep it."""
    review.label(review.sample)
    named = list(review.run(error=0.0)["to_label"])  # type: ignore[call-overload]
    missing = next(pair for pair in named if pair not in review.sample)
    other = review.sample[0]
    path = review.workspace.candidates("test") / "candidates.parquet"
    rows = tables_of(review).mined[0].to_pylist()
    for row in rows:
        row["query_id"] = "q" if row["pair_id"] in (missing, other) else row["query_id"]
    write_table(path, table_of(CANDIDATES, rows))
    decided = [{"pair_id": other, "decision": "edited_copy", "basis": "agreed", "labels": 1, "agreement": 1.0}]
    write_table(review.workspace.annotation("test") / "decisions.parquet", table_of(DECISIONS, decided))
    review.label(review.sample + [pair for pair in named if pair != missing])
    found = certificate_progress(tables_of(review)) or {}
    assert (found["open"], found["unkeepable"]) == (0, 1)
    assert "or belong to a query with an edited copy (1 pair)" in certificate_text(found)


@pytest.mark.slow
def test_status_and_the_card_report_it(review: Review) -> None:
    review.label(review.sample)
    named = list(review.run()["to_label"])  # type: ignore[call-overload]
    missing = len(set(named) - set(review.sample))
    found = audit_and_clearing(StatusConfig(review.workspace.root))
    assert found["certificate"]["open"] == missing
    assert f"{missing} more labels certify" in "\n".join(findings_text(found))
    review.label(review.sample + named)
    resolve.run(ResolveConfig(review.workspace.root))
    stored = read_json(review.workspace.annotation("test") / "agreement.json")["certificate"]
    rest = PAIRS - len({*review.sample, *named})
    assert (stored["open"], stored["unlabelled"]) == (0, rest)
    card = "\n".join(_proof({"certificate": stored}))
    assert "at least 80% of the hard negatives among the 1,500 candidates are labelled (95% confidence)" in card
    assert f"{rest:,} pairs were not looked at" in card and "misses at most 10% of the hard negatives" in card
    status = "\n".join(findings_text(audit_and_clearing(StatusConfig(review.workspace.root))))
    assert "certified: at least 80% of the hard negatives among these 1,500 candidates are labelled" in status
    assert f"{rest:,} pairs need no label" in status


def test_a_push_keeps_the_order_of_the_certificate_after_relearning(review: Review) -> None:
    review.label(review.sample)
    named = list(review.run()["to_label"])  # type: ignore[call-overload]
    path = review.workspace.annotation("test") / "prelabels.parquet"
    write_table(path, table_of(PRELABELS, [row | {"hard_negative": 1 - row["hard_negative"]} for row in
                                           read_table(path).to_pylist()]))  # fmt: skip
    config = PushConfig(review.workspace.root, annotators=("ann",), order="likeliest", count=50)
    pushed = new_tasks(config, tables_of(review))["pair_id"].to_pylist()
    assert pushed == [pair for pair in named if pair not in review.sample][:50]


def test_the_sample_is_pushed_in_random_order_whatever_the_plan(review: Review) -> None:
    config = PushConfig(review.workspace.root, annotators=("ann",), sample=40, plan="economical")
    assert new_tasks(config, tables_of(review))["pair_id"].to_pylist() == review.sample[:40]
    with pytest.raises(UsageError, match="a random draw of all pairs"):
        PushConfig(review.workspace.root, sample=40, below=0.5)


@pytest.mark.parametrize(("sample", "words"), [(600, "expect to stop at 8"), (30, "too few to certify")])
def test_the_advice_for_a_sample(sample: int, words: str) -> None:
    assert words in sample_advice(sample, 5000)
    assert "30% hard negatives among the pairs (assumed)" in sample_advice(sample, 5000)
    assert "60% hard negatives among the pairs:" in sample_advice(sample, 5000, (60, 100))


def test_an_error_other_than_that_of_the_certificate_is_refused(review: Review) -> None:
    review.label(review.sample)
    review.run(error=0.0)
    assert review.run()["error"] == review.run(error=0.0)["error"] == 0.0
    with pytest.raises(NdecError, match=r"error of 0\.000 \(given\), not on the 0\.4 of --error; add --again"):
        review.run(error=0.4)


def test_nothing_is_said_about_other_pairs_if_there_are_none(review: Review) -> None:
    review.label(review.ids)
    review.run(error=0.0)
    found = certificate_progress(tables_of(review))
    assert found is not None and found["unlabelled"] == 0
    assert "no label" not in certificate_text(found) and " 0 pairs" not in certificate_text(found)


def test_certificates_that_replace_each_other_share_the_error() -> None:
    errors = [1 - goal_of_look(0.8, 0.95, replaced).confidence for replaced in range(40)]
    assert sum(errors) <= 0.05 + 1e-12 and errors[0] == pytest.approx(0.0375)
