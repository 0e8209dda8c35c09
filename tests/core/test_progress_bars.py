"""Steps that take long say how far they are: each bar moves while the step runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ndec_builder.candidates import contact_sheet
from ndec_builder.cli.assist import doctor
from ndec_builder.core import console
from ndec_builder.evaluation.metrics.bootstrap import intervals
from support.pictures import write_scenes


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each bar moved."""
    moved: dict[str, int] = {}

    def track(items: Iterable[Any], total: int, what: str) -> Iterator[Any]:
        for item in items:
            moved[what] = moved.get(what, 0) + 1
            assert moved[what] <= total
            yield item

    monkeypatch.setattr(contact_sheet, "track", track)
    monkeypatch.setattr(doctor, "track", track)
    return moved


def test_the_contact_sheet_counts_its_pictures(tmp_path: Path, steps: dict[str, int]) -> None:
    paths = write_scenes(tmp_path / "in", 3)
    images = {path.stem: {"uri": str(path), "rotation": 0} for path in paths}
    pair = {"pair_id": "p", "rank": 1, "score": 0.5, "duplicate_of": None, "query_id": paths[0].stem}
    pairs = [pair | {"reference_id": path.stem} for path in paths[1:]]
    contact_sheet.write_contact_sheet(
        tmp_path / "sheet.html", pairs, images, images, str, title="t", roles=("pool", "reference")
    )
    assert steps["contact sheet"] == 3


def test_doctor_counts_its_checks(steps: dict[str, int]) -> None:
    findings = doctor.check_machine()
    assert steps["checking this machine"] == len(findings) == 10


def test_the_bootstrap_counts_its_replicates(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[float] = []
    monkeypatch.setattr(console.Progress, "advance", lambda self, task, steps=1: moved.append(steps))
    intervals(lambda weights: {"n": weights.sum(0).astype(np.float64)}, groups=4, replicates=300)
    assert sum(moved) == 300 and len(moved) > 1
