"""References to make copies of, and what `ndec edit` wrote."""

from __future__ import annotations

from pathlib import Path

from ndec_builder.core.schemas import IMAGES, table_of
from ndec_builder.core.storage import sha256_file, write_table
from ndec_builder.core.workspace import Workspace


def ingest(root: Path, role: str, paths: list[Path]) -> None:
    workspace = Workspace(root)
    rows = [
        {
            "image_id": path.stem,
            "role": role,
            "uri": workspace.uri_of(path),
            "sha256": sha256_file(path),
            "width": 192,
            "height": 144,
            "format": "PNG",
            "rotation": 0,
            "license": "CC0",
            "author": "A",
            "group": f"g-{path.stem}",
        }
        for path in paths
    ]
    write_table(workspace.images(role), table_of(IMAGES, rows))


def result_bytes(root: Path) -> dict[str, bytes]:
    files = [*(root / "images").glob("*"), *(root / "files" / "query").glob("*.jpg")]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}
