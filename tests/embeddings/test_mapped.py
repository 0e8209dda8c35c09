"""Vectors read from parts on disk equal those read whole; parts of any size give the same; damage is named."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import write_json, write_table
from ndec_builder.embeddings.stored_vectors import map_embeddings, read_embeddings


def write_parts(directory: Path, ids: list[str], vectors: np.ndarray, cuts: list[int]) -> Path:
    """Parts that end at the given rows, in the stored layout."""
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(ids)), len(ids)]
    for index, (start, stop) in enumerate(itertools.pairwise(edges)):
        np.save(directory / f"part-{index:05d}.npy", vectors[start:stop])
        names = pa.table({"image_id": ids[start:stop], "norm": pa.array([1.0] * (stop - start), pa.float32())})
        write_table(directory / f"part-{index:05d}.parquet", names)
    run = {"parts": len(edges) - 1, "dim": vectors.shape[1], "space": "s", "config": {"model": "m"}}
    write_json(directory / "run.json", run)
    return directory


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("embeddings")


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_rows_in_any_order_from_any_parts(folder, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n = data.draw(st.integers(1, 40))
    vectors = rng.normal(size=(n, 3)).astype(np.float16)
    ids = [f"{i:x}é" for i in rng.permutation(99)[:n]]
    cuts = data.draw(st.lists(st.integers(0, n), max_size=4))
    mapped = map_embeddings(write_parts(folder, ids, vectors, cuts))
    want = vectors[np.argsort(ids)]
    assert mapped.ids.to_pylist() == sorted(ids) and mapped.vectors.shape == (n, 3)
    np.testing.assert_array_equal(mapped.vectors.load(), want)
    rows = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=20)), dtype=np.int64)
    np.testing.assert_array_equal(mapped.vectors[rows], want[rows])
    start, stop = data.draw(st.integers(0, n)), data.draw(st.integers(0, n + 5))
    np.testing.assert_array_equal(mapped.vectors[start:stop], want[start:stop])
    np.testing.assert_array_equal(mapped.vectors.take(rows).load(), want[rows])
    again = mapped.vectors.take(rows)
    np.testing.assert_array_equal(again.take(np.arange(len(rows))[::-1]).load(), want[rows[::-1]])
    stored = read_embeddings(folder)
    assert stored.ids == ids and (stored.space, stored.model) == (mapped.space, mapped.model)


def spoil_nan(directory):
    vectors = np.load(directory / "part-00001.npy")
    vectors[2, 1] = np.nan
    np.save(directory / "part-00001.npy", vectors)


def cut_short(directory):
    path = directory / "part-00001.npy"
    path.write_bytes(path.read_bytes()[:-7])


def another_width(directory):
    np.save(directory / "part-00001.npy", np.zeros((5, 7), np.float16))


def another_type(directory):
    np.save(directory / "part-00001.npy", np.zeros((5, 4), np.float32))


def fewer_rows(directory):
    np.save(directory / "part-00001.npy", np.zeros((4, 4), np.float16))


def no_run(directory):
    (directory / "run.json").unlink()


def twice(directory):
    ids = pa.table({"image_id": ["i0", "i6", "i7", "i8", "i9"], "norm": pa.array([1.0] * 5, pa.float32())})
    write_table(directory / "part-00001.parquet", ids)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_nan, r"the vector of 'i7' in part-00001\.npy holds NaN.*ndec embed"),
        (cut_short, r"part-00001\.npy cannot be read.*ndec embed"),
        (lambda directory: (directory / "part-00001.npy").write_bytes(b""), r"part-00001\.npy cannot be read"),
        (lambda directory: (directory / "part-00001.npy").unlink(), "has 1 part-.* names 2"),
        (lambda directory: (directory / "part-00001.parquet").unlink(), r"part-00001\.parquet does not exist"),
        (another_width, r"expected 4-d vectors, got 7-d vectors in part-00001\.npy.*model=m"),
        (another_type, r"expected float16 vectors, got float32"),
        (fewer_rows, r"part-00001\.npy has 4 vectors, its \.parquet 5 images"),
        (no_run, "holds no finished embeddings"),
        (twice, "'i0' has two vectors"),
    ],
)
def test_damaged_folders(tmp_path, spoil, message):
    vectors = np.ones((10, 4), np.float16)
    directory = write_parts(tmp_path / "e", [f"i{i}" for i in range(10)], vectors, [5])
    spoil(directory)
    with pytest.raises(NdecError, match=message):
        map_embeddings(directory).vectors.load()


def test_a_part_whose_images_were_all_rejected(tmp_path):
    vectors = np.ones((4, 2), np.float16)
    directory = write_parts(tmp_path / "e", list("abcd"), vectors, [2])
    np.save(directory / "part-00002.npy", np.zeros((0, 2), np.float16))
    names = pa.table({"image_id": pa.array([], pa.string()), "norm": pa.array([], pa.float32())})
    write_table(directory / "part-00002.parquet", names)
    write_json(directory / "run.json", {"parts": 3, "dim": 2, "space": "s", "config": {"model": "m"}})
    assert len(map_embeddings(directory).vectors.load()) == 4
