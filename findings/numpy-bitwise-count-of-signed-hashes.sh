#!/usr/bin/env bash
# numpy: np.bitwise_count(a ^ b) is not the Hamming distance of hashes that are stored as int64
#
# Databases, Parquet files and csv files mostly hold 64-bit perceptual hashes as signed integers.
#
# Expected: XOR sets the bits in which two hashes differ, and counting them gives the distance, whatever the type is
# called. DuckDB's bit_count and polars' bitwise_count_ones do this for signed integers too.
#
# What happens: np.bitwise_count counts the bits of the *absolute value*. When the top bits differ, the XOR is
# negative: two hashes that differ in all 64 bits have distance 1 and pass every threshold for near duplicates, and two
# that differ in two bits have distance 63. Nearly half of all pairs are wrong. int.bit_count() of Python's own
# numbers does the same. Viewed as uint64, the distances are right.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check numpy==2.4.6 duckdb==2.0.1 polars==2.1.0

venv/bin/python - <<'EOF_PYTHON'
from importlib.metadata import version

import duckdb
import numpy as np
import polars as pl

print(*(f"{name} {version(name)}" for name in ("numpy", "duckdb", "polars")))
query = 0x1F3C8E712B64D01B
others = {
    "one bit": query ^ 1,
    "the top bit and another": query ^ (1 << 63) ^ 1,
    "all bits": query ^ (2**64 - 1),
}
unsigned = np.array(list(others.values()), np.uint64)
signed, signed_query = unsigned.view(np.int64), np.array([query], np.uint64).view(np.int64)

right = [(query ^ other).bit_count() for other in others.values()]
by_numpy = np.bitwise_count(signed ^ signed_query).tolist()
viewed = np.bitwise_count((signed ^ signed_query).view(np.uint64)).tolist()
numbers = ", ".join(f"({number}::bigint)" for number in signed)
by_duckdb = duckdb.sql(f"select bit_count(xor(col0, {query}::bigint)) from (values {numbers})").fetchall()
by_polars = pl.Series(signed).to_frame("h").select((pl.col("h") ^ query).bitwise_count_ones())["h"].to_list()
print(f"{'differ in':25}{'distance':>10}{'numpy int64':>13}{'DuckDB':>8}{'polars':>8}")
for name, *found in zip(others, right, by_numpy, [row[0] for row in by_duckdb], by_polars, strict=True):
    print(f"{name:25}{found[0]:10}{found[1]:13}{found[2]:8}{found[3]:8}")
assert right == viewed == by_polars == [row[0] for row in by_duckdb] == [1, 2, 64]
assert by_numpy == [1, 63, 1] == [int(bits).bit_count() for bits in signed ^ signed_query]

drawn = np.random.default_rng(0).integers(0, 2**64, (2, 100_000), np.uint64)
wrong = np.bitwise_count(drawn[0] ^ drawn[1]) != np.bitwise_count(drawn.view(np.int64)[0] ^ drawn.view(np.int64)[1])
print(f"100,000 random pairs: {wrong.mean():.0%} have another distance as int64")
assert 0.4 < wrong.mean() < 0.5
EOF_PYTHON
