"""Predictions csv: round trip, and a clear line for everything that can be wrong in it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.evaluation import predictions
from ndec_builder.evaluation.predictions import Predictions, read_predictions, write_predictions
from ndec_builder.league.raw_predictions import read_raw

QUERIES, REFERENCES = ["q,1", 'q"2', "q3"], ["r1", "r2"]


@pytest.mark.slow
@given(
    st.dictionaries(
        st.tuples(st.integers(0, 2), st.integers(0, 1)), st.floats(allow_nan=False, allow_infinity=False), min_size=1
    )
)
@settings(max_examples=100, deadline=None)
def test_written_predictions_read_back_exactly(tmp_path_factory: pytest.TempPathFactory, rows: dict) -> None:
    path = tmp_path_factory.mktemp("csv") / "predictions.csv"
    pairs = np.array(list(rows), np.int64)
    given_rows = Predictions(pairs[:, 0], pairs[:, 1], np.array(list(rows.values())), "test")
    write_predictions(path, given_rows, QUERIES, REFERENCES)
    back = read_predictions(path, QUERIES, REFERENCES)
    read = {(int(q), int(r)): float(s) for q, r, s in zip(back.query, back.reference, back.scores, strict=True)}
    assert read == rows
    path.write_text(path.read_text().partition("\n")[2])  # without its header a csv is read line by line
    line_by_line = read_predictions(path, QUERIES, REFERENCES)
    for name in ("query", "reference", "scores"):
        one, two = getattr(back, name), getattr(line_by_line, name)
        assert one.dtype == two.dtype and one.tolist() == two.tolist()
    assert list(zip(-back.scores, back.query, back.reference, strict=True)) == sorted(
        zip(-back.scores, back.query, back.reference, strict=True)
    )


@pytest.mark.slow
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=2, max_size=2, unique=True).map(sorted))
@settings(max_examples=60, deadline=None)
def test_any_id_is_written_as_csv_does(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    path = tmp_path_factory.mktemp("csv") / "predictions.csv"
    write_predictions(path, Predictions(np.array([0, 1]), np.array([1, 0]), np.array([2.0, 1e-5]), "test"), ids, ids)
    expected = io.StringIO(newline="")
    rows = [("query_id", "reference_id", "score"), (ids[0], ids[1], 2.0), (ids[1], ids[0], 1e-5)]
    csv.writer(expected, lineterminator="\n").writerows(rows)
    assert path.read_bytes() == expected.getvalue().encode()
    assert "\r" in "".join(ids) or read_predictions(path, ids, ids).query.tolist() == [0, 1]


@pytest.mark.parametrize("header", ["", "query_id,reference_id,score\n", "\ufeffquery_id, reference_id, score\n"])
def test_header_is_optional(tmp_path: Path, header: str) -> None:
    (tmp_path / "p.csv").write_text(header + "q3,r2,0.25\n\nq3,r1,1e-3\n", "utf-8")
    if "\ufeff" in header:  # as a spreadsheet writes it
        (tmp_path / "p.csv").write_bytes((header + "q3,r2,0.25\n\nq3,r1,1e-3\n").replace("\n", "\r\n").encode())
    back = read_predictions(tmp_path / "p.csv", QUERIES, REFERENCES)
    assert back.query.tolist() == [2, 2] and back.reference.tolist() == [1, 0] and back.scores.tolist() == [0.25, 0.001]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("q3,r1,0.5\nq3,r9,0.5\n", "line 2: reference_id 'r9' is not in this dataset"),
        ("query_id,reference_id,score\nqq3,r1,1\n", "line 2: query_id 'qq3' .* did you mean 'q3'"),
        ("query,ref,distance\n", "line 1: the columns are query,ref,distance"),
        ("q3,r1,0.5\nq3,r2\n", "line 2: 2 columns"),
        ("q3,r1,0.5,7\n", "line 1: 4 columns"),
        ("q3,r1,0.5\nq3,r2,nan\n", r"line 2: the score 'nan' of \(q3, r2\)"),
        ("q3,r1,0.5\nq3,r2,high\n", "line 2: the score 'high'"),
        ("q3,r1,0.5\nq3,r2,inf\n", r"line 2: the score 'inf' of \(q3, r2\) is not a finite number"),
        ("q3,r1,-Infinity\n", "line 1: the score '-Infinity'"),
        ("query_id,reference_id,score\nq3,r1,1\nq3,r2,inf\n", "line 3: the score 'inf'"),
        ("q3,r1,0.5\n\nq3,r1,0.4\n", r"line 3: the pair \(q3, r1\) is already on line 1"),
    ],
)
def test_bad_rows(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "p.csv").write_text(text, "utf-8")
    with pytest.raises(NdecError, match=words):
        read_predictions(tmp_path / "p.csv", QUERIES, REFERENCES)


def test_a_pair_twice_below_a_header(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("query_id,reference_id,score\nq3,r1,0.5\nq3,r1,0.4\n")
    with pytest.raises(NdecError, match=r"line 3: the pair .* is already on line 2"):
        read_predictions(tmp_path / "p.csv", QUERIES, REFERENCES)


def test_bad_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no predictions file"):
        read_predictions(tmp_path / "none.csv", QUERIES, REFERENCES)
    for data in (b"\xff\xfe\x00\x01", b"\xf1,reference_id,score\nq3,r1,1\n"):
        (tmp_path / "p.csv").write_bytes(data)
        with pytest.raises(NdecError, match="UTF-8"):
            read_predictions(tmp_path / "p.csv", QUERIES, REFERENCES)
    monkeypatch.setattr(predictions, "MAX_PREDICTIONS", 2)
    (tmp_path / "p.csv").write_text("q3,r1,1\nq3,r2,2\nq,1,3\n".replace("q,1", '"q,1"').replace(",3\n", ",r1,3\n"))
    with pytest.raises(NdecError, match="more than 2 predictions"):
        read_predictions(tmp_path / "p.csv", QUERIES, REFERENCES)


def test_an_empty_list_is_a_list(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("query_id,reference_id,score\n")
    assert len(read_predictions(tmp_path / "p.csv", QUERIES, REFERENCES)) == 0


@pytest.mark.parametrize("league", [False, True], ids=["benchmark", "league"])
def test_names_with_folders_and_endings_mean_the_same_image_everywhere(
    tmp_path: Path, league: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """`ndec benchmark` refused what `ndec league` took; the league also took `b.2` for `b`."""
    ids = ["a", "b", "c.1", "x/1.png", "y/1.png"]
    path = tmp_path / "p.csv"

    def read(*names: str) -> tuple[list[int], list[str]]:
        path.write_text("".join(f'"{name}",r,{number}\n' for number, name in enumerate(names)))
        if league:
            found, notes = read_raw(path, ids, ["r"])
            return found.query.tolist(), notes
        found = read_predictions(path, ids, ["r"])
        assert (said := capsys.readouterr().err) == "" or said.strip().endswith(found.protocol.partition("; ")[2][-20:])
        return found.query.tolist(), found.protocol.split("; ")[2:]

    assert read("a", " b ", "c.1") == ([0, 1, 2], [])
    note = "image named with another folder or ending"
    assert read("photos/a.JPG", "b", "q\\c.1.png", "/d/x/1.jpg") == ([0, 1, 2, 3], [f"{note}: 3 rows"])
    for stranger in ("b.2", "1", "z/1.png", "c"):
        if league:
            assert read("a", stranger)[0] == [0]
        else:
            with pytest.raises(NdecError, match=f"line 2: query_id {stranger!r} is not in this dataset"):
                read("a", stranger)
    with pytest.raises(NdecError, match=r"line 2: the names '1/b.jpg' and '2/b.jpg' both stand for one image"):
        read("1/b.jpg", "2/b.jpg")
