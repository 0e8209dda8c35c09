"""Two commands on one workspace at once: what both need is made by one of them, while the other waits."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from ndec_builder.candidates.geometry import local_codes
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.locks import is_locked, locked
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset, from_manifest
from ndec_builder.evaluation.detectors import pair_geometry

QUERY, REFERENCE = np.array([0, 1]), np.array([0, 1])


@pytest.fixture
def data(small) -> Dataset:  # type: ignore[no-untyped-def]
    return from_manifest(small.manifest)


def test_pairs_that_another_benchmark_has_measured_meanwhile_are_not_measured_again(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, folder = Workspace(tmp_path), tmp_path / "cache" / "geometry"
    true, begun = pair_geometry._measure, threading.Event()
    found: list[np.ndarray] = []

    def measure(*given: object) -> None:
        assert is_locked(folder)
        begun.set()
        true(*given)  # type: ignore[arg-type]
        calls.append(1)

    calls: list[int] = []
    monkeypatch.setattr(pair_geometry, "_measure", measure)

    def benchmark() -> None:
        found.append(pair_geometry.pair_signals(workspace, data, QUERY, REFERENCE, Engine(here=True)))

    with locked(folder):  # a first benchmark, which measures the same pairs
        other = threading.Thread(target=benchmark)
        other.start()
        assert not begun.wait(0.3)  # the second one waits
        sides = [pair_geometry.images_of(data, table) for table in (data.queries, data.references)]
        pairs = [(sides[0][q], sides[1][r]) for q, r in zip(QUERY.tolist(), REFERENCE.tolist(), strict=True)]
        true(folder, pairs, [pair_geometry._key(*pair) for pair in pairs], Engine(here=True))
    other.join()
    assert not calls and np.isfinite(found[0][:, 0]).all()
    with locked(folder):  # a run that needs nothing new does not wait
        again = pair_geometry.pair_signals(workspace, data, QUERY, REFERENCE, Engine(here=True))
    np.testing.assert_array_equal(again, found[0])


def test_codes_of_local_features_are_made_and_read_by_one_command_at_a_time(data: Dataset, tmp_path: Path) -> None:
    images = pair_geometry.images_of(data, data.references)[:3]
    batches = local_codes.query_variants(Workspace(tmp_path), images, Engine(here=True))
    assert len(next(batches)) == 3
    (folder,) = (tmp_path / "cache" / "local").glob("[!.]*")
    assert is_locked(folder)
    assert not list(batches) and not is_locked(folder)
