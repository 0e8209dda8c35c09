"""Write a DNG: a grey sensor picture and, as a JPEG preview, a scene, to be turned by 90 degrees.

    pip install tifffile==2026.3.3 imagecodecs==2026.3.6
    PYTHONPATH=.. python make_dng.py scene-3-preview.dng

A file of a real camera could not be found in a package. LibRaw accepts this one: it has the tags that DNG needs.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np

from support.pictures import scene

BYTE, ASCII, SHORT, LONG, SRATIONAL = 1, 2, 3, 4, 10
ABOUT = [
    (50706, BYTE, 4, bytes([1, 4, 0, 0]), False),  # DNGVersion
    (50708, ASCII, None, "ndec test", False),  # UniqueCameraModel
    (271, ASCII, None, "ndec", False),
    (272, ASCII, None, "test", False),
    (274, SHORT, 1, 6, False),  # Orientation: turn by 90 degrees clockwise
    (50721, SRATIONAL, 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), False),  # ColorMatrix1
    (50778, SHORT, 1, 21, False),  # CalibrationIlluminant1: D65
]
SENSOR = [
    (33421, SHORT, 2, (2, 2), False),  # CFARepeatPatternDim
    (33422, BYTE, 4, bytes([0, 1, 1, 2]), False),  # CFAPattern: RGGB
    (50717, LONG, 1, 65535, False),  # WhiteLevel
]


def write_dng(path: Path, number: int, size: tuple[int, int]) -> None:
    """`scene(number)` of this size as the preview."""
    import tifffile

    preview = io.BytesIO()
    scene(number, size).save(preview, "JPEG", quality=92)
    with tifffile.TiffWriter(path) as file:
        file.write(
            iter([preview.getvalue()]), shape=(size[1], size[0], 3), dtype="uint8", photometric="ycbcr",
            compression="jpeg", rowsperstrip=size[1], subfiletype=1, subifds=1, extratags=ABOUT, metadata=None,
        )  # fmt: skip
        grey = np.full((112, 160), 20_000, "uint16")
        file.write(grey, photometric=32803, subfiletype=0, extratags=SENSOR, metadata=None)


if __name__ == "__main__":
    write_dng(Path(sys.argv[1]), 3, (160, 112))
