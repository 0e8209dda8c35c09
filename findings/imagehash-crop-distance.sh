#!/usr/bin/env bash
# imagehash: the distance of two crop-resistant hashes depends on which of them comes first
#
# Expected: a - b equals b - a, and equal objects are one element of a set, as for the other hashes
# of the package.
#
# What happens: A crop-resistant hash is a list of segment hashes. a - b counts for each segment of
# a whether b has a similar one, so a - b and b - a differ as soon as the numbers of segments differ
# or segments are matched twice. Objects compare equal if one segment matches, while their hash()
# comes from all segments: a == b is true, and the set {a, b} has two elements. So a dictionary or
# set of these hashes finds no crops.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check imagehash==4.3.2 pillow==13.0.0 numpy==2.4.6

venv/bin/python - <<'EOF'
from importlib.metadata import version

import imagehash
import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def scene(seed):
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (400, 300), (30, 30, 30))
    for _ in range(8):
        x, y = rng.integers(0, 280), rng.integers(0, 200)
        w, h = rng.integers(60, 120), rng.integers(50, 100)
        ImageDraw.Draw(image).rectangle((x, y, x + w, y + h), fill=tuple(int(c) for c in rng.integers(60, 256, 3)))
    return image.filter(ImageFilter.GaussianBlur(1))


print("imagehash", version("imagehash"))
asymmetric = 0
for seed in range(8):
    image = scene(seed)
    a = imagehash.crop_resistant_hash(image, min_segment_size=200)
    b = imagehash.crop_resistant_hash(image.crop((60, 40, 340, 260)), min_segment_size=200)
    print(f"a - b = {a - b:.3f}, b - a = {b - a:.3f}, a == b: {a == b}, size of the set: {len({a, b})}")
    asymmetric += a - b != b - a
    assert len({a, b}) == 2
    equal = a == b if seed == 0 else equal
assert asymmetric >= 3 and equal
EOF
