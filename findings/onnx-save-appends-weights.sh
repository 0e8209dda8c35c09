#!/usr/bin/env bash
# onnx: saving again with external data appends to the weights file, and the graph does not identify the weights
#
# Expected: onnx.save_model with save_as_external_data=True replaces m.onnx and m.data. Two models
# with different weights have different m.onnx files.
#
# What happens: onnx appends to the data file: after three saves of a 16 KiB model it has 48 KiB,
# and only the last third is used. The graph holds only an offset into that file. So the sha256 of
# m.onnx tells how often the model was saved, not what it contains. Saved once into fresh folders,
# two models whose weights all differ have byte-equal m.onnx files.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6

venv/bin/python - <<'EOF'
import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save(seed, folder):
    weights = np.random.default_rng(seed).normal(size=(64, 64)).astype("float32")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])],
        [numpy_helper.from_array(weights, "w")],
    )
    Path(folder).mkdir(exist_ok=True)
    onnx.save_model(helper.make_model(graph), f"{folder}/m.onnx", save_as_external_data=True,
                    location="m.data", size_threshold=0)
    digest = hashlib.sha256(Path(folder, "m.onnx").read_bytes()).hexdigest()[:12]
    print(f"{folder}, weights {seed}: m.onnx {digest}, m.data {Path(folder, 'm.data').stat().st_size} bytes")
    return digest, Path(folder, "m.data").stat().st_size


print("onnx", onnx.__version__)
again = [save(0, "again"), save(0, "again"), save(0, "again")]
fresh = [save(1, "first"), save(2, "second")]
assert [size for _, size in again] == [16384, 32768, 49152] and len({digest for digest, _ in again}) == 3
assert fresh[0] == fresh[1]
EOF
