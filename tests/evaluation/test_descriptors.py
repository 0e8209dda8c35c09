"""HDF5 descriptors in the forms of ISC2021: the same numbers as the vectors they were written from; bad files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.evaluation.detectors.descriptors import read_descriptor_files

h5py = pytest.importorskip("h5py")
QUERIES, REFERENCES = ["q1", "q2", "q3"], ["r1", "r2"]


def write(path: Path, **columns: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name] = values
    return path


def vectors(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


def test_a_file_a_side_with_folders_and_endings_and_a_background(tmp_path: Path) -> None:
    queries, references, training = vectors(2), vectors(2, 1), vectors(5, 2)
    files = [
        write(tmp_path / "t.h5", vectors=training, image_names=[f"T{i}" for i in range(5)]),
        write(tmp_path / "r.h5", vectors=references, image_names=[b"refs/r2.png", b"refs/r1.jpg"]),
        write(tmp_path / "q.h5", vectors=queries, image_names=["q3.jpg", "q1.jpg"]),
    ]
    found = read_descriptor_files(files, QUERIES, REFERENCES)
    assert [places.tolist() for places in found.places] == [[0, 2], [0, 1]]
    for got, expected in zip(found.vectors, (queries[[1, 0]], references[[1, 0]]), strict=True):
        lengths = np.linalg.norm(expected.astype(np.float64), axis=1, keepdims=True)
        assert np.array_equal(got, (expected / lengths).astype(np.float16))
    assert found.background is not None and found.background.shape == (5, 4)
    assert found.rejects == {"queries": {"q2": "no descriptor"}, "references": {}}


def test_a_submission_in_one_file(tmp_path: Path) -> None:
    file = write(
        tmp_path / "s.h5", query=vectors(3), query_ids=QUERIES, reference=vectors(2, 1), reference_ids=REFERENCES
    )
    found = read_descriptor_files([file], QUERIES, REFERENCES)
    assert [len(side) for side in found.vectors] == [3, 2] and found.background is None


def test_how_much_float16_changes_a_cosine_is_named(tmp_path: Path) -> None:
    """Near duplicates change places: R@P90 of one real set was .056 instead of .028 without a word."""
    given = np.random.default_rng(0).normal(0.4, 1, (5, 64)).astype(np.float32)
    sides = {"query_ids": QUERIES, "reference_ids": REFERENCES}
    found = read_descriptor_files(
        [write(tmp_path / "s.h5", query=given[:3], reference=given[3:], **sides)], QUERIES, REFERENCES
    )
    unit = given.astype(np.float64) / np.linalg.norm(given.astype(np.float64), axis=1, keepdims=True)
    half = unit.astype(np.float16).astype(np.float64)
    changed = np.abs(unit[:3] @ unit[3:].T - half[:3] @ half[3:].T).max()
    stated = float(found.rounding_note.partition("at most ")[2].partition(":")[0])
    assert 0 < changed <= found.rounding <= stated < 2 * found.rounding
    exact = np.eye(5, dtype=np.float32)
    same = write(tmp_path / "exact.h5", query=exact[:3], reference=exact[3:], **sides)
    assert read_descriptor_files([same], QUERIES, REFERENCES).rounding_note == ""


def test_vectors_of_different_lengths_are_named(tmp_path: Path) -> None:
    """The official evaluation of descriptors compares distances, which depend on the lengths."""
    ones = np.eye(4, dtype=np.float32)

    def note(*lengths: float) -> str:
        rows = ones * np.array([*lengths, 0.0][:4], np.float32)[:, None]
        file = write(tmp_path / "s.h5", query=rows, query_ids=["a", "b", "c", "d"], reference=ones,
                     reference_ids=["e", "f", "g", "h"])  # fmt: skip
        return read_descriptor_files([file], ["a", "b", "c", "d"], ["e", "f", "g", "h"]).note

    assert note(0.5, 2.0, 1.0).startswith("lengths 0.5 … 2 scaled to 1")
    assert note(0.999, 1.001, 1.0) == ""  # rounding; a vector of zeros has no direction


SAME = ["001", "002"]


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)).astype(np.float16)


def test_a_submission_whose_sides_have_the_same_ids(tmp_path: Path) -> None:
    queries, references = vectors(2), vectors(2, 1)
    file = write(tmp_path / "s.h5", reference=references, reference_ids=SAME, query=queries, query_ids=SAME)
    found = read_descriptor_files([file], SAME, SAME)
    for side, expected in zip(found.vectors, (queries, references), strict=True):
        np.testing.assert_array_equal(side, unit(expected))


def test_two_files_with_the_same_ids_are_queries_then_references(tmp_path: Path) -> None:
    queries, references = vectors(2), vectors(3, 1)
    files = []
    for folder, rows, names in (("a", queries, SAME), ("b", references[:2], SAME)):
        (tmp_path / folder).mkdir()
        files.append(write(tmp_path / folder / "vectors.h5", vectors=rows, image_names=names))
    found = read_descriptor_files(files, SAME, [*SAME, "003"])
    for side, expected in zip(found.vectors, (queries, references[:2]), strict=True):
        np.testing.assert_array_equal(side, unit(expected))
    assert found.rejects["references"] == {"003": "no descriptor"}
    assert sorted(found.weights) == ["1 vectors.h5", "2 vectors.h5"] and len(set(found.weights.values())) == 2


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"vectors": vectors(3), "image_names": ["q1", "q2", "q3"]}, "contain no references of the dataset"),
        ({"vectors": vectors(2), "image_names": ["q1", "r1"]}, "are queries of this dataset, but 'r1' is not"),
        ({"vectors": vectors(3), "image_names": ["q1", "q2"]}, r"shape \(3, 4\) for 2 names"),
        ({"vectors": vectors(2), "image_names": ["q1", "q1"]}, "1 images occur twice: q1;"),
        ({"vectors": vectors(2) * np.nan, "image_names": ["q1", "q2"]}, "2 descriptors hold NaN or infinity: q1, q2"),
        ({"features": vectors(2)}, "holds features; expected vectors"),
        ({"query": vectors(3), "query_ids": QUERIES, "reference": vectors(2)}, "cannot be read as HDF5"),
        (
            {"query": vectors(3), "query_ids": QUERIES, "reference": vectors(2)[:, :3], "reference_ids": REFERENCES},
            "different numbers of dimensions",
        ),
    ],
)
def test_bad_files(tmp_path: Path, columns: dict[str, Any], words: str) -> None:
    with pytest.raises(NdecError, match=words):
        read_descriptor_files([write(tmp_path / "x.h5", **columns)], QUERIES, REFERENCES)


def test_no_file_and_no_hdf5(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no descriptors file"):
        read_descriptor_files([tmp_path / "x.h5"], QUERIES, REFERENCES)
    (tmp_path / "x.h5").write_bytes(b"not HDF5")
    with pytest.raises(NdecError, match="cannot be read as HDF5"):
        read_descriptor_files([tmp_path / "x.h5"], QUERIES, REFERENCES)


def test_files_of_two_models_are_refused_where_pictures_of_both_sides_show_it(tmp_path: Path) -> None:
    """Two files with as many dimensions: their cosines mean nothing, and nothing said so."""

    def table(ids: list[str], pictures: list[str | None], turned: list[int | None] | None = None) -> pa.Table:
        turned = turned or [None] * len(ids)
        types = (pa.string(), pa.string(), pa.int64())
        columns = [pa.array(values, type_) for values, type_ in zip((ids, pictures, turned), types, strict=True)]
        return pa.table(columns, names=["image_id", "sha256", "rotation"])

    def note(reference_vectors: np.ndarray, *pictures: str | None, turned: int | None = None) -> str:
        files = [
            write(tmp_path / "q.h5", vectors=vectors(3), image_names=QUERIES),
            write(tmp_path / "r.h5", vectors=reference_vectors, image_names=REFERENCES),
        ]
        found = read_descriptor_files(files, QUERIES, REFERENCES)
        sides = table(QUERIES, ["a", "b", None]), table(REFERENCES, list(pictures), [turned, turned])
        return found.origin_note(*sides)

    ours, other = vectors(3), vectors(3, 9)
    unchecked = "queries from q.h5; references from r.h5: compared as descriptors of one model"
    assert note(ours[[1, 0]], "b", "a") == ""
    assert note(ours[[1, 0]] + 0.01, "b", "a") == ""  # another decoder
    assert note(other[:2], "x", None).startswith(unchecked)
    assert note(other[:2], "b", "a", turned=90).startswith(unchecked)
    with pytest.raises(NdecError, match=r"not of one model .*2 pictures are among .* cosines is -?0\.\d"):
        note(other[:2], "b", "a")


def test_one_file_with_both_sides_needs_no_note(tmp_path: Path) -> None:
    sides = {"query_ids": QUERIES, "reference_ids": REFERENCES}
    file = write(tmp_path / "s.h5", query=vectors(3), reference=vectors(2, 1), **sides)
    same = pa.table({"sha256": ["a", "b", "c"]}), pa.table({"sha256": ["a", "b"]})
    assert read_descriptor_files([file], QUERIES, REFERENCES).origin_note(*same) == ""
