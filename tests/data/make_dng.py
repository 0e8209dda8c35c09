"""Write scene-3-preview.dng: a grey sensor picture and, as a JPEG preview, `scene(3)`, to be turned by 90 degrees.

    pip install tifffile==2026.3.3 imagecodecs==2026.3.6
    PYTHONPATH=.. python make_dng.py FILE

A file of a real camera could not be found in a package. LibRaw accepts this one: it has the tags that DNG needs.
"""

from __future__ import annotations

import io
import sys

import numpy as np
import tifffile

from support.pictures import scene

BYTE, ASCII, SHORT, LONG, RATIONAL, SRATIONAL = 1, 2, 3, 4, 5, 10

preview = io.BytesIO()
scene(3, (160, 112)).save(preview, "JPEG", quality=92)
about = [
    (50706, BYTE, 4, bytes([1, 4, 0, 0]), False),  # DNGVersion
    (50708, ASCII, None, "ndec test", False),  # UniqueCameraModel
    (271, ASCII, None, "ndec", False),
    (272, ASCII, None, "test", False),
    (274, SHORT, 1, 6, False),  # Orientation: turn by 90 degrees clockwise
    (50721, SRATIONAL, 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), False),  # ColorMatrix1
    (50778, SHORT, 1, 21, False),  # CalibrationIlluminant1: D65
]
sensor = [
    (33421, SHORT, 2, (2, 2), False),  # CFARepeatPatternDim
    (33422, BYTE, 4, bytes([0, 1, 1, 2]), False),  # CFAPattern: RGGB
    (50717, LONG, 1, 65535, False),  # WhiteLevel
]
with tifffile.TiffWriter(sys.argv[1]) as file:
    file.write(
        iter([preview.getvalue()]), shape=(112, 160, 3), dtype="uint8", photometric="ycbcr", compression="jpeg",
        rowsperstrip=112, subfiletype=1, subifds=1, extratags=about, metadata=None,
    )  # fmt: skip
    grey = np.full((112, 160), 20_000, "uint16")
    file.write(grey, photometric=32803, subfiletype=0, extratags=sensor, metadata=None)
