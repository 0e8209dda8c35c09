"""Forms that other tools read: exact round trips, ties counted, widths and ids checked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.core.errors import NdecError
from ndec_builder.embeddings.isc2021_hdf5 import read_hdf5
from ndec_builder.evaluation.detectors.formats import (
    Descriptors,
    reduce,
    write_csv6,
    write_submission,
    write_trec,
)
from ndec_builder.evaluation.predictions import Predictions, read_predictions, write_predictions

QUERIES, REFERENCES = [f"Q{n}" for n in range(6)], [f"R{n}" for n in range(7)]


def predictions(scores: list[float]) -> Predictions:
    pairs = np.random.default_rng(0).permutation(len(QUERIES) * len(REFERENCES))[: len(scores)]
    return Predictions(pairs // len(REFERENCES), pairs % len(REFERENCES), np.array(scores, dtype=np.float64), "test")


SCORES = st.lists(
    st.one_of(st.floats(-1, 1), st.sampled_from([0.5, 0.5000001, 0.5000004, -0.0, 0.0])), min_size=1, max_size=42
)


@settings(max_examples=40, deadline=None)
@given(scores=SCORES)
def test_csv_forms(tmp_path_factory: pytest.TempPathFactory, scores: list[float]) -> None:
    folder, made = tmp_path_factory.mktemp("csv"), predictions(scores)
    exact = write_predictions(folder / "exact.csv", made, QUERIES, REFERENCES)
    back = read_predictions(exact, QUERIES, REFERENCES)
    assert write_predictions(folder / "again.csv", back, QUERIES, REFERENCES).read_bytes() == exact.read_bytes()
    ties = write_csv6(folder / "six.csv", made, QUERIES, REFERENCES)
    lines = (folder / "six.csv").read_text().splitlines()
    assert lines[0] == "query_id,reference_id,score" and len(lines) == len(scores) + 1
    rounded = [line.split(",")[2] for line in lines[1:]]
    assert all(len(text.split(".")[1]) == 6 for text in rounded)
    values = [float(text) for text in rounded]
    assert values == sorted(values, reverse=True)
    merged = Counter(float(f"{score:.6f}") for score in set(scores))
    assert ties == sum(count - 1 for count in merged.values())


@settings(max_examples=30, deadline=None)
@given(scores=SCORES)
def test_trec_run(tmp_path_factory: pytest.TempPathFactory, scores: list[float]) -> None:
    made = predictions(scores)
    path = write_trec(tmp_path_factory.mktemp("trec") / "run", made, QUERIES, REFERENCES, "my run")
    rows = [line.split(" ") for line in path.read_text().splitlines()]
    assert all(len(row) == 6 and row[1] == "Q0" and row[5] == "my-run" for row in rows)
    expected = {(QUERIES[q], REFERENCES[r]): s for q, r, s in zip(made.query, made.reference, made.scores, strict=True)}
    assert {(row[0], row[2]): float(row[4]) for row in rows} == expected
    for query in {row[0] for row in rows}:
        own = [row for row in rows if row[0] == query]
        assert [int(row[3]) for row in own] == list(range(1, len(own) + 1))
        assert own == sorted(own, key=lambda row: (-float(row[4]), row[2]))


def test_trec_refuses_ids_with_white_space(tmp_path: Path) -> None:
    with pytest.raises(NdecError, match="first: 'Q 0'"):
        write_trec(tmp_path / "run", predictions([0.5] * 42), ["Q 0", *QUERIES[1:]], REFERENCES, "x")


def sides(dim: int = 8) -> tuple[Descriptors, Descriptors]:
    rng = np.random.default_rng(1)
    return (
        Descriptors(["Q2", "Q10", "Qé"], rng.normal(size=(3, dim)).astype(np.float16)),
        Descriptors(["R9", "R1"], rng.normal(size=(2, dim)).astype(np.float16)),
    )


def test_submission_is_sorted_float32_and_comes_back(tmp_path: Path) -> None:
    queries, references = sides()
    path = write_submission(tmp_path / "a.hdf5", queries, references)
    with h5py.File(path) as file:
        assert sorted(file) == ["query", "query_ids", "reference", "reference_ids"]
        assert file["query"].dtype == np.float32 and file["query_ids"].dtype.kind == "S"
        assert [name.decode() for name in file["query_ids"][()]] == ["Q10", "Q2", "Qé"]
        assert np.array_equal(file["query"][1], queries.vectors[0].astype(np.float32))
    read = read_hdf5(path)
    assert read["reference"][0] == ["R1", "R9"]
    again = write_submission(tmp_path / "b.hdf5", *(Descriptors(*read[side]) for side in ("query", "reference")))
    assert again.read_bytes() == path.read_bytes()


def test_bad_descriptors(tmp_path: Path) -> None:
    queries, references = sides()
    narrow = Descriptors(references.ids, references.vectors[:, :4])
    twice = Descriptors(["Q2", "Q2", "Q3"], queries.vectors)
    broken = Descriptors(queries.ids, np.full((3, 8), np.nan, dtype=np.float32))
    for first, second, message in (
        (queries, narrow, "8 dimensions and references 4"),
        (twice, references, "1 query id appears twice"),
        (broken, references, "not finite"),
        (Descriptors(["Q"], queries.vectors), references, "do not fit"),
    ):
        with pytest.raises(NdecError, match=message):
            write_submission(tmp_path / "x.hdf5", first, second)


def test_pca_keeps_the_most_of_the_references() -> None:
    rng = np.random.default_rng(2)
    spread = rng.normal(size=(200, 6)) * np.array([5.0, 4.0, 0.1, 3.0, 0.1, 0.1])
    queries, references = reduce(spread[:50].astype(np.float32), spread.astype(np.float32), 3)
    assert queries.shape == (50, 3) and references.dtype == np.float32
    assert np.allclose(np.linalg.norm(references, axis=1), 1, atol=1e-6)
    centred = spread.astype(np.float32).astype(np.float64)
    centred -= centred.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)  # another way to the same components
    small = centred @ axes[:3].T
    small /= np.linalg.norm(small, axis=1, keepdims=True)
    assert np.allclose(references @ references.T, small @ small.T, atol=1e-5)
