#!/usr/bin/env bash
# datasets: `with_format("numpy")` turns float64 scores into float32, so different scores become equal
#
# Expected: A column declared as float64 arrives as a float64 array. NumPy's own default is float64, and the pandas
# format of the same library keeps the type.
#
# What happens: The NumPy format returns float32, also for a feature that is declared float64, and int64 for uint8.
# Scores that differ after the seventh digit become ties, and the row number decides the ranking: here two pairs
# change places and average precision falls from 1 to 0.5. Only `dtype=` as a further argument keeps float64.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check datasets==5.2.0 numpy==2.4.6 pandas==3.1.1

venv/bin/python - <<'EOF'
import datasets
import numpy as np

datasets.disable_progress_bars()
print("datasets", datasets.__version__)
features = datasets.Features({"score": datasets.Value("float64"), "copy": datasets.Value("uint8")})
rows = {"score": [0.9, 0.9 + 1e-9], "copy": [0, 1]}  # the second pair has the higher score, and it is the copy
data = datasets.Dataset.from_dict(rows, features=features)


def average_precision(scores, copies):
    """Of one relevant pair: 1 / its rank. A stable sort, so equal scores keep the order of the rows."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    return 1 / (1 + int(np.flatnonzero(np.asarray(copies)[order])[0]))


found = {}
for name, view in {
    "python": data,
    "pandas": data.with_format("pandas"),
    "numpy": data.with_format("numpy"),
    "numpy, dtype=float64": data.with_format("numpy", dtype=np.float64),
}.items():
    columns = view[:]
    score, copy = np.asarray(columns["score"]), np.asarray(columns["copy"])
    found[name] = (str(score.dtype), str(copy.dtype), average_precision(score, copy))
    print(name, *found[name])
assert found["pandas"] == ("float64", "uint8", 1)
assert found["numpy"] == ("float32", "int64", 0.5)
assert found["numpy, dtype=float64"][2] == 1
EOF
