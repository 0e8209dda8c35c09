"""PDQ, Meta's hash of 256 bits, as hash exchanges use it."""

from __future__ import annotations

from typing import Any

REQUIRES = ("pdqhash==0.2.8", "numpy==2.4.6", "Pillow==13.0.0")
COMPARE = "hamming"
THRESHOLD = 31
THRESHOLD_SOURCE = "ThreatExchange's README: distance ≤ 31, and hashes with a quality ≤ 49 are discarded"
LEAST_QUALITY = 50
LIMITS = "blind to crops, mirror images and rotations: the hash is one of the complete picture"


def describe(path: str) -> Any:
    """256 bits and the quality, 0 (a plain picture) to 100."""
    import numpy as np
    import pdqhash
    from PIL import Image

    return pdqhash.compute(np.asarray(Image.open(path).convert("RGB")))
