"""Draw the pictures of docs/concepts.md from a finished demo workspace: `python docs/draw_concepts.py WORKSPACE`.

It uses only pictures whose licence allows this with attribution. The page names the author and licence of each.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from ndec_builder.core.decode import decode
from ndec_builder.core.storage import read_uri
from ndec_builder.core.workspace import Workspace

SIDE = 300  # px
PAIRS = {  # name → (role and id of the query, id of the reference)
    "another-moment": (("pool", "opencv-data-vtest-00-027800"), "opencv-data-vtest-00-022000"),
    "edited-copy": (("query", "copy-000163"), "opencv-data-vtest-00-022000"),
    "another-angle": (("pool", "opencv-data-aloel"), "opencv-data-aloer"),
    "whole-of-a-crop": (("pool", "gcompris-categorization-images-monuments-greatwall"), "image-c470878424c5"),
}
OUT = Path(__file__).parent / "images" / "concepts"


def picture(workspace: Workspace, role: str, image_id: str) -> Image.Image:
    """One image of a role, at most SIDE pixels."""
    table = workspace.read_images(role)
    row = table.slice(table["image_id"].to_pylist().index(image_id), 1).to_pylist()[0]
    image = decode(read_uri(workspace.resolve(row["uri"])), row["rotation"] or 0).convert("RGB")
    image.thumbnail((SIDE, SIDE))
    return image


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures side by side on white."""
    board = Image.new("RGB", (left.width + right.width + 12, max(left.height, right.height)), "white")
    board.paste(left, (0, (board.height - left.height) // 2))
    board.paste(right, (left.width + 12, (board.height - right.height) // 2))
    return board


def main() -> None:
    workspace = Workspace(Path(sys.argv[1]))
    OUT.mkdir(parents=True, exist_ok=True)
    for name, ((role, query), reference) in PAIRS.items():
        pair = picture(workspace, role, query), picture(workspace, "reference", reference)
        side_by_side(*pair).save(OUT / f"{name}.jpg", quality=82)
    whole, crop = (
        picture(workspace, r, i) for r, i in (PAIRS["whole-of-a-crop"][0], ("reference", "image-c470878424c5"))
    )
    side_by_side(crop, whole).save(OUT / "crop-of-a-whole.jpg", quality=82)


if __name__ == "__main__":
    main()
