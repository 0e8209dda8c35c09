"""A workspace written by hand: images tables, files, and embeddings in their stored layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from ndec_builder.core.fingerprints import images_fingerprint
from ndec_builder.core.schemas import IMAGES, table_of
from ndec_builder.core.storage import sha256_file, write_json, write_table
from ndec_builder.core.workspace import Workspace

MODEL = "efficientnet-lite0"


class Bench:
    """Adds roles to a workspace. Pictures are described by their own 12 × 12 colour thumbnails, mean removed."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root)

    def add(
        self, role: str, pictures: dict[str, Image.Image], *, groups: dict[str, str | None] | None = None, suffix=".png"
    ) -> None:
        rows = []
        for image_id, picture in sorted(pictures.items()):
            path = self.workspace.files(role) / f"{image_id}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
            rows.append(
                {
                    "image_id": image_id,
                    "role": role,
                    "uri": self.workspace.uri_of(path),
                    "sha256": sha256_file(path),
                    "width": picture.width,
                    "height": picture.height,
                    "format": "PNG",
                    "rotation": 0,
                    "license": "CC0-1.0",
                    "group": (groups or {}).get(image_id),
                }
            )
        write_table(self.workspace.images(role), table_of(IMAGES, rows))
        self.embed(role, list(pictures), [describe(picture) for picture in pictures.values()])

    def embed(
        self,
        role: str,
        ids: Sequence[str],
        vectors: Sequence[np.ndarray],
        *,
        space: str = "s",
        model: str = MODEL,
        part: int = 0,
    ) -> None:
        """Store vectors in parts of `part` rows; 0: in one."""
        directory = self.workspace.embeddings(role, model)
        directory.mkdir(parents=True, exist_ok=True)
        for old in directory.glob("part-*"):
            old.unlink()
        size = part or max(1, len(ids))
        starts = range(0, max(1, len(ids)), size)
        for index, start in enumerate(starts):
            some = slice(start, start + size)
            np.save(directory / f"part-{index:05d}.npy", np.asarray(vectors[some], dtype=np.float16))
            norms = pa.table({"image_id": ids[some], "norm": pa.array([1.0] * len(ids[some]), pa.float32())})
            write_table(directory / f"part-{index:05d}.parquet", norms)
        write_json(
            directory / "run.json",
            {
                "stage": "embed",
                "config": {"model": model, "role": role},
                "inputs": {"images": images_fingerprint(self.workspace.read_images(role))},
                "weights": {"weights.pth": "w"},
                "counts": {"images": len(ids), "embedded": len(ids), "rejected": 0},
                "parts": len(starts),
                "dim": int(np.shape(vectors)[1]),
                "space": space,
            },
        )


def describe(picture: Image.Image) -> np.ndarray:
    """A unit vector (432,) float32; crops and re-encodings stay close, other scenes are near zero."""
    small = np.asarray(picture.convert("RGB").resize((12, 12), Image.Resampling.BOX), dtype=np.float32).ravel()
    small -= small.mean()
    return small / np.linalg.norm(small)
