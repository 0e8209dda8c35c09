"""imagededup's PHash, 64 bits."""

from __future__ import annotations

REQUIRES = ("imagededup==0.3.3.post2",)
COMPARE = "hamming"
THRESHOLD = 10
THRESHOLD_SOURCE = "default of find_duplicates: max_distance_threshold = 10"
LIMITS = "one hash of the complete picture: blind to crops, mirror images and rotations"


def describe(path: str) -> str:
    from imagededup.methods import PHash

    code = PHash(verbose=False).encode_image(image_file=path)
    if code is None:
        raise ValueError("imagededup could not read it")
    return str(code)
