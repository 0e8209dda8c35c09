"""What happens after a certificate: labels of its sample that change."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndec_builder.annotation.stopping.progress import certificate_line, certificate_progress
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.schemas import SET_ASIDE, table_of
from ndec_builder.core.storage import read_json, write_json, write_table
from ndec_builder.manifests.writing.card import _proof
from support.review import Review
from support.votes import Vote


@pytest.fixture
def certified(tmp_path: Path) -> tuple[Review, list[str]]:
    """A review whose certificate is reached, and the pairs that it names."""
    review = Review(tmp_path)
    review.label(review.sample)
    named = list(review.run(error=0.0)["to_label"])  # type: ignore[call-overload]
    review.label(review.sample + named)
    assert str(line_of(review)).startswith("certified: ")
    return review, named


def line_of(review: Review) -> str | None:
    return certificate_line(AnnotationTables(review.workspace, "test"))


def test_labels_of_the_sample_that_are_sent_back_undo_it_until_they_are_given_again(
    certified: tuple[Review, list[str]],
) -> None:
    review, named = certified
    folder = review.workspace.annotation("test")
    sent_back = [{"pair_id": pair, "round": "first", "annotator": "ann", "why": "too fast"} for pair in review.sample]
    write_table(folder / "set_aside.parquet", table_of(SET_ASIDE, sent_back))
    assert "300 pairs of its random sample" in str(line_of(review)) and "certify --again" in str(line_of(review))
    found = certificate_progress(AnnotationTables(review.workspace, "test"))
    assert found and found["changed"] == 300 and "certified" not in str(_proof({"certificate": found}))
    again: list[Vote] = [(pair, "first", "ben", review.truth[pair]) for pair in review.sample]
    review.label(review.sample + named, again)
    assert str(line_of(review)).startswith("certified: ")  # the same labels


def test_other_labels_for_pairs_of_the_sample_undo_it(certified: tuple[Review, list[str]]) -> None:
    review, named = certified
    hard = next(pair for pair in review.sample if review.truth[pair] == "hard_negative")
    other = next(pair for pair in review.sample if review.truth[pair] == "unrelated")
    review.truth[other] = "edited_copy"  # no hard negative before and after
    review.label(review.sample + named)
    assert str(line_of(review)).startswith("certified: ")
    review.truth[hard] = "edited_copy"
    review.label(review.sample + named)
    assert "1 pair of its random sample" in str(line_of(review))
    review.run(error=0.0, again=True)
    assert "random sample are" not in str(line_of(review))


def test_a_certificate_of_an_older_version_stays(certified: tuple[Review, list[str]]) -> None:
    review, named = certified
    path = review.workspace.annotation("test") / "certificate.json"
    write_json(path, {name: value for name, value in read_json(path).items() if name != "hard_in_sample"})
    hard = next(pair for pair in review.sample if review.truth[pair] == "hard_negative")
    review.truth[hard] = "edited_copy"
    review.label(review.sample + named)
    assert str(line_of(review)).startswith("certified: ")
