"""A workspace with pictures and candidate pairs, made with the schemas alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ndec_builder.core.schemas import CANDIDATES, IMAGES, pair_id, table_of
from ndec_builder.core.storage import sha256_file, write_table
from ndec_builder.core.workspace import Workspace
from pictures import scene

MakeCandidates = Callable[..., list[tuple[str, str]]]


def _write_images(workspace: Workspace, role: str, count: int, first_seed: int, size: tuple[int, int]) -> None:
    rows = []
    for i in range(count):
        path = workspace.files(role) / f"{role}-{i:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(first_seed + i, size).save(path)
        row = {"image_id": path.stem, "role": role, "uri": workspace.uri_of(path), "sha256": sha256_file(path)}
        rows.append(row | {"width": size[0], "height": size[1], "format": "JPEG", "rotation": 0, "group": path.stem})
    write_table(workspace.images(role), table_of(IMAGES, rows))


@pytest.fixture
def make_candidates() -> MakeCandidates:
    """`make(workspace, split, count, start=0, name="candidates")` → (query_id, reference_id) pairs in rank order."""

    def make(
        workspace: Workspace,
        split: str = "test",
        count: int = 10,
        start: int = 0,
        name: str = "candidates",
        size: tuple[int, int] = (64, 48),
    ) -> list[tuple[str, str]]:
        other = "reference" if split == "test" else "basic"
        if not workspace.images("pool").is_file():
            _write_images(workspace, "pool", 12, 0, size)
            _write_images(workspace, other, 12, 5, size)
        pairs = [(f"pool-{i % 12:03d}", f"{other}-{(i * 5 + i // 12) % 12:03d}") for i in range(start, start + count)]
        rows = [
            {"pair_id": pair_id(split, q, r), "split": split, "query_id": q, "reference_id": r, "score": 1 - i / 100,
             "score_normalized": 1 - i / 100, "rank": i + 1}
            for i, (q, r) in enumerate(pairs)
        ]  # fmt: skip
        write_table(Path(workspace.candidates(split)) / f"{name}.parquet", table_of(CANDIDATES, rows))
        return pairs

    return make
