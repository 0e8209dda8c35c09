"""The known truth: recomputed from the tables in a different way."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import EDITS, IMAGES, table_of
from ndec_builder.core.storage import read_table, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.demo.corpus.known_truth import known_label


def write(root: Path, images: dict[str, dict[str, str]], edits: list[tuple[str, str, str, str]]) -> Workspace:
    workspace = Workspace(root)
    for role, groups in images.items():
        listed = [{"image_id": i, "role": role, "group": group} for i, group in sorted(groups.items())]
        write_table(workspace.images(role), table_of(IMAGES, listed))
    columns = ("image_id", "role", "source_id", "kind")
    listed = [dict(zip(columns, edit, strict=True)) for edit in edits]
    write_table(workspace.edits, table_of(EDITS, listed))
    return workspace


@pytest.fixture
def label(tmp_path: Path):  # type: ignore[no-untyped-def]
    workspace = write(
        tmp_path,
        {
            "reference": {"r1": "g1", "r2": "g1", "crop": "g2"},
            "basic": {"b1": "g3", "b2": "g9"},
            "pool": {"frame": "g1", "whole": "g2", "copy": "g1", "partner": "g3", "lone": "g4"},
            "query": {"q1": "g1"},
        },
        [
            ("copy", "pool", "r1", "edited_copy"),
            ("q1", "query", "r1", "edited_copy"),
            ("whole", "pool", "crop", "reverse_crop"),
        ],
    )
    return known_label(workspace)


@pytest.mark.parametrize(
    ("query", "reference", "expected"),
    [
        ("frame", "r1", "hard_negative"),
        ("frame", "r2", "hard_negative"),
        ("frame", "crop", "unrelated"),
        ("whole", "crop", "hard_negative"),
        ("copy", "r1", "edited_copy"),
        ("copy", "r2", "hard_negative"),
        ("copy", "crop", "unrelated"),
        ("q1", "r1", "edited_copy"),
        ("q1", "r2", "hard_negative"),
        ("partner", "b1", "hard_negative"),
        ("lone", "b1", "unrelated"),
        ("frame", "b2", "unrelated"),
    ],
)
def test_labels(label, query: str, reference: str, expected: str) -> None:  # type: ignore[no-untyped-def]
    assert label(query, reference) == expected


@pytest.mark.parametrize(("query", "reference", "name"), [("nobody", "r1", "nobody"), ("frame", "nowhere", "nowhere")])
def test_unknown_ids_are_errors(label, query: str, reference: str, name: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(NdecError, match=f"'{name}' is no"):
        label(query, reference)


def test_a_workspace_without_edits_has_no_known_truth(tmp_path: Path) -> None:
    with pytest.raises(NdecError, match="other pairs need annotators"):
        known_label(Workspace(tmp_path))


def test_every_planted_pair_of_a_corpus_has_its_label(corpus: Path) -> None:
    label = known_label(Workspace(corpus))
    expected = {"edited_copy": "edited_copy", "reverse_crop": "hard_negative"}
    for row in read_table(Workspace(corpus).edits).to_pylist():
        assert label(row["image_id"], row["source_id"]) == expected[row["kind"]]
