"""Files of pairs when pool and references have images of the same names: what each row may and may not mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ndec_builder.candidates.mine import run
from ndec_builder.candidates.outside.given_pairs import LEFT_OUT_FILE, match_pairs
from ndec_builder.candidates.outside.name_lookup import NOT_SEARCHED, NamedImage, NameLookup
from ndec_builder.candidates.outside.pair_files import NamedPair, read_pair_file
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.storage import read_table
from support.pictures import scene

BOTH = "names that both roles have; give full paths, or columns query_id and reference_id"
ELSEWHERE = "a path of no image, with a file name that both roles have; give ids or the paths as ingested"


def matched(rows: list[tuple[str, str]], directed: bool = False, **images: list[NamedImage]) -> Any:
    """{(pool id, reference id)} and the reasons of the others. By default both roles have 0.png to 3.png."""
    roles = [
        images.get(role, [NamedImage(str(n), f"/data/{role}/{n}.png", n) for n in range(4)])
        for role in ("pool", "refs")
    ]
    lookup = NameLookup(Path("/data"), roles, {name for row in rows for name in row})
    found, left = match_pairs([NamedPair(*row, directed=directed) for row in rows], lookup)
    return set(found), [reason for _, reason in left]


@pytest.mark.parametrize("start", ["/data/", "", "./"])
def test_a_path_means_the_image_at_this_path(start: str) -> None:
    rows = [("refs/1.png", "pool/2.png"), ("pool/0.png", "refs/0.png"), ("pool/1", "refs/3")]
    assert matched([(start + a, start + b) for a, b in rows]) == ({(2, 1), (0, 0), (1, 3)}, [])


def test_two_paths_of_one_role_are_no_pair() -> None:
    rows = [("pool/0.png", "pool/3.png"), ("/data/refs/2.png", "/data/refs/2.png")]
    assert matched(rows) == (set(), ["both images have the same role", "a pair of an image with itself"])


def test_a_path_of_another_folder_is_not_guessed() -> None:
    assert matched([("elsewhere/1.png", "refs/0.png")], directed=True) == (set(), [ELSEWHERE])
    moved = [NamedImage("only-here", "/data/pool/only-here.png", 7)]
    assert matched([("old/only-here.png", "refs/0.png")], pool=moved) == ({(7, 0)}, [])


def test_ids_of_both_roles_need_columns_that_name_the_query() -> None:
    rows = [("0", "0"), ("1", "2")]
    assert matched(rows, directed=True) == ({(0, 0), (1, 2)}, [])
    assert matched(rows) == (set(), [BOTH, BOTH])
    files = [(f"{a}.png", f"{b}.png") for a, b in rows]
    assert matched(files, directed=True) == ({(0, 0), (1, 2)}, [])
    assert matched([("1", "/data/pool/2.png")]) == ({(2, 1)}, [])  # the path says which is which


def test_an_image_that_is_not_searched_is_not_replaced_by_its_namesake() -> None:
    pool = [NamedImage("0", "/data/pool/0.png", NOT_SEARCHED), NamedImage("1", "/data/pool/1.png", 0)]
    rows = [("0", "1"), ("/data/pool/0.png", "/data/refs/1.png")]
    assert matched(rows, directed=True, pool=pool) == (set(), ["an image that is not searched"] * 2)


def test_a_folder_in_both_roles_needs_no_direction() -> None:
    """The two roles have the same files, so both readings of a pair show the same two pictures."""
    same = [NamedImage(str(n), f"/data/all/{n}.png", n) for n in range(3)]
    expected = ({(0, 1)}, ["given before, in this or the other direction", "a pair of an image with itself"])
    found = matched([("0", "1"), ("all/0.png", "all/1.png"), ("2", "all/2.png")], pool=same, refs=same)
    assert found == expected


def test_a_file_name_of_several_images_names_none() -> None:
    pool = [NamedImage(f"{n}-x", f"/data/pool/{n}/x.png", n) for n in range(2)]
    several = "a name that several images of a role have; give ids or full paths"
    assert matched([("x.png", "1"), ("1/x.png", "1"), ("0-x", "1")], pool=pool) == ({(1, 1), (0, 1)}, [several])


def test_mining_takes_the_pairs_of_the_paths(bench, tmp_path: Path) -> None:
    names = [f"000{n}" for n in range(4)]
    bench.add("pool", {name: scene(n) for n, name in enumerate(names)})
    bench.add("reference", {name: scene(20 + n) for n, name in enumerate(names)})
    pool, refs = (bench.workspace.files(role) for role in ("pool", "reference"))
    rows = [(refs / "0001.png", pool / "0002.png"), (pool / "0000.png", pool / "0003.png"),
            (tmp_path / "0001.png", refs / "0000.png"), ("", refs / "0000.png")]  # fmt: skip
    (tmp_path / "pairs.csv").write_text("a,b\n" + "".join(f"{a},{b}\n" for a, b in rows))
    directory = run(MineConfig(bench.workspace.root, pairs=tmp_path / "pairs.csv", geometry=False))
    table = read_table(directory / "candidates.parquet")
    assert table.select(["query_id", "reference_id"]).to_pylist() == [{"query_id": "0002", "reference_id": "0001"}]
    left = read_table(directory / LEFT_OUT_FILE)["reason"].to_pylist()
    assert left == ["both images have the same role", ELSEWHERE, "a row without two names"]


def test_ids_like_na_are_names_and_labels_like_na_are_none(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("a,b,score,verdict\nNA,null,nan,NA\nnan,N/A,2,unsure\n")
    assert read_pair_file(tmp_path / "pairs.csv", "verdict") == [
        NamedPair("NA", "null", None, None), NamedPair("nan", "N/A", 2.0, "unsure"),
    ]  # fmt: skip
