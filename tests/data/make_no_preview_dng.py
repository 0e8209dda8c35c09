"""Write scene-3-no-preview.dng: the sensor picture of `scene(3)` as a camera program of the Raspberry Pi stores it.

pip install pidng==4.0.9 pillow
PYTHONPATH=.. python make_no_preview_dng.py scene-3-no-preview        PiDNG adds the ending
"""

from __future__ import annotations

import sys

import numpy as np
from pidng.core import RAW2DNG, DNGTags, Tag
from pidng.defs import CalibrationIlluminant, CFAPattern, DNGVersion, PhotometricInterpretation

from support.pictures import scene

SIZE = (64, 48)
XYZ = (32404542, -15371385, -4985314, -9692660, 18760108, 415560, 556434, -2040259, 10572252)  # sRGB, in 1e-7

shown = np.asarray(scene(3, SIZE), float) / 255
light = np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
sensor = np.empty(SIZE[::-1])
for place, channel in (((0, 0), 0), ((0, 1), 1), ((1, 0), 1), ((1, 1), 2)):  # RGGB
    part = (slice(place[0], None, 2), slice(place[1], None, 2))
    sensor[part] = light[(*part, channel)]
tags = DNGTags()
for tag, value in {
    Tag.ImageWidth: SIZE[0], Tag.ImageLength: SIZE[1], Tag.TileWidth: SIZE[0], Tag.TileLength: SIZE[1],
    Tag.Orientation: 6, Tag.PhotometricInterpretation: PhotometricInterpretation.Color_Filter_Array,
    Tag.SamplesPerPixel: 1, Tag.BitsPerSample: 16, Tag.CFARepeatPatternDim: [2, 2], Tag.CFAPattern: CFAPattern.RGGB,
    Tag.BlackLevel: 0, Tag.WhiteLevel: 4095, Tag.ColorMatrix1: [[value, 10_000_000] for value in XYZ],
    Tag.CalibrationIlluminant1: CalibrationIlluminant.D65, Tag.AsShotNeutral: [[1, 1]] * 3,
    Tag.DNGVersion: DNGVersion.V1_4, Tag.DNGBackwardVersion: DNGVersion.V1_2, Tag.Make: "ndec", Tag.Model: "test",
}.items():  # fmt: skip
    tags.set(tag, value)
writer = RAW2DNG()
writer.options(tags, path="", compress=False)
writer.convert((sensor * 4095).astype(np.uint16), filename=sys.argv[1])
