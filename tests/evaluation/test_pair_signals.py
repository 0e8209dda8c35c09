"""Geometry of pairs is measured once: against a plain loop, for overlapping requests, after a kill and with damage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ndec_builder.candidates.geometry.fitting import SIGNALS
from ndec_builder.candidates.geometry.keypoints import describe_picture
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset, from_manifest
from ndec_builder.evaluation.detectors import pair_geometry as module
from ndec_builder.evaluation.detectors.pair_geometry import pair_signals, pictures_prepared
from ndec_builder.training.fused.edges import fit_either_tone
from ndec_builder.training.fused.measure import PICTURE_SIDE
from ndec_builder.training.fused.pair_signals import PAIR_SIGNALS
from ndec_builder.training.views import load_picture

QUERY, REFERENCE = np.array([0, 0, 1, 3, 10]), np.array([0, 5, 1, 3, 10])


@pytest.fixture
def data(small) -> Dataset:  # type: ignore[no-untyped-def]
    return from_manifest(small.manifest)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pairs each fit in this process was asked for."""
    counts: list[int] = []
    true = module.pair_vector

    def count(query, reference):  # type: ignore[no-untyped-def]
        counts.append(1)
        return true(query, reference)

    monkeypatch.setattr(module, "pair_vector", count)
    return counts


@pytest.mark.slow
def test_signals_are_those_of_a_plain_loop(data: Dataset, tmp_path: Path) -> None:
    found = pair_signals(Workspace(tmp_path), data, QUERY, REFERENCE, Engine(here=True))
    assert found.shape == (5, len(PAIR_SIGNALS))
    for row, q, r in zip(found, QUERY, REFERENCE, strict=True):
        pictures = [
            describe_picture(np.asarray(load_picture(data.resolve(table["uri"][int(i)].as_py()), PICTURE_SIDE)))
            for table, i in ((data.queries, q), (data.references, r))
        ]
        np.testing.assert_array_equal(row[: len(SIGNALS)], fit_either_tone(*pictures)[0].vector())
    assert np.isfinite(found[0, SIGNALS.index("scale")])  # a copy is fitted


def test_a_pair_is_measured_once_whatever_asks_for_it(data: Dataset, tmp_path: Path, measured: list[int]) -> None:
    first = pair_signals(Workspace(tmp_path), data, QUERY[:3], REFERENCE[:3], Engine(here=True))
    assert len(measured) == 3
    more = pair_signals(Workspace(tmp_path), data, QUERY, REFERENCE, Engine(here=True))
    assert len(measured) == 5
    np.testing.assert_array_equal(more[:3], first)
    again = pair_signals(Workspace(tmp_path), data, QUERY[::-1], REFERENCE[::-1], Engine(here=True))
    assert len(measured) == 5
    np.testing.assert_array_equal(again, more[::-1])


def test_shards_of_a_killed_run_count(
    data: Dataset, tmp_path: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD_PAIRS", 2)
    whole = pair_signals(Workspace(tmp_path / "whole"), data, QUERY, REFERENCE, Engine(here=True))
    counting = module.pair_vector
    left = [3]

    def killed(query, reference):  # type: ignore[no-untyped-def]
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return counting(query, reference)

    monkeypatch.setattr(module, "pair_vector", killed)
    with pytest.raises(KeyboardInterrupt):
        pair_signals(Workspace(tmp_path / "killed"), data, QUERY, REFERENCE, Engine(here=True))
    monkeypatch.setattr(module, "pair_vector", counting)
    measured.clear()
    # a different request than the killed one: its two complete pairs are used, the half-done shard is measured again
    found = pair_signals(Workspace(tmp_path / "killed"), data, QUERY[:4], REFERENCE[:4], Engine(here=True))
    assert len(measured) == 2
    np.testing.assert_array_equal(found, whole[:4])


def test_a_damaged_file_is_measured_again(data: Dataset, tmp_path: Path, measured: list[int]) -> None:
    first = pair_signals(Workspace(tmp_path), data, QUERY, REFERENCE, Engine(here=True))
    (path,) = (tmp_path / "cache" / "geometry").rglob("*.npz")
    path.write_bytes(path.read_bytes()[:-30])
    np.testing.assert_array_equal(pair_signals(Workspace(tmp_path), data, QUERY, REFERENCE, Engine(here=True)), first)
    assert len(measured) == 10


def test_an_image_that_cannot_be_read_has_no_signals(data: Dataset, tmp_path: Path) -> None:
    uris = data.queries["uri"].to_pylist()
    uris[1] = str(tmp_path / "gone.png")
    column = data.queries.schema.get_field_index("uri")
    lost = replace(data, queries=data.queries.set_column(column, "uri", [uris]), resolve=lambda uri: (
        uri if uri.startswith("/") else data.resolve(uri)
    ))  # fmt: skip
    found = pair_signals(Workspace(tmp_path), lost, QUERY, REFERENCE, Engine(here=True))
    assert np.isnan(found[2]).all() and np.isfinite(found[0, 0])


def test_the_first_pairs_prepare_most_of_the_pictures() -> None:
    """Compared with two workers that are simulated pair by pair, each with half of the pairs."""
    rng = np.random.default_rng(0)
    images = [(f"r{number}", "", 0) for number in range(50)]
    pairs = [((f"q{query:03}", "", 0), images[place]) for query in range(200) for place in rng.permutation(50)[:5]]
    work, seen, cost = pictures_prepared(pairs, workers=2), [set(), set()], [0.0]
    for step in range(len(pairs) // 2):
        new = 0
        for worker in (0, 1):
            pair = pairs[worker * len(pairs) // 2 + step]
            new += len({*pair} - seen[worker])
            seen[worker] |= {*pair}
        cost.append(cost[-1] + new)
    assert work(0) == 0 and work(len(pairs)) == cost[-1] == 200 + 2 * 50
    found = [work(2 * step) for step in range(len(cost))]
    assert found == sorted(found) and np.abs(np.subtract(found, cost)).max() < 25
