"""All operations by name, and exact replay of recorded ones.

A record is `{"operation": name, "parameters": {…}}`, plain JSON; applying it again gives the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ndec_builder.core.errors import NdecError, nearest
from ndec_builder.edits import compositions, effects, filters, geometry, layers
from ndec_builder.edits.content import VisibleContent
from ndec_builder.edits.geometry import Size

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Operation:
    """One kind of edit. `apply(image, **parameters)` is a pure function of pixels and parameters."""

    apply: Callable[..., Image.Image]
    matrix: Callable[..., np.ndarray] | None = None  # (size before, size after, **parameters) → (3, 3)
    hides: Callable[..., tuple[Sequence[float], float]] | None = None  # (size, **parameters) → box, opacity
    adds_content: bool = False  # content that the original does not have


def _overlay_hides(size: Size, box: Sequence[float], opacity: float, **_: Any) -> tuple[Sequence[float], float]:
    return box, opacity


def _blend_hides(size: Size, opacity: float, **_: Any) -> tuple[Sequence[float], float]:
    return (0.0, 0.0, 1.0, 1.0), opacity


def _sticker_hides(size: Size, centre: Sequence[float], diameter: float, **_: Any) -> tuple[Sequence[float], float]:
    """The square around the sticker; its shape fills about two thirds of it."""
    half = diameter * min(size) / 2
    x, y = centre[0] * size[0], centre[1] * size[1]
    return ((x - half) / size[0], (y - half) / size[1], (x + half) / size[0], (y + half) / size[1]), 0.66


# Plain borders and text count as added content. The empty corners of a rotated picture do not. Text hides almost
# nothing, so the share ignores it. Bent pictures (whirl, lens, ripple) count as if every pixel had stayed. Of tiles the
# share follows the first, so that a crop after them makes it too small.
OPERATIONS: dict[str, Operation] = {
    "crop": Operation(geometry.crop, geometry.crop_matrix),
    "resize": Operation(geometry.resize),
    "flip": Operation(geometry.mirror, geometry.mirror_matrix),
    "rotate": Operation(geometry.rotate, geometry.rotate_matrix),
    "perspective": Operation(geometry.perspective, geometry.perspective_matrix),
    "pad": Operation(geometry.pad, geometry.pad_matrix, adds_content=True),
    "jpeg": Operation(filters.jpeg),
    "jitter": Operation(filters.jitter),
    "grayscale": Operation(filters.grayscale),
    "blur": Operation(filters.blur),
    "sharpen": Operation(filters.sharpen),
    "noise": Operation(filters.noise),
    "pixelate": Operation(filters.pixelate),
    "shuffle": Operation(filters.shuffle),
    "vignette": Operation(filters.vignette),
    "tint": Operation(filters.tint),
    "text": Operation(layers.text, adds_content=True),
    "sticker": Operation(layers.sticker, hides=_sticker_hides, adds_content=True),
    "overlay": Operation(layers.overlay, hides=_overlay_hides, adds_content=True),
    "underlay": Operation(layers.underlay, layers.underlay_matrix, adds_content=True),
    "invert": Operation(effects.invert),
    "curve": Operation(effects.tone_curve),
    "threshold": Operation(effects.threshold),
    "posterise": Operation(effects.posterise),
    "edge": Operation(effects.edge),
    "emboss": Operation(effects.emboss),
    "oil": Operation(effects.oil),
    "cartoon": Operation(effects.cartoon),
    "halftone": Operation(effects.halftone),
    "whirl": Operation(effects.whirl),
    "lens": Operation(effects.lens),
    "ripple": Operation(effects.ripple),
    "blend": Operation(compositions.blend, hides=_blend_hides, adds_content=True),
    "tile": Operation(compositions.tile, compositions.tile_matrix),
    "frame": Operation(compositions.frame, compositions.frame_matrix, adds_content=True),
    "meme": Operation(compositions.meme, compositions.meme_matrix, adds_content=True),
    "screenshot": Operation(compositions.screenshot, compositions.screenshot_matrix, adds_content=True),
    "collage": Operation(compositions.collage, compositions.collage_matrix, adds_content=True),
    "rephotograph": Operation(compositions.rephotograph, compositions.rephotograph_matrix),
}


@dataclass(frozen=True)
class Edited:
    """An edited copy and how it was made."""

    image: Image.Image  # RGB, at least 32 px a side
    edits: tuple[dict[str, Any], ...]  # the records, in the order in which they were applied
    content_share: float  # share of the original's area still visible, 0..1
    adds_content: bool  # padding, underlay, overlay, text or sticker: content that the original does not have


def apply_edits(image: Image.Image, edits: Sequence[Record], backgrounds: Sequence[Image.Image] = ()) -> Image.Image:
    """Replay recorded edits: the same picture and backgrounds give the same pixels.

    >>> crop = {"operation": "crop", "parameters": {"box": [0.0, 0.0, 0.5, 1.0]}}
    >>> apply_edits(Image.new("RGB", (200, 100)), [crop]).size
    (100, 100)

    Raises NdecError for an unknown operation, for wrong parameters and for a background that has changed.
    """
    return replay(image, edits, backgrounds).image


def replay(image: Image.Image, edits: Sequence[Record], backgrounds: Sequence[Image.Image] = ()) -> Edited:
    """Like `apply_edits`, but also returns the share of the original that is still visible."""
    content = VisibleContent()
    image = geometry.enlarge_to_min_side(image if image.mode == "RGB" else image.convert("RGB"))
    adds_content = False
    for record in edits:
        operation = _operation(record)
        before = image.size
        image = geometry.enlarge_to_min_side(_apply(operation, image, record, backgrounds))
        parameters = record["parameters"]
        if operation.matrix is not None:
            content.move(operation.matrix(before, image.size, **parameters))
        if operation.hides is not None:
            content.hide(*operation.hides(before, **parameters))
        adds_content = adds_content or operation.adds_content
    return Edited(image, tuple(dict(record) for record in edits), content.share, adds_content)


def _operation(record: Record) -> Operation:
    name = record.get("operation", "")
    if name not in OPERATIONS:
        raise NdecError(
            f"the operation {name!r} is unknown; known: {', '.join(OPERATIONS)}{nearest(str(name), OPERATIONS)}"
        )
    return OPERATIONS[name]


def _apply(operation: Operation, image: Image.Image, record: Record, backgrounds: Sequence[Image.Image]) -> Image.Image:
    parameters = dict(record["parameters"])
    if "background" in parameters:
        parameters["picture"] = layers.find_background(parameters.pop("background"), backgrounds)
    try:
        return operation.apply(image, **parameters)
    except TypeError as error:
        raise NdecError(f"cannot replay {record!r}: {error}; was it made by another version, or edited?") from None
