"""Ingest a source in a test and look at the resulting tables."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from ndec_builder.core.storage import read_table, read_uri
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.ingest import run
from ndec_builder.sources.settings import IngestConfig
from support.pictures import scene


def picture(seed: int, format: str = "JPEG", size: tuple[int, int] = (48, 36), **options: Any) -> bytes:
    out = io.BytesIO()
    scene(seed, size).save(out, format, **options)
    return out.getvalue()


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    """Write the members in the given order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


class Ingested:
    """The pool of a workspace after `ndec ingest pool SOURCE`."""

    def __init__(self, tmp_path: Path, source: Path | str, **settings: Any) -> None:
        self.workspace = Workspace(tmp_path / "ws")
        run(IngestConfig(self.workspace.root, "pool", source, **settings))
        self.rows = {row["image_id"]: row for row in self.workspace.read_images("pool").to_pylist()}
        folder = self.workspace.images("pool").parent
        self.rejects = {
            row["image_id"]: row["reason"] for row in read_table(folder / "pool-rejects.parquet").to_pylist()
        }
        self.notes = " | ".join(json.loads((folder / "pool.run.json").read_text())["notes"])

    @property
    def ids(self) -> list[str]:
        return list(self.rows)

    def column(self, name: str) -> dict[str, Any]:
        return {image_id: row[name] for image_id, row in self.rows.items()}

    def data(self, image_id: str) -> bytes:
        return read_uri(self.workspace.resolve(self.rows[image_id]["uri"]))
