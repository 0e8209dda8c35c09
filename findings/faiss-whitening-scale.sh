#!/usr/bin/env bash
# FAISS: PCAMatrix(eigen_power=-0.5) whitens to a scale that depends on the number of training vectors
#
# Expected: Whitening gives every component a standard deviation of 1, so that a matrix fitted on
# 100 vectors and one fitted on 10,000 put descriptors on the same scale.
#
# What happens: The eigenvalues are those of the scatter matrix, which is not divided by n. Each
# component gets the standard deviation 1/sqrt(n), where n is also cut to a sample of 1,000 vectors
# per dimension: 10,000 vectors of 8 dimensions count as 8,000. Cosines hide the scale. Dot
# products, distance thresholds and means of descriptors from two fits do not.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check faiss-cpu==1.15.1 numpy==2.4.6

venv/bin/python - <<'EOF'
import faiss
import numpy as np

rng = np.random.default_rng(0)
data = (rng.normal(size=(10_000, 8)) @ rng.normal(size=(8, 8))).astype("float32")
print("faiss", faiss.__version__)
for n, used in ((100, 100), (10_000, 8_000)):
    matrix = faiss.PCAMatrix(8, 4, -0.5)
    matrix.train(data[:n])
    std = matrix.apply(data[:n]).std(axis=0)
    print(f"fitted on {n}: std of the components {std.round(4)}, 1/sqrt({used}) = {used ** -0.5:.4f}")
    assert np.allclose(std, used**-0.5, rtol=0.03)
EOF
