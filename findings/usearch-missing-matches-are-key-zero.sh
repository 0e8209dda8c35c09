#!/usr/bin/env bash
# USearch: a batch search that finds fewer than k neighbours names key 0 for the rest, whether or not it exists
#
# Expected: The places of neighbours that do not exist hold something that cannot be a key, as FAISS writes -1, or
# the call fails, as in hnswlib. Searching for one vector and for a batch give the same neighbours.
#
# What happens: One vector gets a short answer. In a batch, the arrays are filled up with key 0 and distance NaN.
# Key 0 is a key like any other, and usually the first picture. Code that joins `keys` to a table, counts votes or
# drops rows by `distance > limit` (NaN is never greater) attributes matches to that picture. Only `counts` says how
# many are real.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check usearch==2.26.6 numpy==2.4.6

venv/bin/python - <<'EOF'
import importlib.metadata

import numpy as np
from usearch.index import Index

print("usearch", importlib.metadata.version("usearch"))
vectors = np.eye(3, 8, dtype=np.float32)
index = Index(ndim=8, metric="cos", dtype="f32")
index.add(np.array([71, 72, 73]), vectors)  # there is no key 0
one, batch = index.search(vectors[0], 5), index.search(vectors, 5)
print("one vector:", one.keys.tolist())
print("batch:", batch.keys.tolist())
print("distances of the first row:", batch.distances[0].tolist())
print("counts:", batch.counts.tolist())
far = batch.distances > 0.5
print("left after dropping distances above 0.5:", batch.keys[0][~far[0]].tolist())
assert len(one.keys) == 3 and set(one.keys.tolist()) == {71, 72, 73}
assert (batch.keys[:, 3:] == 0).all() and np.isnan(batch.distances[:, 3:]).all()
assert batch.counts.tolist() == [3, 3, 3]
assert batch.keys[0][~far[0]].tolist() == [71, 0, 0]
EOF
