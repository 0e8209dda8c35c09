"""Pairs of known truth for benchmarks/human_time.py: a workspace with the demo's pictures, mined like a user's.

    python benchmarks/human_time_pairs.py DEMO OUT

References: the reference and basic images of the demo. Pool: the pool of the demo, and more images of known truth:

* edited copies of references (recipes copy, crop and light);
* edited look-alikes: a pool image of the same group as a reference, edited in the same ways: a hard negative;
* reverse crops: for a third of the distractors a crop becomes a reference; the full picture is also lightly edited;
* other crops of a cropped picture, with at least a quarter that the reference does not show: a hard negative.

Pairs are those found by `ndec mine` (top 6,000, two per query), with the first probabilities of `ndec prelabel`.
"""

from __future__ import annotations

import argparse
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ndec_builder.core.schemas import EDITS, IMAGES, table_of
from ndec_builder.core.storage import read_table, sha256_bytes, write_bytes, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.demo.corpus.planted_copies import random_crop_box
from ndec_builder.edits.make import read_backgrounds
from ndec_builder.edits.operations import apply_edits
from ndec_builder.edits.recipes import edit_image

COPIES = (("copy", 0.9), ("crop", 0.15), ("light", 0.15))  # per reference: the recipe, and with what probability
LOOK_ALIKES = ("light", "copy", "copy")  # how each look-alike is edited, in addition to the original
TOP, PER_QUERY = 6000, 2
NEW = 0.25  # smallest share of a further crop that the reference does not show


def build(demo: Path, out: Path, top: int = TOP) -> Workspace:
    """Make, embed, mine and pre-label; a second call resumes or does nothing."""
    from ndec_builder.candidates.mine import run as mine
    from ndec_builder.candidates.prelabel import run as prelabel
    from ndec_builder.candidates.settings import MineConfig, PrelabelConfig

    workspace = Workspace(out)
    if not workspace.edits.is_file():
        _Maker(Workspace(demo), workspace).make()
    mine(MineConfig(out, top=top, max_per_query=PER_QUERY, workers=2))
    if not (workspace.candidates("test") / "prelabel.json").is_file():
        prelabel(PrelabelConfig(out))
    return workspace


class _Maker:
    def __init__(self, demo: Workspace, out: Workspace) -> None:
        self.demo, self.out = demo, out
        self.images: dict[str, list[dict[str, Any]]] = {"reference": [], "pool": []}
        self.edits: list[dict[str, Any]] = [
            row | {"source_role": "reference"} for row in read_table(demo.edits).to_pylist() if row["role"] == "pool"
        ]
        self.backgrounds = read_backgrounds(demo.files("background"))

    def make(self) -> None:
        references = self._given("reference", "reference") + self._given("basic", "reference")
        pool = self._given("pool", "pool")
        known = {row["image_id"]: row for row in pool}
        shown = {row["source_id"]: row for row in self.edits if row["kind"] == "reverse_crop"}
        groups = {row["group"] for row in references}
        alone = [row for row in pool if row["group"] not in groups and row["image_id"] not in _sources(self.edits)]
        copied = {row["image_id"] for row in self.edits if row["kind"] == "edited_copy"}
        for row in alone[::3]:
            self._reverse_crop(row)
        for edit in [row for row in self.edits if row["kind"] == "reverse_crop"]:
            self._whole_and_other_crop(known[edit["image_id"]], edit)
        for row in references:
            for recipe, chance in COPIES:
                if self._rng(row["image_id"], recipe).random() < chance:
                    made = self._edited(row, recipe, recipe)
                    self.edits.append(
                        {"image_id": made, "role": "pool", "source_id": row["image_id"], "source_role": "reference",
                         "kind": "edited_copy", "edit": json.dumps({"recipe": recipe})}
                    )  # fmt: skip
        wholes = {row["image_id"] for row in self.edits if row["kind"] == "reverse_crop"}
        for row in pool:
            if row["group"] in groups and row["image_id"] not in copied | wholes | set(shown):
                for number, recipe in enumerate(LOOK_ALIKES):
                    self._edited(row, recipe, f"alike{number}")
        for role, rows in self.images.items():
            write_table(self.out.images(role), table_of(IMAGES, sorted(rows, key=lambda row: row["image_id"])))
        write_table(self.out.edits, table_of(EDITS, self.edits))

    def _given(self, role: str, new: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.demo.read_images(role).to_pylist()
        rows = [row | {"role": new, "uri": str(Path(self.demo.resolve(row["uri"])).absolute())} for row in rows]
        self.images[new] += rows
        return rows

    def _edited(self, row: dict[str, Any], recipe: str, salt: str) -> str:
        edited = edit_image(self._open(row), recipe, self._rng(row["image_id"], salt), self.backgrounds)
        return self._put("pool", row, edited.image, salt)

    def _reverse_crop(self, row: dict[str, Any]) -> None:
        box = random_crop_box(self._rng(row["image_id"], "box"))
        edits = [{"operation": "crop", "parameters": {"box": box}}]
        crop = self._put("reference", row, apply_edits(self._open(row), edits), "crop")
        self.edits.append(
            {"image_id": row["image_id"], "role": "pool", "source_id": crop, "source_role": "reference",
             "kind": "reverse_crop", "edit": json.dumps({"edits": edits})}
        )  # fmt: skip

    def _whole_and_other_crop(self, row: dict[str, Any], edit: dict[str, Any]) -> None:
        self._edited(row, "light", "whole")
        shown = json.loads(edit["edit"])["edits"][0]["parameters"]["box"]
        rng = self._rng(row["image_id"], "other")
        for _ in range(100):
            box = random_crop_box(rng)
            across = max(0.0, min(box[2], shown[2]) - max(box[0], shown[0]))
            down = max(0.0, min(box[3], shown[3]) - max(box[1], shown[1]))
            share = across * down / ((box[2] - box[0]) * (box[3] - box[1]))
            if 0.3 <= share <= 1 - NEW:
                cut = apply_edits(self._open(row), [{"operation": "crop", "parameters": {"box": box}}])
                self._put("pool", row, cut, "other")
                return

    def _open(self, row: dict[str, Any]) -> Image.Image:
        return Image.open(row["uri"]).convert("RGB")

    def _put(self, role: str, source: dict[str, Any], image: Image.Image, salt: str) -> str:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=95)
        data = buffer.getvalue()
        name = f"{source['image_id']}/{salt}"
        image_id = "made-" + sha256_bytes(name.encode())[:12]  # tells nobody what it is
        path = write_bytes(self.out.files(role) / f"{image_id}.jpg", data)
        new = {"image_id": image_id, "role": role, "uri": self.out.uri_of(path), "sha256": sha256_bytes(data)}
        new |= {"width": image.width, "height": image.height}
        self.images[role].append(source | new)
        return image_id

    def _rng(self, image_id: str, salt: str) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(f"{image_id}/{salt}".encode()))


def _sources(edits: list[dict[str, Any]]) -> set[str]:
    return {row["image_id"] for row in edits}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    build(arguments.demo, arguments.out)
