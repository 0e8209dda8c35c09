#!/usr/bin/env bash
# FAISS: range search of binary codes leaves out the codes whose distance is the radius
#
# Expected: The PDQ authors call two pictures a match up to distance 31, imagededup and imagehash users write
# `distance <= threshold`, so range_search(codes, 31) returns the codes at 0 … 31.
#
# What happens: All binary indexes return distances below the radius only. For whole-number distances that is one
# bin of the histogram, often the fullest one: here every fourth match. The documented thresholds of perceptual
# hashes need radius + 1. Distances come back as floats from range_search and as integers from search.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check faiss-cpu==1.15.1 numpy==2.4.6

venv/bin/python - <<'EOF'
import importlib.metadata

import faiss
import numpy as np

print("faiss-cpu", importlib.metadata.version("faiss-cpu"))
bits = np.zeros((4, 256), np.uint8)
for row, distance in enumerate((28, 29, 30, 31)):
    bits[row, :distance] = 1
codes, query = np.packbits(bits, axis=1), np.zeros((1, 32), np.uint8)
flat = faiss.IndexBinaryFlat(256)
hashed = faiss.IndexBinaryMultiHash(256, 4, 16)
hashed.nflip = 16
for name, index in {"IndexBinaryFlat": flat, "IndexBinaryMultiHash": hashed}.items():
    index.add(codes)
    found = {radius: index.range_search(query, radius)[1] for radius in (31, 32)}
    nearest = index.search(query, 4)[0]
    for radius, distances in found.items():
        print(name, "radius", radius, "->", sorted(distances.tolist()), distances.dtype)
    print(name, "search ->", sorted(nearest[0].tolist()), nearest.dtype)
    assert sorted(found[31].tolist()) == [28, 29, 30] and sorted(found[32].tolist()) == [28, 29, 30, 31]
    assert found[31].dtype == np.float32 and nearest.dtype == np.int32
EOF
