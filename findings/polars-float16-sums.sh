#!/usr/bin/env bash
# Polars: the sum of one float16 column is 10,000, and 256 if the same rows are a group
#
# Expected: Polars has a Float16 type, which is how descriptors are usually stored. A sum over a Float16 column is the
# same with and without a group, and in the streaming engine: either all of them add up in a wider type, or none does.
#
# What happens: `Series.sum` adds up in a wider type and is right. The same column as the only group of `group_by`, and in
# the streaming engine, stops growing at 256, where float16 can no longer add 0.1: all later rows are lost. Depending on
# how the rows were cut into pieces we also saw 9,992. The means of the same groups are right, so a check of the mean
# does not find it. There is no warning.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check polars==2.1.0

venv/bin/python - <<'EOF'
import polars as pl

print("polars", pl.__version__)
scores = pl.Series("score", [0.1] * 100_000, dtype=pl.Float16)
table = pl.DataFrame({"detector": ["A"] * 100_000, "score": scores})
total, mean = pl.col("score").sum(), pl.col("score").mean().alias("mean")
grouped = table.group_by("detector").agg(total, mean)
lazy = table.lazy().group_by("detector").agg(total, mean).collect(engine="streaming")
wide = table.group_by("detector").agg(pl.col("score").cast(pl.Float32).sum())
found = [table["score"].sum(), grouped["score"][0], lazy["score"][0], wide["score"][0]]
for name, value in zip(("Series.sum", "group_by", "group_by, streaming", "cast to Float32 first"), found, strict=True):
    print(f"{name}: {value}")
print("means:", grouped["mean"][0], lazy["mean"][0])
assert found[0] == 10_000 and abs(found[3] - 9_998) < 1
assert found[1] < 9_998 and found[2] < 5_000
assert abs(grouped["mean"][0] - 0.1) < 1e-4 and abs(lazy["mean"][0] - 0.1) < 1e-4
EOF
