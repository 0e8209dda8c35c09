"""Random parameters within ranges: one sampler per operation, JSON values only.

A range is `(low, high)`. Numbers are rounded when sampled, so that the record is short and still exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ndec_builder.edits import layers

Range = tuple[float, float]
Ranges = Mapping[str, Range]
Backgrounds = Sequence[Image.Image]
Sampler = Callable[[np.random.Generator, Ranges, Backgrounds], dict[str, Any]]

_WORDS = (
    "SALE",
    "NEW",
    "WOW",
    "LOL",
    "TODAY",
    "HELLO",
    "BEST DAY",
    "2021",
    "SHARE",
    "FOLLOW",
    "FREE",
    "NEWS",
    "LOVE",
    "PHOTO",
)


def _draw_number(rng: np.random.Generator, bounds: Range) -> float:
    """A number in the range, rounded to four decimals."""
    return round(float(rng.uniform(*bounds)), 4)


def colour(rng: np.random.Generator) -> list[int]:
    return [int(value) for value in rng.integers(0, 256, 3)]


def seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def box(rng: np.random.Generator, share: Range, aspect: Range) -> list[float]:
    """A box (left, top, right, bottom) with a `share` of the area; its `aspect` ratio is log-uniform."""
    side, stretch = float(np.sqrt(_draw_number(rng, share))), float(np.exp(rng.uniform(*np.log(aspect)) / 2))
    width, height = min(1.0, side * stretch), min(1.0, side / stretch)
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return [round(float(value), 4) for value in (left, top, left + width, top + height)]


def _numbers(*names: str) -> Sampler:
    return lambda rng, ranges, _: {name: _draw_number(rng, ranges[name]) for name in names}


def _whole(name: str) -> Sampler:
    return lambda rng, ranges, _: {name: round(_draw_number(rng, ranges[name]))}


def _with_seed(*names: str) -> Sampler:
    return lambda rng, ranges, _: {**{name: _draw_number(rng, ranges[name]) for name in names}, "seed": seed(rng)}


def _nothing(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    return {}


def _crop(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    return {"box": box(rng, ranges["share"], ranges["aspect"])}


def _resize(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    factor, squash = _draw_number(rng, ranges["factor"]), _draw_number(rng, ranges["squash"])
    return {"width_factor": round(factor * squash, 4), "height_factor": factor}


def _rotate(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    return {"angle": _draw_number(rng, ranges["angle"]), "expand": bool(rng.random() < 0.5), "fill": colour(rng)}


def _perspective(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    square = ((0, 0), (1, 0), (1, 1), (0, 1))
    corners = [[round(abs(side - _draw_number(rng, ranges["inward"])), 4) for side in corner] for corner in square]
    return {"corners": corners, "fill": colour(rng)}


def _pad(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    return {"margins": [_draw_number(rng, ranges["margin"]) for _ in range(4)], "fill": colour(rng)}


def _tint(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    return {"colour": colour(rng), "opacity": _draw_number(rng, ranges["opacity"])}


def _words(rng: np.random.Generator) -> str:
    return " ".join(_WORDS[int(i)] for i in rng.integers(0, len(_WORDS), int(rng.integers(1, 4))))


def _text(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    return {
        "text": _words(rng),
        "position": [_draw_number(rng, (0, 0.6)), _draw_number(rng, (0, 0.85))],
        "height": _draw_number(rng, ranges["height"]),
        "colour": colour(rng),
        "opacity": _draw_number(rng, (0.6, 1)),
    }


def _sticker(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    return {
        "shape": layers.STICKERS[int(rng.integers(len(layers.STICKERS)))],
        "centre": [_draw_number(rng, (0.1, 0.9)), _draw_number(rng, (0.1, 0.9))],
        "diameter": _draw_number(rng, ranges["diameter"]),
        "colour": colour(rng),
    }


def _overlay(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    return {
        "box": box(rng, ranges["share"], (0.7, 1.4)),
        "opacity": _draw_number(rng, ranges["opacity"]),
        "background": layers.sample_background(rng, backgrounds),
    }


def _underlay(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    return {"box": box(rng, ranges["share"], (0.8, 1.25)), "background": layers.sample_background(rng, backgrounds)}


def _signed(rng: np.random.Generator, bounds: Range) -> float:
    """A number in the range, with either sign."""
    return _draw_number(rng, bounds) * (1 if rng.random() < 0.5 else -1)


def _curve(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    return {"contrast": _signed(rng, ranges["contrast"]), "gamma": _draw_number(rng, ranges["gamma"])}


def _cartoon(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    return {name: round(_draw_number(rng, ranges[name])) for name in ("levels", "radius")}


def _halftone(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    return {"cell": _draw_number(rng, ranges["cell"]), "colour": bool(rng.random() < 0.5)}


def _blend(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    return {"opacity": _draw_number(rng, ranges["opacity"]), "background": layers.sample_background(rng, backgrounds)}


def _tile(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    return {"count": round(_draw_number(rng, ranges["count"])), "mirrored": bool(rng.random() < 0.5)}


def _frame(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    bands = int(rng.integers(1, 4))
    return {
        "widths": [_draw_number(rng, ranges["width"]) for _ in range(bands)],
        "colours": [colour(rng) for _ in range(bands)],
    }


def _meme(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    which = int(rng.integers(3))  # above, below, both
    return {
        "above": _words(rng) if which != 1 else "",
        "below": _words(rng) if which != 0 else "",
        "height": _draw_number(rng, ranges["height"]),
        "dark": bool(rng.random() < 0.3),
    }


def _screenshot(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    return {
        "bars": [_draw_number(rng, ranges["bar"]), _draw_number(rng, ranges["bar"])],
        "margin": _draw_number(rng, ranges["margin"]) if rng.random() < 0.5 else 0.0,
        "dark": bool(rng.random() < 0.5),
    }


def _collage(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    rows, columns = ((1, 2), (2, 1), (2, 2), (2, 3), (3, 3))[int(rng.integers(5))]
    return {
        "rows": rows,
        "columns": columns,
        "place": int(rng.integers(rows * columns)),
        "gap": _draw_number(rng, ranges["gap"]),
        "background": layers.sample_background(rng, backgrounds),
    }


def _rephotograph(rng: np.random.Generator, ranges: Ranges, backgrounds: Backgrounds) -> dict[str, Any]:
    return _perspective(rng, ranges, backgrounds) | {
        "stripes": _draw_number(rng, ranges["stripes"]),
        "period": _draw_number(rng, ranges["period"]),
        "glow": _signed(rng, ranges["glow"]),
    }


SAMPLERS: dict[str, Sampler] = {
    "crop": _crop,
    "resize": _resize,
    "flip": _nothing,
    "rotate": _rotate,
    "perspective": _perspective,
    "pad": _pad,
    "jpeg": _whole("quality"),
    "jitter": _numbers("brightness", "contrast", "saturation"),
    "grayscale": _nothing,
    "blur": _numbers("radius"),
    "sharpen": _whole("percent"),
    "noise": _with_seed("sigma"),
    "pixelate": _numbers("share"),
    "shuffle": _with_seed("share", "radius"),
    "vignette": _numbers("strength"),
    "tint": _tint,
    "text": _text,
    "sticker": _sticker,
    "overlay": _overlay,
    "underlay": _underlay,
    "invert": _nothing,
    "curve": _curve,
    "threshold": _numbers("level"),
    "posterise": _whole("levels"),
    "edge": _whole("radius"),
    "emboss": _numbers("depth"),
    "oil": _whole("radius"),
    "cartoon": _cartoon,
    "halftone": _halftone,
    "whirl": lambda rng, ranges, _: {"angle": _signed(rng, ranges["angle"])},
    "lens": lambda rng, ranges, _: {"amount": _signed(rng, ranges["amount"])},
    "ripple": _numbers("amplitude", "wavelength"),
    "blend": _blend,
    "tile": _tile,
    "frame": _frame,
    "meme": _meme,
    "screenshot": _screenshot,
    "collage": _collage,
    "rephotograph": _rephotograph,
}
