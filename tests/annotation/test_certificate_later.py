"""What happens after a certificate: labels of its sample that change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ndec_builder.annotation import resolve
from ndec_builder.annotation.settings import ResolveConfig
from ndec_builder.annotation.staleness import older_decisions
from ndec_builder.annotation.stopping.progress import certificate_line, certificate_progress
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.schemas import CANDIDATES, SET_ASIDE, table_of
from ndec_builder.core.storage import read_json, read_table, write_json, write_table
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


def test_decisions_are_published_with_the_certificate_of_today(certified: tuple[Review, list[str]]) -> None:
    review, _ = certified
    folder, path = review.workspace.annotation("test"), review.workspace.candidates("test") / "candidates.parquet"
    resolve.run(ResolveConfig(review.workspace.root))
    assert older_decisions(review.workspace, "test") == "" and not published(review)["stale"]
    rows = read_table(path).to_pylist()
    write_table(path, table_of(CANDIDATES, [*rows, rows[0] | {"pair_id": "new", "query_id": "new", "rank": 9999}]))
    assert "an audit or a certificate of other pairs" in older_decisions(review.workspace, "test")
    resolve.run(ResolveConfig(review.workspace.root))
    assert older_decisions(review.workspace, "test") == "" and published(review)["stale"]
    record = read_json(folder / "resolve.run.json")
    del record["inputs"]["audit and certificate"]  # of an older version
    write_json(folder / "resolve.run.json", record)
    write_table(path, table_of(CANDIDATES, rows))
    assert older_decisions(review.workspace, "test") == ""


def published(review: Review) -> dict[str, Any]:
    return dict(read_json(review.workspace.annotation("test") / "agreement.json")["certificate"])


def test_a_certificate_of_an_older_version_stays(certified: tuple[Review, list[str]]) -> None:
    review, named = certified
    path = review.workspace.annotation("test") / "certificate.json"
    write_json(path, {name: value for name, value in read_json(path).items() if name != "hard_in_sample"})
    hard = next(pair for pair in review.sample if review.truth[pair] == "hard_negative")
    review.truth[hard] = "edited_copy"
    review.label(review.sample + named)
    assert str(line_of(review)).startswith("certified: ")
