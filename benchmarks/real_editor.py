"""Our edits against those of a real editor: ImageMagick 6 (Debian package `imagemagick`) on the same picture.

    python benchmarks/real_editor.py PICTURE… [--quick]

Each edit runs in both with the same parameters. The table has the largest difference and the share of equal values over
all pictures (0–255), and the correlation. Effects that ImageMagick draws in its own way (halftone) are compared after a
blur. Not compared, as it has no such effect: cartoon, meme, screenshot, rephotograph.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, write_result
from PIL import Image, ImageFilter, ImageOps

from ndec_builder.edits.layers import pixels_sha256
from ndec_builder.edits.operations import apply_edits

SIZE = (320, 240)  # px
GREY = ("-grayscale", "Rec601Luma")


@dataclass(frozen=True)
class Check:
    """One edit with its parameters, and what ImageMagick is told; OTHER is a second picture. inner: px left out."""

    name: str
    parameters: dict[str, Any]
    command: tuple[str, ...]
    inner: int = 0
    blurred: bool = False


def checks() -> list[Check]:
    width, height = SIZE
    side = min(SIZE)
    half = (width // 2, height // 2)
    mirrored = ("(", "+clone", "-flop", ")", "+append", "(", "+clone", "-flip", ")", "-append")
    return [
        Check("invert", {}, ("-negate",)),
        Check("curve", {"contrast": 5.0, "gamma": 1.0}, ("-sigmoidal-contrast", "5,50%")),
        Check("curve", {"contrast": -5.0, "gamma": 1.0}, ("+sigmoidal-contrast", "5,50%")),
        Check("curve", {"contrast": 0.0, "gamma": 1.6}, ("-gamma", "1.6")),
        Check("threshold", {"level": 0.5}, (*GREY, "-threshold", "50%")),
        Check("posterise", {"levels": 4}, ("+dither", "-posterize", "4")),
        Check("edge", {"radius": 1}, ("-edge", "1")),
        Check("emboss", {"depth": 2.0}, (*GREY, "-define", "convolve:bias=50%", "-morphology", "Correlate",
                                         "3x3: -2,0,0 0,2,0 0,0,0")),
        Check("oil", {"radius": 3}, ("-paint", "3")),
        Check("halftone", {"cell": 0.02, "colour": False}, (*GREY, "-ordered-dither", "h6x6a"), blurred=True),
        Check("whirl", {"angle": 90.0}, ("-swirl", "90")),
        Check("lens", {"amount": 0.4}, ("-implode", "0.4")),
        Check("lens", {"amount": -0.4}, ("-implode", "-0.4")),
        Check("ripple", {"amplitude": 8 / side, "wavelength": 60 / side},
              ("-wave", "8x60", "-gravity", "center", "-crop", f"{width}x{height}+0+0", "+repage"), inner=12),
        Check("blend", {"opacity": 0.4}, ("OTHER", "-define", "compose:args=40", "-compose", "blend", "-composite")),
        Check("tile", {"count": 2, "mirrored": False},
              ("-filter", "Catrom", "-resize", f"{half[0]}x{half[1]}!", "(", "+clone", ")", "+append",
               "(", "+clone", ")", "-append")),
        Check("tile", {"count": 2, "mirrored": True},
              ("-filter", "Catrom", "-resize", f"{half[0]}x{half[1]}!", *mirrored)),
        Check("frame", {"widths": [5 / side, 9 / side], "colours": [[200, 30, 10], [0, 0, 60]]},
              ("-bordercolor", "rgb(200,30,10)", "-border", "5x5", "-bordercolor", "rgb(0,0,60)", "-border", "9x9")),
        Check("collage", {"rows": 1, "columns": 2, "place": 1, "gap": 0.0, "wide": True},
              ("OTHER", "+swap", "+append")),
    ]  # fmt: skip


def ours(check: Check, image: Image.Image, other: Image.Image) -> np.ndarray:
    parameters, backgrounds = dict(check.parameters), [other]
    if parameters.pop("wide", False):  # whose left half is `other`
        wide = Image.new("RGB", (2 * image.width, image.height))
        wide.paste(other, (0, 0))
        backgrounds = [wide]
    if check.name in ("blend", "collage"):
        parameters["background"] = {"index": 0, "sha256": pixels_sha256(backgrounds[0])}
    return np.asarray(apply_edits(image, [{"operation": check.name, "parameters": parameters}], backgrounds))


def theirs(check: Check, image: Image.Image, other: Image.Image, folder: Path) -> np.ndarray:
    image.save(folder / "in.png")
    other.save(folder / "other.png")
    command = [str(folder / "other.png") if part == "OTHER" else part for part in check.command]
    subprocess.run(["convert", str(folder / "in.png"), *command, str(folder / "out.png")], check=True, timeout=120)
    return np.asarray(Image.open(folder / "out.png").convert("RGB"))


def compared(check: Check, pictures: Sequence[Image.Image], folder: Path) -> str:
    values: list[np.ndarray] = [np.zeros(0), np.zeros(0)]
    for image, other in zip(pictures, [*pictures[1:], pictures[0]], strict=True):
        sides = ours(check, image, other), theirs(check, image, other, folder)
        assert sides[0].shape == sides[1].shape, (check.name, sides[0].shape, sides[1].shape)
        cut = slice(check.inner, -check.inner or None)
        for place, pixels in enumerate(sides):
            shown = pixels[cut, cut]
            if check.blurred:
                shown = np.asarray(Image.fromarray(shown).filter(ImageFilter.GaussianBlur(6)))
            values[place] = np.concatenate([values[place], shown.ravel().astype(np.float64)])
    gap = np.abs(values[0] - values[1])
    correlation = np.corrcoef(values[0], values[1])[0, 1]
    given = ", ".join(f"{name} {value}" for name, value in check.parameters.items() if name not in ("wide", "colours"))
    what = f"{check.name} ({given})" if given else check.name
    asked = " ".join(check.command[:6]) + (" …" if len(check.command) > 6 else "")
    return (
        f"| {what} | `{asked}` | {(gap <= 1).mean():.4f} | {np.quantile(gap, 0.99):.0f} | {gap.max():.0f} | "
        f"{correlation:.4f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--quick", action="store_true", help="print, write nothing")
    given = parser.parse_args()
    pictures = [ImageOps.fit(Image.open(path).convert("RGB"), SIZE) for path in given.pictures]
    version = subprocess.run(["convert", "-version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    about = (
        f"{version}; {len(pictures)} pictures of {SIZE[0]} × {SIZE[1]} px. Differences in grey levels (0–255) over all "
        "pixels and channels."
    )
    lines = ["# Edits against those of a real editor", "", machine(), "", about, ""]
    lines += [
        "| edit | ImageMagick | share within 1 | 99 % within | largest | correlation |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for check in checks():
            lines.append(compared(check, pictures, Path(folder)))
            print(lines[-1], flush=True)
    if not given.quick:
        write_result("real_editor", "\n".join(lines))


if __name__ == "__main__":
    main()
