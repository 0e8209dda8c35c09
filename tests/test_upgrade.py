"""A workspace of commit 59c392b (tests/data) is opened, continued and exported by this version. Nothing is lost."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import ndec_builder as ndec
from ndec_builder.annotation import resolve
from ndec_builder.annotation.settings import ResolveConfig, StatusConfig
from ndec_builder.annotation.status import status
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_json, read_table
from ndec_builder.manifests.settings import ExportConfig, ValidateConfig
from ndec_builder.training.checkpoint import load_detector

ARCHIVE = Path(__file__).parent / "data" / "workspace_59c392b.tar.xz"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The old workspace; its tables name pictures relative to it, so it is the working folder."""
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(tmp_path / "bench", filter="data")
    monkeypatch.chdir(tmp_path / "bench")
    return tmp_path / "bench"


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(path).to_pylist()
    return rows


def test_the_archive_is_small_and_names_no_machine() -> None:
    assert ARCHIVE.stat().st_size < 1_000_000
    with tarfile.open(ARCHIVE) as tar:
        for member in tar.getmembers():
            assert (member.uid, member.uname) == (0, "")
            if member.isfile():
                content = tar.extractfile(member).read()  # type: ignore[union-attr]
                assert re.search(rb"/(home|root|tmp)/", content) is None, member.name


def test_status_counts_what_the_old_version_counted(old: Path) -> None:
    for split in ("test", "train"):
        found = status(StatusConfig(Path(), split))
        wanted = read_json(old / "expected.json")[split]["annotators"]
        names = ("round", "annotator", "pairs", "done", "left")
        assert [[row[name] for name in names] for row in found] == [[row[name] for name in names] for row in wanted]


def test_every_old_label_counts_or_is_reported(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The train split has one label that was sent back."""
    for split, said in (
        ("test", "6 edited_copy, 18 hard_negative, 6 unrelated, 1 unsure"),
        ("train", "0 edited_copy, 1 hard_negative, 1 unrelated, 0 unsure"),
    ):
        before = rows_of(old / "annotation" / split / "decisions.parquet")
        resolve.run(ResolveConfig(Path(), split))
        after = rows_of(old / "annotation" / split / "decisions.parquet")
        names = ("pair_id", "decision")
        assert [[r[n] for n in names] for r in after] == [[r[n] for n in names] for r in before]
        printed = capsys.readouterr().err
        assert f"labels that count: {said}" in printed
        assert ("1 label does not count: withdrawn in Label Studio, or sent back" in printed) == (split == "train")


def test_the_old_dataset_is_valid_and_the_next_version_holds_its_pairs(old: Path) -> None:
    ndec.validate(ValidateConfig(Path("manifests/small-1.0.0")))
    for split in ("test", "train"):
        resolve.run(ResolveConfig(Path(), split))
    made = ndec.export(ExportConfig(Path(), name="small", version="1.1.0", distractors=2))
    ndec.validate(ValidateConfig(made))
    table = "data/train_pairs/train-00000-of-00001.parquet"
    assert rows_of(made / table) == rows_of(old / "manifests" / "small-1.0.0" / table)


def test_the_old_checkpoint_loads(old: Path) -> None:
    detector = load_detector(Path("runs/asl"))
    assert detector.recipe == "asl" and len(detector.train_sha256) == 7  # six basic images and one of the pool


@pytest.mark.parametrize("table", ["annotation/test/labels.parquet", "images/pool.parquet"])
def test_a_newer_workspace_is_refused(old: Path, table: str) -> None:
    rows = pq.read_table(old / table)
    newer = {**rows.schema.metadata, b"ndec_schema_version": b"2"}
    pq.write_table(rows.replace_schema_metadata(newer), old / table)
    with pytest.raises(NdecError, match=r"newer version of ndec: its schema version is 2, .* install a newer ndec"):
        read_table(old / table)
