#!/usr/bin/env bash
# SciPy: some distances of two uint8 vectors are wrong, others are right, and cdist of the same two is right
#
# Expected: scipy.spatial.distance.euclidean(a, b) is cdist([a], [b], "euclidean"), also for thumbnails or quantised
# descriptors as uint8. Either all functions convert whole numbers to float64, or all of them overflow.
#
# What happens: cdist and pdist convert. sqeuclidean, correlation, braycurtis and canberra convert too. euclidean,
# minkowski, cityblock and chebyshev subtract as uint8, where 3 − 5 is 254, and cosine multiplies as uint8. Two thumbnails
# that differ by at most 6 in each pixel get a Euclidean distance of over 1,000 instead of 30; euclidean is not the root
# of sqeuclidean. Cosine errs the other way: most pairs of unrelated vectors get exactly 0, "identical". Cosine warns of
# an overflow, in most cases; the others never do. int8 has the same.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6

venv/bin/python - <<'EOF_PYTHON'
import warnings
from importlib.metadata import version

import numpy as np
from scipy.spatial import distance

print("scipy", version("scipy"), "numpy", version("numpy"))
rng = np.random.default_rng(0)
thumbnail = rng.integers(0, 256, 64, dtype=np.uint8)
brighter = np.clip(thumbnail + rng.integers(-6, 7, 64), 0, 255).astype(np.uint8)
right, wrong = [], []
for name in ("sqeuclidean", "correlation", "braycurtis", "canberra", "euclidean", "minkowski", "cityblock", "chebyshev"):
    with warnings.catch_warnings(action="error"):
        one = getattr(distance, name)(thumbnail, brighter)
    table = distance.cdist([thumbnail], [brighter], name)[0, 0]
    (right if np.isclose(one, table) else wrong).append(name)
    print(f"{name}: {one:.4g}, by cdist {table:.4g}")

cosines, quiet = [], 0
for _ in range(1_000):
    a, b = rng.integers(0, 256, (2, 64), dtype=np.uint8)
    with warnings.catch_warnings(record=True, action="always") as caught:
        cosines.append((distance.cosine(a, b), distance.cdist([a], [b], "cosine")[0, 0]))
    quiet += not caught
cosines = np.array(cosines)
zeros = float((cosines[:, 0] == 0).mean())
print(f"cosine of 1,000 unrelated pairs, by cdist: {cosines[:, 1].min():.2f} to {cosines[:, 1].max():.2f}")
print(f"cosine of the same pairs: exactly 0 for {zeros:.0%}; {quiet} pairs without a warning")
int8 = rng.integers(-128, 128, (2, 64)).astype(np.int8)
print(f"int8: euclidean {distance.euclidean(*int8):.0f}, by cdist {distance.cdist(int8[:1], int8[1:])[0, 0]:.0f}")
assert right == ["sqeuclidean", "correlation", "braycurtis", "canberra"]
assert wrong == ["euclidean", "minkowski", "cityblock", "chebyshev"]
assert distance.euclidean(thumbnail, brighter) > 1_000 and distance.cdist([thumbnail], [brighter])[0, 0] < 30
assert zeros > 0.9 and cosines[:, 1].min() > 0.1
EOF_PYTHON
