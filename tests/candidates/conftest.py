"""A workspace written by hand, and decisions for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ndec_builder.core.schemas import table_of
from ndec_builder.core.storage import write_table
from ndec_builder.core.workspace import Workspace
from support.described_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "bench")


@pytest.fixture
def decide() -> Callable[..., None]:
    """Write decisions.parquet of a split from {pair_id: decision}."""
    from ndec_builder.core.schemas import DECISIONS

    def write(workspace: Workspace, split: str, decisions: dict[str, str | None]) -> None:
        rows = [
            {"pair_id": pair, "decision": label, "basis": "agreed", "labels": 1, "agreement": 1.0}
            for pair, label in decisions.items()
        ]
        write_table(workspace.annotation(split) / "decisions.parquet", table_of(DECISIONS, rows))

    return write
