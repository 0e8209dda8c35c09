"""Random sequences of the verbs never export a picture in a role that contradicts its label (more: tests/faults)."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.sequences import run_sequence

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", [0, 3, 6])
def test_no_label_is_contradicted_and_the_counts_add_up(seed: int, tmp_path: Path) -> None:
    sequence = run_sequence(tmp_path / "bench", seed)
    assert not sequence.faults, "\n".join([*sequence.steps, *sequence.faults])
    assert sequence.counts["export"] >= 1
