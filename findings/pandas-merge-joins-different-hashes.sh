#!/usr/bin/env bash
# pandas, numpy: a merge of 64-bit hashes joins hashes that differ, if one column is signed
#
# One table has perceptual hashes as uint64, the other one as int64, because a database or a csv without large values
# gave that type.
#
# Expected: pd.merge compares whole numbers, or refuses the two types as Arrow's join does, or finds a common exact
# type as polars and DuckDB do. np.intersect1d and np.setdiff1d agree with each other.
#
# What happens: if the keys of both tables are unique and sorted, pd.merge finds nothing, which is right. In another
# order it compares both columns as float64, which has 53 bits: hashes that differ in their lowest bits are joined
# without a warning, and the key of the result is that of the left table, so nothing looks wrong. With two uint64
# columns the merge is exact in every order. np.intersect1d finds a common hash too, and returns it as float64, while
# np.setdiff1d, np.isin and Series.isin say of the same arrays that they have nothing in common.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check \
  pandas==3.1.1 numpy==2.4.6 polars==2.1.0 duckdb==2.0.1 pyarrow==26.0.1

venv/bin/python -W error - <<'EOF_PYTHON'
from importlib.metadata import version

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

print(*(f"{name} {version(name)}" for name in ("pandas", "numpy", "polars", "duckdb", "pyarrow")))
stored = np.array([0x1F3C8E712B64D01A, 0x60C3718ED49B2FE5, 0x9F3C8E712B64D01A], np.uint64)
asked = np.array([0x1F3C8E712B64D011], np.int64)
print("stored (uint64):", [f"{h:016x}" for h in stored], " asked (int64):", f"{asked[0]:016x}")
stored_table = pd.DataFrame({"hash": stored, "image": ["a", "b", "c"]})
asked_table = pd.DataFrame({"hash": asked, "query": ["q"]})

by_hash = stored_table.merge(asked_table, on="hash")
stored_table = stored_table[::-1]
merged = stored_table.merge(asked_table, on="hash")
exact = stored_table.merge(asked_table.astype({"hash": np.uint64}), on="hash")
by_polars = pl.from_pandas(stored_table.reset_index(drop=True)).join(pl.from_pandas(asked_table), on="hash")
by_duckdb = duckdb.sql("select image, query from stored_table join asked_table using (hash)").fetchall()
print("rows of the merge: sorted", by_hash["image"].tolist(), " reversed", merged["image"].tolist())
print("both uint64:", len(exact), " polars:", len(by_polars), " DuckDB:", len(by_duckdb))
assert len(by_hash) == 0
assert merged["image"].tolist() == ["a"] and merged["hash"].dtype == np.uint64
assert len(exact) == len(by_polars) == len(by_duckdb) == 0
try:
    pa.table({"hash": stored}).join(pa.table({"hash": asked}), "hash")
    raise SystemExit("Arrow joins the two types")
except pa.ArrowInvalid as error:
    print("Arrow:", str(error)[:60], "…")

common, missing = np.intersect1d(stored, asked), np.setdiff1d(stored, asked)
print("np.intersect1d:", common, " np.setdiff1d leaves", len(missing), "of", len(stored))
assert common.dtype == np.float64 and len(common) and len(missing) == len(stored)
assert not np.isin(stored, asked).any() and not pd.Series(stored).isin(pd.Series(asked)).any()
EOF_PYTHON
