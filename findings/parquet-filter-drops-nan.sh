#!/usr/bin/env bash
# pyarrow and DuckDB: the rows that a parquet filter returns depend on the row group size
#
# Expected: The row groups of a file change the speed, never the result. NaN != 1 is true, so a
# filter x != 1 keeps the NaN row.
#
# What happens: The statistics of a row group do not include NaN. In a row group of [1, NaN] minimum
# and maximum are both 1, so the filter x != 1 skips the group with its NaN. In a group of [1, NaN,
# 1, 2] the NaN row is returned. Writing the same table with a different row_group_size, or
# filtering after reading, changes the result. polars returns the NaN row both times.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check pyarrow==26.0.1 duckdb==2.0.1 polars==2.1.0 numpy==2.4.6

venv/bin/python - <<'EOF'
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

table = pa.table({"x": [1.0, float("nan"), 1.0, 2.0]})
print("pyarrow", pa.__version__, "duckdb", duckdb.__version__, "polars", pl.__version__)
rows = {}
for size in (2, 4):
    pq.write_table(table, "x.parquet", row_group_size=size)
    rows["pyarrow", size] = pq.read_table("x.parquet", filters=pc.field("x") != 1.0).num_rows
    rows["duckdb", size] = duckdb.sql("select count(*) from 'x.parquet' where x <> 1").fetchall()[0][0]
    rows["polars", size] = pl.scan_parquet("x.parquet").filter(pl.col("x") != 1.0).collect().height
rows["pyarrow", "in memory"] = table.filter(pc.field("x") != 1.0).num_rows
for (tool, size), count in rows.items():
    print(f"{tool}, row groups of {size}: {count} rows with x != 1")
assert [rows["pyarrow", s] for s in (2, 4, "in memory")] == [1, 2, 2]
assert [rows["duckdb", s] for s in (2, 4)] == [1, 2] and [rows["polars", s] for s in (2, 4)] == [2, 2]
EOF
