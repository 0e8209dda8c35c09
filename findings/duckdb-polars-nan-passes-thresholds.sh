#!/usr/bin/env bash
# DuckDB and Polars: a score that is not a number passes every threshold and is the best match
#
# Expected: A picture without content has a zero vector, so its cosine is NaN. NaN >= 0.9 is false, as in Python, NumPy
# and pandas: the picture matches nothing, and a ranking has it at the end or not at all.
#
# What happens: In both, NaN is greater than every number. "similarity >= 0.9" is true for it, and the descending order
# begins with it, so one such picture is the first match of every query. Written with the distance, the same search has
# it nowhere: NaN is then the largest distance. In Polars the parts do not agree either: filter, sort and top_k say NaN,
# max and arg_max of the same column ignore it. DuckDB's max is NaN.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check duckdb==2.0.1 polars==2.1.0 pandas==3.1.1 pyarrow==26.0.1

venv/bin/python - <<'EOF'
import importlib.metadata

import duckdb
import polars as pl

for name in ("duckdb", "polars", "pandas"):
    print(name, importlib.metadata.version(name))
duckdb.sql(
    """CREATE TABLE scored AS
    SELECT name, array_cosine_similarity(vector, q) AS similarity, array_cosine_distance(vector, q) AS distance
    FROM (VALUES ('match', [0.99, 0.1]::FLOAT[2]), ('other', [0.3, 1]), ('black', [0, 0])) AS pictures(name, vector),
         (SELECT [1, 0]::FLOAT[2] AS q)"""
)


def names(query):
    return [row[0] for row in duckdb.sql(query).fetchall()]


print(duckdb.sql("FROM scored"))
sql = {
    "similarity >= 0.9": sorted(names("SELECT name FROM scored WHERE similarity >= 0.9")),
    "distance <= 0.1": names("SELECT name FROM scored WHERE distance <= 0.1"),
    "by similarity": names("SELECT name FROM scored ORDER BY similarity DESC"),
    "by distance": names("SELECT name FROM scored ORDER BY distance"),
    "best by similarity": names("SELECT arg_max(name, similarity) FROM scored"),
}
for question, answer in sql.items():
    print(f"DuckDB, {question}: {answer}")
assert list(sql.values()) == [
    ["black", "match"], ["match"], ["black", "match", "other"], ["match", "other", "black"], ["black"]
]  # fmt: skip

frame = duckdb.sql("SELECT name, similarity FROM scored ORDER BY name").pl()
score = pl.col("similarity")
found = {
    "filter >= 0.9": frame.filter(score >= 0.9)["name"].to_list(),
    "sort, descending": frame.sort(score, descending=True)["name"].to_list(),
    "top_k(1)": frame.top_k(1, by=score)["name"].to_list(),
    "arg_max": [frame["name"][frame["similarity"].arg_max()]],
}
for question, answer in found.items():
    print(f"Polars, {question}: {answer}")
assert list(found.values()) == [["black", "match"], ["black", "match", "other"], ["black"], ["match"]]

table = frame.to_pandas()
kept = table[table["similarity"] >= 0.9]["name"].tolist()
ranked = table.sort_values("similarity", ascending=False)["name"].tolist()
print(f"pandas, >= 0.9: {kept}; sorted, descending: {ranked}")
assert kept == ["match"] and ranked == ["match", "other", "black"]
EOF
