"""Small files with one number for each pair."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from ndec_builder.core.storage import read_table, write_table


def read_pair_values(path: Path, name: str) -> dict[str, float] | None:
    """pair_id → number in the column `name`; None if there is no file."""
    if not path.is_file():
        return None
    table = read_table(path)
    return dict(zip(table["pair_id"].to_pylist(), table[name].to_pylist(), strict=True))


def write_pair_values(path: Path, name: str, values: Mapping[str, float]) -> None:
    write_table(path, pa.table({"pair_id": list(values), name: list(values.values())}))
