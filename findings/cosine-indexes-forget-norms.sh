#!/usr/bin/env bash
# hnswlib, Voyager, Qdrant: what a cosine index gives back is not the vector that was added
#
# Expected: "cosine" says how vectors are compared. The vectors themselves come back as they went in, as from USearch,
# and as from FAISS, where the caller normalises.
#
# What happens: hnswlib, Voyager and qdrant-client (also in its local mode) store the vector divided by its norm.
# get_items, get_vector and retrieve return that, without a warning. A norm that means something (the content of a
# picture in ASL, the confidence in MagFace) is 1 for everything that is read back from the index.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check hnswlib==0.8.0 voyager==2.2.3 qdrant-client==1.20.0 usearch==2.26.6 numpy==2.4.6

venv/bin/python - <<'EOF'
import importlib.metadata

import hnswlib
import numpy as np
import voyager
from qdrant_client import QdrantClient, models
from usearch.index import Index

vector = np.arange(1, 9, dtype=np.float32)
norms = {}

small = hnswlib.Index("cosine", 8)
small.init_index(1)
small.add_items(vector[None], [0])
norms["hnswlib"] = np.linalg.norm(small.get_items([0])[0])

tree = voyager.Index(voyager.Space.Cosine, num_dimensions=8)
tree.add_item(vector)
norms["voyager"] = np.linalg.norm(tree.get_vector(0))

client = QdrantClient(":memory:")
client.create_collection("c", vectors_config=models.VectorParams(size=8, distance=models.Distance.COSINE))
client.upsert("c", [models.PointStruct(id=1, vector=vector.tolist())])
norms["qdrant-client"] = np.linalg.norm(client.retrieve("c", [1], with_vectors=True)[0].vector)

other = Index(ndim=8, metric="cos", dtype="f32")
other.add(0, vector)
norms["usearch"] = np.linalg.norm(other.get(0))

print(f"norm of the vector that was added: {np.linalg.norm(vector):.3f}")
for package, norm in norms.items():
    print(f"{package} {importlib.metadata.version(package)}: {norm:.3f}")
lost = [package for package, norm in norms.items() if abs(norm - 1) < 1e-5]
assert lost == ["hnswlib", "voyager", "qdrant-client"]
assert abs(norms["usearch"] - np.linalg.norm(vector)) < 1e-5
EOF
