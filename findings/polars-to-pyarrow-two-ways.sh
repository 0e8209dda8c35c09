#!/usr/bin/env bash
# polars and pyarrow: pa.table(df) gives columns from which pyarrow cannot take rows; df.to_arrow() does not
#
# Expected: Both ways to convert a polars frame to a pyarrow table give equal tables that pyarrow
# can use.
#
# What happens: df.to_arrow() gives large_string columns. pa.table(df), through the Arrow C stream,
# gives string_view columns. pyarrow can write those to parquet, read them back as views and slice
# them, but has no kernel to take, filter or sort them. So a column of ids written by one program is
# valid parquet that makes the next one fail at its first lookup.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check polars==2.1.0 pyarrow==26.0.1

venv/bin/python - <<'EOF'
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

frame = pl.DataFrame({"image_id": ["a", "b", "c"]})
print("polars", pl.__version__, "pyarrow", pa.__version__)
pq.write_table(pa.table(frame), "ids.parquet")
tables = {"df.to_arrow()": frame.to_arrow(), "pa.table(df)": pa.table(frame), "read back": pq.read_table("ids.parquet")}
seen = {}
for name, table in tables.items():
    seen[name] = {"type": str(table.schema.types[0])}
    for verb, use in {"take": lambda t: t.take([0]), "filter": lambda t: t.filter(pa.array([True, False, True])),
                      "sort": lambda t: t.sort_by("image_id")}.items():
        try:
            use(table)
            seen[name][verb] = "ok"
        except (pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            seen[name][verb] = type(error).__name__
    print(name, seen[name])
assert seen["df.to_arrow()"] == {"type": "large_string", "take": "ok", "filter": "ok", "sort": "ok"}
for name in ("pa.table(df)", "read back"):
    assert seen[name]["type"] == "string_view" and "ok" not in list(seen[name].values())[1:]
EOF
