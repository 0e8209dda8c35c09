#!/usr/bin/env bash
# USearch: with dtype="i8" every vector gets the same length, also for Euclidean distance and inner product
#
# Expected: dtype says how precisely the numbers are stored. int8 costs digits: "l2sq" and "ip" are approximate, in about
# the unit of the vectors, as they are with f16 or e4m3 (8 bits too). If a metric cannot work with int8, it is refused.
#
# What happens: each vector is divided by its own norm before it is stored, and each query too; the norm is forgotten.
# A vector, its double and its hundredth are at Euclidean distance 0 of one another, and all three have the same inner
# product. Every metric ranks by angle. Where the norm carries information (raw CNN features, ASL, MagFace), the nearest
# neighbour becomes another one: of 200 here, e4m3 finds all and int8 32, in an exact search. Nothing warns. For unit
# vectors the ranking is right, and only the unit is odd: the inner product of a vector with itself is about 15,000.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check usearch==2.26.6 numpy==2.4.6

venv/bin/python -W error - <<'EOF_PYTHON'
from importlib.metadata import version

import numpy as np
from usearch.index import Index

print("usearch", version("usearch"), "numpy", version("numpy"))
rng = np.random.default_rng(0)
one = rng.normal(size=64).astype(np.float32)
scales = np.array([[1], [2], [0.01]], np.float32)
# 2,000 features: 200 directions, each ten times with a norm from about 0.5 to 5; each query is a feature with noise
directions = rng.normal(size=(200, 1, 64))
directions /= np.linalg.norm(directions, axis=2, keepdims=True)
norms = np.linspace(0.5, 5, 10)[None, :, None]
features = ((directions + rng.normal(scale=0.0005, size=(200, 10, 64))) * norms).reshape(-1, 64).astype(np.float32)
wanted = np.arange(200) * 10 + np.arange(200) % 10
queries = features[wanted] + rng.normal(scale=0.01, size=(200, 64)).astype(np.float32)
seen = {}
for dtype in ("f32", "f16", "e4m3", "i8"):
    for metric in ("l2sq", "ip"):
        index = Index(ndim=64, metric=metric, dtype=dtype)
        index.add(np.arange(3), one * scales)
        found = index.search(one, 3)
        distances = dict(zip(found.keys.tolist(), found.distances.tolist(), strict=True))
        seen[dtype, metric] = [distances[key] for key in range(3)]
    index = Index(ndim=64, metric="l2sq", dtype=dtype)
    index.add(np.arange(2_000), features)
    keys = index.search(queries, 1, exact=True).keys
    seen[dtype, "hits"] = float((np.ravel(keys) == wanted).mean())
    print(
        f"{dtype}: distance of v to v, 2v and v/100: l2sq {np.round(seen[dtype, 'l2sq'], 2)}, "
        f"ip {np.round(seen[dtype, 'ip'], 2)}; nearest neighbour right for {seen[dtype, 'hits']:.0%}"
    )
assert max(seen["i8", "l2sq"]) < 20 and np.ptp(seen["i8", "ip"]) < 200 and seen["i8", "hits"] < 0.5
for dtype in ("f32", "f16", "e4m3"):
    assert seen[dtype, "l2sq"][1] > 50 and np.ptp(seen[dtype, "ip"]) > 100 and seen[dtype, "hits"] > 0.9
EOF_PYTHON
