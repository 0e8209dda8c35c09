"""What a check reports, and the way most checks report it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.manifests.codes import CODES, ERROR

Tables = dict[str, pa.Table]
SHOWN = 3  # rows named in the text of a finding
KEPT = 20  # rows named by --json


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. rows: how many · examples: the first of them, ascending · detail: where, or why."""

    code: str
    rows: int
    detail: str
    examples: tuple[str, ...] = ()

    @property
    def severity(self) -> str:
        """error or warning: what the code's table says."""
        return CODES[self.code].severity

    @property
    def is_error(self) -> bool:
        """Whether it makes the dataset invalid."""
        return self.severity == ERROR

    @property
    def what(self) -> str:
        """What is wrong, in words, with the first rows that it concerns."""
        more = f" and {self.rows - SHOWN:,} more" if self.rows > SHOWN else ""
        names = f": {', '.join(self.examples[:SHOWN])}{more}" if self.examples else ""
        return f"{CODES[self.code].meaning}{f' ({self.detail})' if self.detail else ''}{names}"

    def __str__(self) -> str:
        return f"{self.code} {self.severity}: {self.what}; {CODES[self.code].remedy}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON: code, severity, what, remedy, count, rows."""
        return {
            "code": self.code,
            "severity": self.severity,
            "what": self.what,
            "remedy": CODES[self.code].remedy,
            "count": self.rows,
            "rows": list(self.examples),
        }


def found(code: str, rows: pa.Array | pa.ChunkedArray | Iterable[str], detail: str = "") -> Iterator[Finding]:
    """Yield one finding that counts the different rows and names the first, or nothing when there are none."""
    column = rows if isinstance(rows, (pa.Array, pa.ChunkedArray)) else pa.array(list(rows), pa.string())
    if not len(column):
        return
    names = pc.fill_null(column, "(null)").unique()
    first = names.take(pc.select_k_unstable(names, k=min(KEPT, len(names)), sort_keys=[("value", "ascending")]))
    yield Finding(code, len(names), detail, tuple(first.to_pylist()))
