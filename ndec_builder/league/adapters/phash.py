"""pHash (DCT) of the package imagehash, 64 bits."""

from __future__ import annotations

from typing import Any

REQUIRES = ("ImageHash==4.3.2",)
COMPARE = "hamming"
THRESHOLD = None
THRESHOLD_SOURCE = "imagehash names none; its README lets the user choose"
LIMITS = "one hash of the complete picture: blind to crops, mirror images and rotations"


def describe(path: str) -> Any:
    import imagehash
    from PIL import Image

    return imagehash.phash(Image.open(path)).hash
