#!/usr/bin/env bash
# OpenCV 5: the inverse of a boolean mask is a mask of everything, and 64-bit integers lose half of their bits
#
# OpenCV 4 refused numpy's bool. OpenCV 5 has matrices of bool and of 64-bit integers, and takes bool arrays.
#
# Expected: cv2.bitwise_not(mask) of a bool mask is ~mask, or an error. Arrays of int64 (hashes, ids of pictures in a
# label map) keep their values now that the type exists.
#
# What happens: bitwise_not flips all eight bits of each truth value. True becomes the byte 254, False 255, and the
# result is a bool array in which everything is true: for numpy, for countNonZero and as a mask. A picture edited
# through it is changed everywhere, and `inverse & mask` is not empty. numpy prints True for each element, but inverse
# == True is false for those that were not 1. Of int64 and uint64 arrays the Python binding still makes int32, as
# OpenCV 4 did, without a word: 2**31 + 7 becomes negative, equal hashes are those that agree in 32 bits, and the
# largest id is not the largest.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check opencv-python-headless==5.0.0.93 numpy==2.4.6

venv/bin/python - <<'EOF_PYTHON'
from importlib.metadata import version

import cv2
import numpy as np

print(*(f"{name} {version(name)}" for name in ("opencv-python-headless", "numpy")))
mask = np.zeros((4, 4), bool)
mask[:2] = True
inverse = cv2.bitwise_not(mask)
bits = sorted(set(inverse.view(np.uint8).ravel().tolist()))
print(f"mask: {mask.sum()} of 16 true; bitwise_not: {inverse.dtype}, {np.count_nonzero(inverse)} true, bytes {bits}")
picture = np.full((4, 4), 9, np.uint8)
kept = cv2.bitwise_and(picture, picture, mask=inverse)
print("pixels outside the mask:", np.count_nonzero(picture[~mask]), " kept by the inverse:", np.count_nonzero(kept))
assert inverse.dtype == bool and bits == [254, 255]
assert inverse.all() and cv2.countNonZero(inverse) == np.count_nonzero(kept) == 16
assert (inverse & mask).any() and not (~inverse).any()

for kind in (np.int64, np.uint64):
    ids = np.array([[2**31 + 7, 2**40 + 3, 250]], kind)
    highest, place = cv2.minMaxLoc(ids)[1::2]
    distance = cv2.absdiff(ids, ids % 2**32)
    print(f"{kind.__name__}: largest of {ids[0].tolist()} by minMaxLoc: {highest:.0f} at {place[0]};",
          f"absdiff with the low 32 bits: {distance[0].tolist()} as {distance.dtype}")
    assert highest == 250 and place[0] == 2
    assert distance.dtype == np.int32 and not distance.any()
EOF_PYTHON
