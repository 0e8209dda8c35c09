#!/usr/bin/env bash
# safetensors: a NumPy matrix in column order comes back with its numbers in other places
#
# Expected: load(save({"w": matrix}))["w"] equals the matrix. If the library cannot store an order of memory, it copies,
# as numpy.save does, or raises, as safetensors.torch does.
#
# What happens: safetensors.numpy writes the memory as it is and notes the shape. A matrix in column order has the right
# shape, type and set of values afterwards, and wrong rows. Nobody needs to transpose for that: scipy.linalg returns such
# matrices. A whitening saved this way whitens nothing any more. "Contiguous and dense", as the documentation asks, they
# are: flags.f_contiguous is true. A slice with a step is written wrongly too.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6 scipy==1.17.1

venv/bin/python -W error - <<'EOF'
import importlib.metadata

import numpy as np
import scipy.linalg
from safetensors.numpy import load, load_file, save, save_file

for name in ("safetensors", "numpy", "scipy"):
    print(name, importlib.metadata.version(name))
small = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
print("saved:", small.T.tolist(), "loaded:", load(save({"w": small.T}))["w"].tolist())

rng = np.random.default_rng(0)
vectors = rng.normal(size=(500, 16)) @ rng.normal(size=(16, 16))
values, directions = scipy.linalg.eigh(np.cov(vectors.T))
whitening = directions / np.sqrt(values)
print("whitening matrix: C order", whitening.flags.c_contiguous, "- column order", whitening.flags.f_contiguous)
save_file({"w": whitening}, "whitening.safetensors")
loaded = load_file("whitening.safetensors")["w"]
np.save("whitening.npy", whitening)


def spread(matrix):
    return np.linalg.eigvalsh(np.cov((vectors @ matrix).T))


for name, matrix in (("as computed", whitening), ("numpy.save", np.load("whitening.npy")), ("safetensors", loaded)):
    print(f"{name:12} variances after whitening {spread(matrix).min():.2f} ... {spread(matrix).max():.2f}")
assert np.allclose(spread(whitening), 1) and np.array_equal(np.load("whitening.npy"), whitening)
assert loaded.shape == whitening.shape and not np.array_equal(loaded, whitening)
assert np.array_equal(np.sort(loaded, None), np.sort(whitening, None)) and np.array_equal(loaded, whitening.T)
copied = load(save({"w": np.ascontiguousarray(whitening)}))["w"]
every_second = load(save({"w": small[:, ::2]}))["w"]
print("np.ascontiguousarray first:", np.array_equal(copied, whitening), "- [:, ::2]:", small[:, ::2].tolist(), every_second.tolist())
assert np.array_equal(copied, whitening) and not np.array_equal(every_second, small[:, ::2])
EOF
