#!/usr/bin/env bash
# scikit-learn and scipy: exact duplicates are torn apart when a graph of distances is made symmetric
#
# Near duplicates are often grouped like this: neighbours of each picture as a sparse matrix of distances (scikit-
# learn's kneighbors_graph or radius_neighbors_graph), made symmetric, then DBSCAN with metric="precomputed" or
# connected_components.
#
# Expected: pictures at distance 0 end in one group before all others.
#
# What happens: scikit-learn stores an edge of length 0 as an explicit zero, and DBSCAN and connected_components count
# it as an edge. But scipy's sum, maximum and minimum of two sparse matrices, and the product with a comparison, leave
# out zeros of their result. So (graph + graph.T) / 2 or graph.maximum(graph.T) removes exactly the edges between
# identical pictures. DBSCAN calls them noise, connected_components singles, and farther neighbours stay together.
# Products with a number, slices and copies keep the edges.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6

venv/bin/python -W error - <<'EOF_PYTHON'
from importlib.metadata import version

import numpy as np
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import DBSCAN
from sklearn.neighbors import kneighbors_graph, radius_neighbors_graph

print(*(f"{name} {version(name)}" for name in ("scikit-learn", "scipy", "numpy")))
pictures = np.array([[0, 0], [0.1, 0], [5, 5], [5, 5], [9, 9]])
print("vectors:", pictures.tolist())


def groups(graph):
    by_density = DBSCAN(eps=0.5, min_samples=2, metric="precomputed").fit_predict(graph).tolist()
    return by_density, connected_components(graph, directed=False)[1].tolist()


def show(name, graph):
    by_density, by_edges = groups(graph)
    print(f"{name:38} {graph.nnz:2} edges  DBSCAN {by_density}  connected_components {by_edges}")
    return by_density, by_edges


together = ([0, 0, 1, 1, -1], [0, 0, 1, 1, 2])
apart = ([0, 0, -1, -1, -1], [0, 0, 1, 2, 3])
near = radius_neighbors_graph(pictures, 0.5, mode="distance")
assert show("radius_neighbors_graph", near) == together
assert show("graph * 0.5", near * 0.5) == together
assert show("(graph + graph.T) / 2", (near + near.T) / 2) == apart
assert show("graph.maximum(graph.T)", near.maximum(near.T)) == apart
nearest = kneighbors_graph(pictures[:4], 1, mode="distance")
assert show("kneighbors_graph", nearest) == (together[0][:4], together[1][:4])
assert show("kneighbors_graph, maximum", nearest.maximum(nearest.T)) == (apart[0][:4], apart[1][:4])
EOF_PYTHON
