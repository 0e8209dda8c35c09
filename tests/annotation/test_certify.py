"""`ndec annotate certify` on a workspace: what it says, what it keeps, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ndec_builder.annotation.decisions.label_statistics import draw_pairs
from ndec_builder.annotation.decisions.recall_certificate import RecallGoal, certify_recall
from ndec_builder.annotation.push_options import PushOptions, write_push_options
from ndec_builder.annotation.stopping import certify
from ndec_builder.annotation.stopping.settings import CertifyConfig
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import CANDIDATES, GOLD, PRELABELS, table_of
from ndec_builder.core.storage import read_json, write_table
from ndec_builder.core.workspace import Workspace
from support.votes import labels_of

PAIRS, SAMPLE = 1500, 300


class Review:
    """PAIRS mined pairs, a third of them hard negatives, with relearnt probabilities that mostly rank these first."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root)
        rng = np.random.default_rng(1)
        self.ids = [f"p{number:04d}" for number in range(PAIRS)]
        self.truth = {pair: "hard_negative" if rng.random() < 1 / 3 else "unrelated" for pair in self.ids}
        chance = {
            pair: float(rng.beta(4, 2) if label == "hard_negative" else rng.beta(2, 4))
            for pair, label in self.truth.items()
        }
        self.ranking = sorted(self.ids, key=lambda pair: -chance[pair])
        candidates = [
            {"pair_id": pair, "split": "test", "query_id": f"q{pair}", "reference_id": f"r{pair}", "score": 0.5,
             "rank": number + 1}
            for number, pair in enumerate(self.ids)
        ]  # fmt: skip
        learnt = [
            {"pair_id": pair, "edited_copy": (1 - p) / 2, "hard_negative": p, "unrelated": (1 - p) / 2}
            for pair, p in chance.items()
        ]
        write_table(self.workspace.candidates("test") / "candidates.parquet", table_of(CANDIDATES, candidates))
        write_table(self.workspace.annotation("test") / "prelabels.parquet", table_of(PRELABELS, learnt))
        self.sample = draw_pairs(self.ids, SAMPLE, "sample")
        write_push_options(self.workspace.annotation("test"), PushOptions(sample=SAMPLE))

    def label(self, pairs: list[str]) -> None:
        votes = [(pair, "first", "ann", self.truth[pair]) for pair in dict.fromkeys(pairs)]
        write_table(self.workspace.annotation("test") / "labels.parquet", labels_of(votes))

    def run(self, **settings: object) -> dict[str, object]:
        config = CertifyConfig(self.workspace.root, **settings)  # type: ignore[arg-type]
        return dict(read_json(certify.run(config)))


@pytest.fixture
def review(tmp_path: Path) -> Review:
    return Review(tmp_path)


def test_the_stop_is_that_of_the_sample_in_the_ranking(review: Review, capsys: pytest.CaptureFixture[str]) -> None:
    review.label(review.sample)
    stored = review.run(error=0.0)
    ranks = [review.ranking.index(pair) + 1 for pair in review.sample if review.truth[pair] == "hard_negative"]
    assert stored["stop"] == certify_recall(np.array(ranks), PAIRS, SAMPLE, RecallGoal(0.8, 0.95)).stop
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
    assert second["goal"] == {"recall": 0.8, "confidence": 0.975}
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
