"""A workspace written by hand, and decisions for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ndec_builder.core.schemas import table_of
from ndec_builder.core.storage import write_table
from ndec_builder.core.workspace import Workspace
from support.described_bench import Bench
from support.pictures import crop, scene


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


@pytest.fixture
def mined(bench: Bench) -> Workspace:
    """Four references, six pool images: a re-encoding of r1, crops of r1 and r2, and strangers; a basic set."""
    bench.add("reference", {f"r{i}": scene(i) for i in range(1, 5)})
    pool = {"p-dup": scene(1).resize((96, 72)), "p-crop1": crop(1), "p-crop2": crop(2)}
    bench.add("pool", pool | {f"p-other{i}": scene(50 + i) for i in range(3)})
    bench.add("basic", {f"b{i}": scene(100 + i) for i in range(8)})
    return bench.workspace
