#!/usr/bin/env bash
# hnswlib and FAISS: a picture that is stored many times makes HNSW lose other pictures
#
# Expected: Equal vectors in an HNSW index cost some recall among themselves: which of them is returned is arbitrary.
# Other vectors are found as before, above all when the query is exactly the stored vector, and a larger `ef` repairs
# what is missing.
#
# What happens: 4,000 different vectors are all found by themselves. After 2,000 equal ones were mixed in, as a web
# crawl has of "image not available", hnswlib no longer finds 10 to 65 % of the different ones and FAISS about a tenth, with
# the same settings. Eight times the `ef` brings hardly any of hnswlib's back. The equal vectors fill each other's lists
# of neighbours, so the graph falls apart, and what was linked through them cannot be reached. Nothing warns.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check hnswlib==0.8.0 faiss-cpu==1.15.1 numpy==2.4.6

venv/bin/python - <<'EOF'
import importlib.metadata

import faiss
import hnswlib
import numpy as np

print("hnswlib", importlib.metadata.version("hnswlib"), "faiss", faiss.__version__)
faiss.omp_set_num_threads(1)


def unit(rng, count):
    vectors = rng.standard_normal((count, 64)).astype("float32")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def found(vectors, queries, ef=64):
    """Share of the queries (row numbers) whose best hit is their own row: (hnswlib, faiss)."""
    space = hnswlib.Index("cosine", 64)
    space.init_index(len(vectors), M=16, ef_construction=200, random_seed=100)
    space.add_items(vectors, num_threads=1)
    space.set_ef(ef)
    index = faiss.IndexHNSWFlat(64, 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = 200, ef
    index.add(vectors)
    hits = space.knn_query(vectors[queries], 1)[0], index.search(vectors[queries], 1)[1]
    return tuple(float((ids[:, 0] == queries).mean()) for ids in hits)


print("share found by themselves (hnswlib, faiss): alone · with 2,000 equal vectors · the same with ef = 512")
for seed in range(3):
    rng = np.random.default_rng(seed)
    different, placeholder = unit(rng, 4_000), unit(rng, 1)
    order = rng.permutation(6_000)
    mixed = np.concatenate([different, np.repeat(placeholder, 2_000, axis=0)])[order]
    queries = np.flatnonzero(order < 4_000)[:1_000]
    alone, crowded, wide = found(different, np.arange(1_000)), found(mixed, queries), found(mixed, queries, 512)
    print(f"seed {seed}:", alone, crowded, wide)
    assert min(alone) > 0.99 and max(crowded) < 0.97 and wide[0] < 0.97
EOF
