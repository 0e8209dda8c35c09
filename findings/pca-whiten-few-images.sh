#!/usr/bin/env bash
# scikit-learn: PCA(whiten=True) on as many images as components turns rounding noise into a feature
#
# Expected: With 50 training vectors of 256 dimensions, PCA keeps 50 whitened components, all of
# about unit scale on new data.
#
# What happens: 50 centred points span only 49 dimensions. The 50th component has a variance of
# about 1e-30, pure rounding noise, and whitening divides by its square root. On the training
# vectors its standard deviation is about 1 like all others, so a check on them shows nothing. On
# new vectors it is about 1e14, and it alone decides every cosine: unrelated vectors get +1 or -1.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6

venv/bin/python - <<'EOF'
import numpy as np
import sklearn
from sklearn.decomposition import PCA

rng = np.random.default_rng(0)
pca = PCA(whiten=True).fit(train := rng.normal(size=(50, 256)))
new = pca.transform(rng.normal(size=(200, 256)))
print("scikit-learn", sklearn.__version__)
print("variance of the last two components:", pca.explained_variance_[-2:])
print("std on the training vectors:", pca.transform(train).std(axis=0)[-3:].round(3))
print("std on new vectors:", new.std(axis=0)[-3:])
unit = new / np.linalg.norm(new, axis=1, keepdims=True)
cosine = (unit @ unit.T)[np.triu_indices(200, 1)]
share = (np.abs(cosine) > 0.999).mean()
print(f"pairs of unrelated vectors with |cosine| > 0.999: {share:.1%}")
assert pca.n_components_ == 50 and 0.1 < pca.transform(train).std(axis=0)[-1] < 10
assert new.std(axis=0)[-1] > 1e9 and share > 0.95
EOF
