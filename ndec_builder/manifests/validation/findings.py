"""A finding of a check, and the helper that most checks use to make one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.manifests.codes import CODES, ERROR

Tables = dict[str, pa.Table]
_SHOWN = 3  # ids in the text of a finding
MAX_EXAMPLES = 20  # ids in the output of --json


@dataclass(frozen=True)
class Finding:
    """One problem. rows: how many rows it concerns · examples: the first ids, ascending · detail: where, or why."""

    code: str
    rows: int
    detail: str
    examples: tuple[str, ...] = ()

    @property
    def severity(self) -> str:
        """ "error" or "warning", from the table of codes."""
        return CODES[self.code].severity

    @property
    def is_error(self) -> bool:
        """Whether it makes the dataset invalid."""
        return self.severity == ERROR

    @property
    def what(self) -> str:
        """The problem in words, with the first rows that it concerns."""
        more = f" and {self.rows - _SHOWN:,} more" if self.rows > _SHOWN else ""
        names = f": {', '.join(self.examples[:_SHOWN])}{more}" if self.examples else ""
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


def flag_rows(code: str, rows: pa.Array | pa.ChunkedArray | Iterable[str], detail: str = "") -> Iterator[Finding]:
    """Yield one finding that counts the distinct rows and names the first ones; nothing without rows."""
    column = rows if isinstance(rows, (pa.Array, pa.ChunkedArray)) else pa.array(list(rows), pa.string())
    if not len(column):
        return
    names = pc.fill_null(column, "(null)").unique()
    first = names.take(pc.select_k_unstable(names, k=min(MAX_EXAMPLES, len(names)), sort_keys=[("value", "ascending")]))
    yield Finding(code, len(names), detail, tuple(first.to_pylist()))
