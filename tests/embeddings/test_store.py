"""Stored vectors: round trip, and a clear error for each mix-up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import write_json, write_table
from ndec_builder.embeddings.parts import PART, split_norms, write_part
from ndec_builder.embeddings.stored_vectors import read_embeddings


def make(directory: Path, parts: int = 2, dim: int = 5, space: str = "s") -> np.ndarray:
    directory.mkdir(parents=True)
    vectors = np.random.default_rng(0).standard_normal((parts * 3, dim)).astype(np.float32)
    for index in range(parts):
        rows = slice(index * 3, index * 3 + 3)
        write_part(
            directory,
            f"part-{index:05d}",
            [f"i{n}" for n in range(rows.start, rows.stop)],
            vectors[rows],
        )
    write_json(directory / "run.json", {"dim": dim, "parts": parts, "space": space, "config": {"model": "multigrain"}})
    return vectors


def test_round_trip(tmp_path: Path) -> None:
    vectors = make(tmp_path / "e")
    stored = read_embeddings(tmp_path / "e")
    assert stored.ids == [f"i{n}" for n in range(6)] and stored.vectors.dtype == np.float16
    assert stored.norms == pytest.approx(np.linalg.norm(vectors, axis=1), rel=1e-6)
    assert stored.vectors.astype(float) * stored.norms[:, None] == pytest.approx(vectors, abs=4e-3)
    assert (stored.model, stored.space) == ("multigrain", "s")


@settings(max_examples=40, deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(1, 6)), elements=st.floats(-1e3, 1e3, width=32)))
def test_normalised_has_unit_length_or_is_zero(vectors: np.ndarray) -> None:
    directions, norms = split_norms(vectors)
    lengths = np.linalg.norm(directions.astype(np.float64), axis=1)
    assert np.isfinite(directions).all() and norms.dtype == np.float32
    for length, norm in zip(lengths, norms, strict=True):
        assert length == pytest.approx(1, abs=2e-3) if norm > 0 else length == 0


def spoil_width(d: Path) -> None:
    np.save(d / "part-00001.npy", np.ones((3, 9), np.float16))


def spoil_type(d: Path) -> None:
    np.save(d / "part-00001.npy", np.ones((3, 5), np.float32))


def spoil_rows(d: Path) -> None:
    np.save(d / "part-00001.npy", np.ones((2, 5), np.float16))


def spoil_shape(d: Path) -> None:
    np.save(d / "part-00001.npy", np.ones(3, np.float16))


def spoil_values(d: Path) -> None:
    np.save(d / "part-00001.npy", np.array([[1] * 5, [np.nan] * 5, [1] * 5], np.float16))


def spoil_ids(d: Path) -> None:
    write_table(d / "part-00001.parquet", pa.table([["i0", "i8", "i9"], np.ones(3, np.float32)], schema=PART))


def spoil_bytes(d: Path) -> None:
    (d / "part-00001.npy").write_bytes(b"nothing")


def spoil_parts(d: Path) -> None:
    (d / "part-00001.npy").unlink()


def spoil_run(d: Path) -> None:
    (d / "run.json").unlink()


def spoil_run_keys(d: Path) -> None:
    write_json(d / "run.json", {"dim": 5})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            spoil_width,
            r"expected 5-d vectors, got 9-d vectors in part-00001\.npy; .* model=multigrain \(run\.json\); re-embed",
        ),
        (spoil_type, "expected float16 vectors, got float32"),
        (spoil_rows, "has 2 vectors, its .parquet 3 images"),
        (spoil_shape, "got an array of the shape"),
        (spoil_values, "the vector of 'i4' in part-00001.npy holds NaN"),
        (spoil_ids, "'i0' has two vectors"),
        (spoil_bytes, "cannot be read"),
        (spoil_parts, "has 1 part-.* its run.json names 2"),
        (spoil_run, "no finished embeddings"),
        (spoil_run_keys, "run.json lacks"),
    ],
)
def test_mix_ups(tmp_path: Path, spoil, message: str) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "e")
    spoil(tmp_path / "e")
    with pytest.raises(NdecError, match=message):
        read_embeddings(tmp_path / "e")
