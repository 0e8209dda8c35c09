#!/usr/bin/env bash
# OpenCV 5: cv2.add of two vectors of three numbers returns four numbers
#
# Expected: OpenCV 5 has one-dimensional arrays, so element-wise functions of two arrays of shape
# (n,) return (n,).
#
# What happens: They do for five numbers or more. Vectors of one to four numbers are treated as
# scalars: add, subtract, multiply and absdiff return shape (4, 1), padded with zeros, while max
# keeps the shape. So a mean colour (3) or a box (4) changes its shape, a descriptor does not, and
# tests with long vectors pass.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check opencv-python-headless==5.0.0.93 numpy==2.4.6

venv/bin/python - <<'EOF'
import cv2
import numpy as np

print("OpenCV", cv2.__version__)
for n in range(1, 7):
    v, w = np.arange(1.0, n + 1, dtype="float32"), np.full(n, 10, dtype="float32")
    results = {f.__name__: f(v, w) for f in (cv2.add, cv2.subtract, cv2.multiply, cv2.absdiff, cv2.max)}
    print(n, {name: result.shape for name, result in results.items()}, results["add"].ravel())
    short = [results[name] for name in ("add", "subtract", "multiply", "absdiff")]
    assert all(result.shape == ((4, 1) if n <= 4 else (n,)) for result in short)
    assert results["max"].shape == (n,) and np.array_equal(results["add"].ravel()[:n], v + w)
EOF
