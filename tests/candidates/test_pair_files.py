"""Pairs of other tools: files that the real tools wrote (`pair_files/make.sh`), and what `mine --pairs` does."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ndec_builder.candidates.mine import run
from ndec_builder.candidates.outside.given_pairs import GIVEN_FILE, LEFT_OUT_FILE, match_pairs
from ndec_builder.candidates.outside.name_lookup import NamedImage, NameLookup
from ndec_builder.candidates.outside.pair_files import NamedPair, read_pair_file
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.errors import UsageError
from ndec_builder.core.storage import read_table
from support.pictures import scene

FILES = Path(__file__).parent / "pair_files"


def test_difpy() -> None:
    content = json.loads((FILES / "difpy-4.2.1.json").read_text("utf-8"))
    expected = [NamedPair(name, other, score) for name, found in content.items() for other, score in found]
    assert read_pair_file(FILES / "difpy-4.2.1.json") == expected and len(expected) == 11
    assert NamedPair("pictures/P001_copy.jpg", "pictures/P001.png", 24.786533333333335) in expected


def test_numbers_of_fastdup_become_the_names_of_its_other_file() -> None:
    """The file has numbers; what fastdup's own method `similarity()` returns has the names next to them."""
    with (FILES / "fastdup-similarity-method.csv").open(newline="") as file:
        named = {(r["filename_from"], r["filename_to"], float(r["distance"])) for r in csv.DictReader(file)}
    found = read_pair_file(FILES / "fastdup" / "similarity.csv")
    assert {(pair.first, pair.second, pair.score) for pair in found} == named
    assert {(p.first, p.second) for p in read_pair_file(FILES / "fastdup-similarity-method.csv")} == {
        n[:2] for n in named
    }


def test_a_damaged_file_of_fastdups_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "similarity.csv").write_text("from,to,distance\n0,1,0.5\n")
    (tmp_path / "atrain_features.dat.csv").write_bytes(b"index,filename\n0,\xff.jpg\n1,b.jpg,c\n")
    with pytest.raises(UsageError, match=r"atrain_features.dat.csv, which names the images .* cannot be read"):
        read_pair_file(tmp_path / "similarity.csv")


def test_a_column_whose_name_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({"aaaa_id": ["a"], "reference_id": ["b"]}), path)
    path.write_bytes(path.read_bytes().replace(b"aaaa_id", b"\xff\xffaa_id"))
    with pytest.raises(UsageError, match=r"pairs.parquet cannot be read \(.*; give csv, parquet or json"):
        read_pair_file(path)


def test_imagededup() -> None:
    """Two files of `find_duplicates(outfile=…)`, with and without scores."""
    scored = read_pair_file(FILES / "imagededup-0.3.3.post2.json")
    assert len(scored) == 12 and NamedPair("P003.png", "P003_copy.jpg", 0.0) in scored
    plain = read_pair_file(FILES / "imagededup-0.3.3.post2-without-scores.json")
    assert [(p.first, p.second) for p in plain] == [(p.first, p.second) for p in scored]
    assert {p.score for p in plain} == {None}


def test_near_duplicates_of_fiftyone() -> None:
    """`neighbors_map` of its `compute_near_duplicates`, with file names in place of its ids."""
    found = read_pair_file(FILES / "fiftyone-1.22.1.json")
    assert [(p.first, p.second) for p in found] == [
        (f"pictures/P00{n}.png", f"pictures/P00{n}_copy.jpg") for n in range(6)
    ]
    assert found[1].score == 0.019289773955143814


def test_groups_of_czkawka(tmp_path: Path) -> None:
    """Written after its source code: no package has the program (the Python bindings write no such file)."""
    image = {"size": 1, "width": 2, "height": 2, "modified_date": 0, "hashes": [[1, 2]], "difference": 3}
    a, b, c = ({"path": f"/p/{name}.jpg", **image} for name in "abc")
    (tmp_path / "groups.json").write_text(json.dumps([[a, b, c], [a, b]]))
    ab, ac, bc = (NamedPair(f"/p/{x}.jpg", f"/p/{y}.jpg") for x, y in ("ab", "ac", "bc"))
    assert read_pair_file(tmp_path / "groups.json") == [ab, ac, bc, ab]
    (tmp_path / "referenced.json").write_text(json.dumps([[a, [b, c]]]))
    assert read_pair_file(tmp_path / "referenced.json") == [ab, ac, bc]


def test_a_match_log_of_json_lines(tmp_path: Path) -> None:
    log = tmp_path / "matches.jsonl"
    log.write_text('{"at": 1, "query": "007", "match": "r1", "distance": "12"}\n\n{"query": 8, "match": "r2"}\n')
    assert read_pair_file(log) == [NamedPair("007", "r1", 12.0, directed=True), NamedPair("8", "r2", directed=True)]
    log.write_text('{"query": "a", "match": "b"}\n{"query": \n')
    with pytest.raises(UsageError, match=r"cannot be read .line 2: "):
        read_pair_file(log)


def test_ids_stay_text_and_scores_may_be_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("query_id,reference_id,score\n007,01,0.5\n8,2,high\n,3,1\n")
    expected = [("007", "01", 0.5), ("8", "2", None), ("", "3", 1.0)]
    assert read_pair_file(tmp_path / "a.csv") == [NamedPair(*pair, directed=True) for pair in expected]
    pq.write_table(pa.table({"left": ["x"], "right": ["y"]}), tmp_path / "a.parquet")
    assert read_pair_file(tmp_path / "a.parquet") == [NamedPair("x", "y", None)]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "x,y\n1,2\n", "has the columns x, y; expected two"),
        ("a.json", "[1]", "is json, but neither"),
        ("a.json", "[[1, 2]]", "is json, but neither"),
        ("a.json", "3", "is json, but not"),
        ("a.jsonl", "[1]", "line 1 is"),
        ("a.json", '{"a": [3]}', "neither a file name"),
        ("a.json", "{", "cannot be read"),
        ("a.csv", "", "cannot be read"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=said):
        read_pair_file(tmp_path / name)


def test_directions_and_reasons(tmp_path: Path) -> None:
    roles = [[NamedImage(name, f"/at/{name}.png", row) for row, name in enumerate(names)] for names in ("qp", "rs")]
    pairs = [("q", "r"), ("r", "q"), ("s", "p"), ("q", "q"), ("q", "p"), ("q", "nobody"), ("in/q.jpg", "s.png")]
    names = NameLookup(tmp_path, roles, {name for pair in pairs for name in pair})
    found, left = match_pairs([NamedPair(*pair) for pair in pairs], names)
    assert {key: pair.score for key, pair in found.items()} == {(0, 0): None, (1, 1): None, (0, 1): None}
    assert [(pair.first, pair.second, reason) for pair, reason in left] == [
        ("r", "q", "given before, in this or the other direction"),
        ("q", "q", "a pair of an image with itself"),
        ("q", "p", "both images have the same role"),
        ("q", "nobody", "an image that is not searched"),
    ]


@pytest.mark.slow
def test_mined_pairs_are_those_of_the_file(bench, tmp_path, capsys) -> None:
    """The pairs get the scores, duplicates and geometry of a search; the tool's own score is kept next to them."""
    bench.add("reference", {f"r{i}": scene(i) for i in range(1, 4)})
    bench.add("pool", {"p-dup": scene(1).resize((96, 72)), **{f"p{i}": scene(50 + i) for i in range(3)}})
    searched = read_table(
        run(MineConfig(bench.workspace.root, top=4, max_per_query=0, max_per_reference=0)) / "candidates.parquet"
    )
    rows = {(row["query_id"], row["reference_id"]): row for row in searched.to_pylist()}
    keys = list(rows)[:3]
    lines = [f"{r}.png,{q}.png,{n}" for n, (q, r) in enumerate(keys)]
    (tmp_path / "pairs.csv").write_text("\n".join(["from,to,distance", *lines, "p1,missing,9"]))
    directory = run(MineConfig(bench.workspace.root, pairs=tmp_path / "pairs.csv"))
    given = read_table(directory / "candidates.parquet").to_pylist()
    assert [{**row, "rank": 0} for row in given] == [{**rows[key], "rank": 0} for key in keys]
    kept = read_table(directory / GIVEN_FILE).to_pylist()
    assert {(r["query_id"], r["reference_id"]): r["given_score"] for r in kept} == dict(
        zip(keys, range(3), strict=True)
    )
    assert read_table(directory / LEFT_OUT_FILE).to_pylist() == [
        {"first": "p1", "second": "missing", "reason": "an image that is not searched"}
    ]
    assert "1 pair left out: an image that is not searched" in capsys.readouterr().err


def test_a_file_without_any_known_pair_is_refused(bench, tmp_path) -> None:
    bench.add("reference", {"r1": scene(1), "r2": scene(2)})
    bench.add("pool", {"p1": scene(3), "p2": scene(4)})
    (tmp_path / "pairs.csv").write_text("query,reference\na,b\n")
    with pytest.raises(UsageError, match="no pair of"):
        run(MineConfig(bench.workspace.root, pairs=tmp_path / "pairs.csv"))
