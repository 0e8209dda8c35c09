#!/usr/bin/env bash
# DuckDB: a score that is NULL reaches NumPy as a masked 0, and scikit-learn and FAISS use the 0
#
# Expected: fetchnumpy() gives NaN for a NULL in a column of floats, as df(), Arrow and Polars' to_numpy() do. Code that
# goes on to compute with it gives NaN or raises: scikit-learn refuses NaN, and NaN is no nearest neighbour.
#
# What happens: the column becomes a masked array with 0.0 below the mask. NumPy's own functions respect the mask, but
# np.asarray and everything that begins with it take the bare numbers, without a warning. So a pair that a LEFT JOIN did
# not find has the score 0, above all true negative scores, and average precision is computed instead of refused. Of a
# distance, 0 is the best value there is: the pair that was never compared passes every limit. torch() returns plain
# tensors with those zeros. Without a NULL the same query gives a plain array, so tests on complete data see nothing.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check \
  duckdb==2.0.1 polars==2.1.0 pandas==3.1.1 pyarrow==26.0.1 scikit-learn==1.9.1 numpy==2.4.6 faiss-cpu==1.15.1

venv/bin/python -W error - <<'EOF_PYTHON'
from importlib.metadata import version

import duckdb
import faiss
import numpy as np
from sklearn.metrics import average_precision_score

print(*(f"{name} {version(name)}" for name in ("duckdb", "polars", "pandas", "scikit-learn", "numpy", "faiss-cpu")))
duckdb.sql("CREATE TABLE pairs AS SELECT i AS pair, i < 3 AS copy FROM range(7) t(i)")
duckdb.sql("""CREATE TABLE scored AS SELECT * FROM
    (VALUES (0, 0.9), (1, 0.8), (3, -0.2), (4, -0.3), (5, -0.4), (6, -0.5)) t(pair, cosine)""")  # pair 2 is missing
query = "SELECT copy, cosine::DOUBLE AS cosine FROM pairs LEFT JOIN scored USING (pair) ORDER BY pair"
columns = duckdb.sql(query).fetchnumpy()
bare = np.asarray(columns["cosine"])
others = {
    "pandas": duckdb.sql(query).df()["cosine"].to_numpy(),
    "polars": duckdb.sql(query).pl()["cosine"].to_numpy(),
    "arrow": duckdb.sql(query).to_arrow_table()["cosine"].to_numpy(),
}
print("fetchnumpy:", type(columns["cosine"]).__name__, columns["cosine"].tolist(), "np.asarray:", bare.tolist())
for name, values in others.items():
    print(f"{name}: {values.tolist()}")
precision = average_precision_score(columns["copy"], columns["cosine"])
refused = []
for name, values in others.items():
    try:
        average_precision_score(columns["copy"], values)
    except ValueError as error:
        refused.append(name)
        print(f"scikit-learn, {name}: {str(error).splitlines()[0]}")
print(f"scikit-learn, fetchnumpy: average precision {precision}")
query = "SELECT (1 - cosine)::DOUBLE AS distance FROM pairs LEFT JOIN scored USING (pair) ORDER BY pair"
distances = duckdb.sql(query).fetchnumpy()["distance"]
index = faiss.IndexFlatL2(1)
index.add(distances[:, None].astype(np.float32))
nearest = index.search(np.zeros((1, 1), np.float32), 1)[1][0, 0]
after = np.argmin(np.asarray(distances))
print("distances", distances.round(2).tolist())
print(f"smallest: np.argmin {np.argmin(distances)}, after np.asarray {after}, faiss {nearest}")
complete = duckdb.sql("SELECT cosine::DOUBLE AS cosine FROM scored").fetchnumpy()["cosine"]
assert type(complete) is np.ndarray and isinstance(columns["cosine"], np.ma.MaskedArray)
assert bare[2] == 0 and precision == 1 and refused == list(others)
assert all(np.isnan(values[2]) for values in others.values())
assert np.argmin(distances) == 0 and after == nearest == 2
EOF_PYTHON
