#!/usr/bin/env bash
# scikit-learn: normalize turns long float16 vectors into zeros, and leaves short ones as they are
#
# Expected: normalize and Normalizer give rows of length 1. float16 costs digits, not correctness: scikit-learn converts
# it to a wider type, as cosine_similarity does, or computes the norms in one.
#
# What happens: The input stays float16, and so do the squares that are summed. A norm above 256 overflows to infinity,
# and the row becomes zeros. If each number is below about 0.0002, the squares are 0, and the row is returned unchanged.
# Neither warns, not even with all warnings as errors. CNN features before normalisation often have such norms, and float16
# is how they are stored. A zero vector has a cosine of 0 with everything, so the picture is never found again.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6

venv/bin/python -W error - <<'EOF'
import importlib.metadata

import numpy as np
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import Normalizer, normalize

for name in ("scikit-learn", "numpy"):
    print(name, importlib.metadata.version(name))
rng = np.random.default_rng(0)
unit = rng.normal(size=512)
unit /= np.linalg.norm(unit)
for length, expected in ((0.001, 0.001), (1, 1), (200, 1), (300, 0)):
    row = (unit * length).astype(np.float16)[None]
    lengths = [float(np.linalg.norm(found.astype(float))) for found in (normalize(row), Normalizer().transform(row))]
    wide = float(np.linalg.norm(normalize(row.astype(np.float32))))
    cosine = float(cosine_similarity(row, unit[None])[0, 0])
    print(f"length {length}: normalised {lengths[0]:.4f}; as float32 {wide:.4f}; cosine_similarity {cosine:.4f}")
    assert np.allclose(lengths, expected, rtol=0.01, atol=0) and abs(wide - 1) < 0.01 and cosine > 0.99
EOF
