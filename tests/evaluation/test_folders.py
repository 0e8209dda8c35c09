"""A benchmark of plain folders: ids where names repeat, groups of queries, and what is not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import sha256_file
from ndec_builder.evaluation import query_kinds
from ndec_builder.evaluation.dataset import Dataset, from_folders, from_manifest, rotations_of
from ndec_builder.evaluation.settings import BenchmarkConfig
from ndec_builder.manifests.read import open_manifest
from support.pictures import scene


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for number, name in enumerate(("q/a/1", "q/a/2", "q/b/1", "r/x")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        scene(number, (48, 36)).save(tmp_path / f"{name}.png")
    return tmp_path


def dataset(folders: Path, truth: str, **more: Any) -> Dataset:
    (folders / "truth.csv").write_text(truth)
    return from_folders(folders / "q", folders / "r", folders / "truth.csv", **more)


def test_ids_are_paths_where_names_repeat(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = dataset(folders, "a/1.png,x\nb/1,\n")
    assert found.query_ids == ["a/1", "a/2", "b/1"] and found.reference_ids == ["x"]
    assert found.truth.tolist() == [0]
    assert found.queries["sha256"][2].as_py() == sha256_file(folders / "q" / "b" / "1.png")
    assert Path(found.resolve(found.queries["uri"][2].as_py())) == folders / "q" / "b" / "1.png"
    assert "1 of 3 names repeat" in " ".join(capsys.readouterr().err.split())


def test_each_query_is_its_own_group_by_default(folders: Path) -> None:
    assert dataset(folders, "a/1,x\n").query_group.tolist() == [0, 1, 2]


def test_queries_can_be_grouped(folders: Path) -> None:
    assert dataset(folders, "a/1,x\n", group_by="folder").query_group.tolist() == [0, 0, 1]


def test_rotations_of_a_metadata_file_count(folders: Path) -> None:
    plain = dataset(folders, "a/1,x\n")
    (folders / "r" / "metadata.csv").write_text("file_name,rotation\nx.png,90\n")
    turned = dataset(folders, "a/1,x\n")
    assert (rotations_of(plain.references), rotations_of(turned.references)) == ([0], [90])
    assert plain.fingerprint != turned.fingerprint


def test_what_is_not_read_is_counted(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders / "q" / "phone.psd").touch()
    dataset(folders, "a/1,x\n")
    assert "1 .psd is not read" in " ".join(capsys.readouterr().err.split())


def test_a_link_out_of_the_folder_is_refused(folders: Path) -> None:
    (folders / "q" / "link.png").symlink_to(folders / "r" / "x.png")
    with pytest.raises(UsageError, match=r"1 file of .*q cannot be used, .*link\.png first"):
        dataset(folders, "a/1,x\n")


def test_an_id_that_no_file_has(folders: Path) -> None:
    with pytest.raises(NdecError, match="names the query 'c/1'"):
        dataset(folders, "c/1,x\n")


def test_a_manifest_has_its_own_groups(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--group-by belongs to --queries"):
        BenchmarkConfig(workspace=tmp_path, manifest=tmp_path, model="m", group_by="folder").check()


KINDS = "query_id,kind,hard_kind,group\n"


def with_kinds(folders: Path, text: str, truth: str = "a/1,x\n") -> Dataset:
    (folders / "kinds.csv").write_text(text)
    return dataset(folders, truth, kinds=folders / "kinds.csv")


@pytest.mark.slow
def test_kinds_make_folders_equal_to_a_manifest(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = open_manifest(small.manifest).table("queries").to_pylist()
    rows = (",".join(row[name] or "" for name in ("query_id", "kind", "hard_kind", "group")) for row in queries)
    (tmp_path / "kinds.csv").write_text(KINDS + "\n".join(rows))
    calls: list[object] = []
    real = query_kinds.match_ids
    monkeypatch.setattr(query_kinds, "match_ids", lambda *names: calls.append(names) or real(*names))
    found = from_folders(small.queries, small.references, small.ground_truth, kinds=tmp_path / "kinds.csv")
    assert len(calls) == 1  # its index of all ids is made once, not for each line
    expected = from_manifest(small.manifest)
    assert found.subsets == expected.subsets == ("all", "natural", "reverse_crop", "without")
    assert found.stratum.tolist() == expected.stratum.tolist() and list(found.kinds) == list(expected.kinds)
    assert found.fingerprint == expected.fingerprint  # so that a report of one is a baseline for the other


def test_queries_that_are_not_listed_are_counted(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = with_kinds(folders, "query_id,kind\na/2.png,hard_negative\n")
    assert list(found.kinds) == ["edited_copy", "hard_negative", "distractor"]
    assert found.stratum.tolist() == [0, 3, 0]
    said = " ".join(capsys.readouterr().err.split())
    assert "1 edited_copy, 1 hard_negative, 1 distractor (1 of unspecified kind)" in said
    assert "2 of these queries are not listed: 1 with a reference count as edited_copy, 1 without one" in said


def test_groups_of_the_kinds_come_before_the_rule(folders: Path) -> None:
    text = KINDS + "a/1,edited_copy,,\na/2,hard_negative,natural,s\nb/1,hard_negative,natural,s\n"
    assert with_kinds(folders, text).query_group.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query,kind\n", "line 1: the columns are query,kind; expected query_id,kind"),
        ("query_id,kind\na/1\n", "line 2: 1 columns; the header has 2"),
        ("query_id,kind\na/1,copy\n", "line 2: kind is 'copy'; it must be one of edited_copy"),
        (KINDS + "a/2,hard_negative,frame,\n", "line 2: hard_kind is 'frame'; it must be one of natural"),
        (KINDS + "a/1,edited_copy,natural,\n", "only a hard_negative has one"),
        ("query_id,kind\nz,distractor\n", "line 2: 'z' is not among the 3 queries"),
        ("query_id,kind\na/2,distractor\na/2,distractor\n", "line 3: the query 'a/2' was listed before"),
        (
            "query_id,kind\na/2,distractor\na/2.png,distractor\n",
            r"csv names the image 'a/2' twice, as 'a/2' and as 'a/2.png'",
        ),
        ("query_id,kind\na/1,hard_negative\n", "calls 'a/1' hard_negative, but the ground truth gives it a reference"),
        ("query_id,kind\na/2,edited_copy\n", "calls 'a/2' edited_copy, but the ground truth gives it no reference"),
    ],
)
def test_kinds_that_are_refused(folders: Path, text: str, message: str) -> None:
    with pytest.raises(NdecError, match=message):
        with_kinds(folders, text)


def test_kinds_belong_to_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--kinds belongs to --queries"):
        BenchmarkConfig(workspace=tmp_path, manifest=tmp_path, model="m", kinds=tmp_path / "kinds.csv").check()
