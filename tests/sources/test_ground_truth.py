"""DISC21 ground truths: both forms, and every way in which one can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.sources.ground_truth import check_ids, match_ids, read_ground_truth


def read(tmp_path: Path, text: str | bytes) -> list[tuple[str, str | None]]:
    path = tmp_path / "gt.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_ground_truth(path)


@pytest.mark.parametrize(
    "text",
    [
        "query_id,reference_id\nQ1,R1\nQ2,\n",
        "Q1,R1\nQ2,\n",
        "Q1.jpg,R1.jpg\r\nQ2.JPG,\r\n",
        "\ufeffquery_id,reference_id\n\nQ1, R1\n\nQ2,",
        'query_id,reference_id\n"Q1","R1"\n"Q2",""\n',
        "Q1.png,R1.JPEG\nQ2.webp,\n",
    ],
)
def test_the_forms_of_disc21(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == [("Q1", "R1"), ("Q2", None)]


def test_a_query_may_have_several_references(tmp_path: Path) -> None:
    assert read(tmp_path, "Q1,R1\nQ1,R2\n") == [("Q1", "R1"), ("Q1", "R2")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Q1,R1\nQ2\n", r"line 2: 1 columns \('Q2'\)"),
        ("query_id,reference_id,score\nQ1,R1,0.5\n", r"line 1: 3 columns"),
        ("Q1,R1\n,R2\n", "line 2: the query_id is empty"),
        ("Q1,R1\nQ2,R2\nQ1,R1\n", "line 3: the row 'Q1,R1' was already in line 1"),
        ("Q1,R1\nQ1,\n", "line 2: query 'Q1' is listed without a match"),
        ('Q1,"R1\n', "not csv"),
        ("query_id,reference_id\n", "has no rows"),
        ("", "has no rows"),
    ],
)
def test_errors_name_their_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(NdecError, match=message):
        read(tmp_path, text)


def test_a_binary_file_is_not_csv(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not UTF-8 text"):
        read(tmp_path, b"\x89PNG\r\n\x1a\n\xff\xfe")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a file"):
        read_ground_truth(tmp_path / "no.csv")


def test_unknown_ids_are_counted_and_the_first_named() -> None:
    rows = [("Q1", "R1"), ("Q2", None)] + [(f"X{i}", "R1") for i in range(7)]
    check_ids(rows[:2], ["Q1", "Q2"], ["R1"])
    with pytest.raises(NdecError, match=r"names 7 query ids .* 'X0', 'X1', 'X2', 'X3', 'X4', …"):
        check_ids(rows, ["Q1", "Q2"], ["R1"])
    with pytest.raises(NdecError, match="names 1 reference id not among the 0 reference images: 'R1'"):
        check_ids(rows[:2], ["Q1", "Q2"], [])
    check_ids(rows[:2], ["Q1", "Q2"], None)


def test_an_ending_that_belongs_to_an_id_is_kept(tmp_path: Path) -> None:
    (tmp_path / "gt.csv").write_text("a.png,b.png\nv1.2,c.jpg\n")
    rows = read_ground_truth(tmp_path / "gt.csv", {"a.png", "c"})
    assert rows == [("a.png", "b"), ("v1.2", "c")]


def test_names_are_matched_to_ids_with_endings() -> None:
    rows = [("a", "b"), ("c.png", None)]
    assert match_ids(rows, ["a.jpg", "c.png", "c.jpg"], ["b"]) == [("a.jpg", "b"), ("c.png", None)]
    with pytest.raises(NdecError, match=r"'c', which fits 'c.png', 'c.jpg'; give the full id"):
        match_ids([("c", None)], ["c.png", "c.jpg"], None)


ids = st.text("abcXYZ019_-", min_size=1, max_size=6)


@pytest.mark.parametrize(
    "rows",
    [[("a", "r"), ("a.png", "r")], [("a", None), ("a.png", "r")], [("a", "r"), ("a", "r.jpg")]],
)
def test_two_names_of_one_image_are_refused(rows: list[tuple[str, str | None]]) -> None:
    """As two rows, they would be a repeated pair or a contradiction."""
    with pytest.raises(NdecError, match=r"the ground truth names the image .* twice, as"):
        match_ids(rows, ["a.png", "b"], ["r.jpg"])


def test_two_queries_may_name_their_reference_in_two_ways() -> None:
    rows = [("a", "r"), ("b", "r.jpg")]
    assert match_ids(rows, ["a", "b"], ["r.jpg"]) == [("a", "r.jpg"), ("b", "r.jpg")]


@given(st.dictionaries(ids, st.one_of(st.none(), ids), min_size=1))
def test_written_rows_are_read_back(tmp_path_factory: pytest.TempPathFactory, rows: dict[str, str | None]) -> None:
    text = "query_id,reference_id\n" + "".join(f"{query},{reference or ''}\n" for query, reference in rows.items())
    assert read(tmp_path_factory.mktemp("gt"), text) == list(rows.items())
