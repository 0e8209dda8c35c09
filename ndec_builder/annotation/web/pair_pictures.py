"""Finds the two pictures of a pair. Addresses hold only pair and side, so nothing identifies a gold pair."""

from __future__ import annotations

import threading
from pathlib import Path

from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.annotation.web.pictures import ImageKey
from ndec_builder.candidates.settings import GALLERY
from ndec_builder.core.schemas import SPLITS
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace

SIDES = ("query", "reference")


class AssignedPairs:
    """The pairs of both splits that were assigned to annotators; the tables are read again when they change."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._read: dict[str, tuple[tuple[int, ...], dict[str, tuple[ImageKey, ImageKey]]]] = {}
        self._lock = threading.Lock()

    def find(self, pair_id: str, side: str) -> ImageKey | None:
        """(role, image_id) of one side of a pair; None if the pair was not assigned."""
        for split in SPLITS:
            if (pictures := self._pairs(split).get(pair_id)) is not None and side in SIDES:
                return pictures[SIDES.index(side)]
        return None

    def _pairs(self, split: str) -> dict[str, tuple[ImageKey, ImageKey]]:
        folder = self.workspace.annotation(split)
        changed = tuple(_mtime_ns(folder / name) for name in ("tasks.parquet", "gold.parquet"))
        with self._lock:
            if self._read.get(split, (None,))[0] != changed:
                self._read[split] = (changed, self._load(folder / "tasks.parquet", split))
            return self._read[split][1]

    def _load(self, path: Path, split: str) -> dict[str, tuple[ImageKey, ImageKey]]:
        if not path.is_file():
            return {}
        table = read_table(path, ["pair_id", "query_id", "reference_id"])
        columns = (table[name].to_pylist() for name in ("pair_id", "query_id", "reference_id"))
        pairs = {
            pair: (("pool", query), (GALLERY[split], reference))
            for pair, query, reference in zip(*columns, strict=True)
        }
        for row in AnnotationTables(self.workspace, split).gold.to_pylist():
            query, reference = ((row[f"{side}_role"], row[f"{side}_id"]) for side in SIDES)
            if row["pair_id"] in pairs:
                pairs[row["pair_id"]] = (query, reference)
        return pairs


def _mtime_ns(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0
