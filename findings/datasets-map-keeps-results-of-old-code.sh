#!/usr/bin/env bash
# datasets: after an imported function was changed, `map` still returns the results of the old one
#
# Expected: map caches its result under a fingerprint of the function. If the code of the function changes, it runs
# again, as it does for a function in the script itself.
#
# What happens: A function from an imported module goes into the fingerprint by its name only, also if a function or
# lambda in the script calls it. After describe.py was edited (another normalisation, a fixed bug), the same script
# prints the descriptors of the old version, in a new process too. There is no message. Only what is written in the
# script is compared by content; load_from_cache_file=False runs everything again.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check datasets==5.2.0
export HF_HOME="$folder/cache" HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE=1

printf '{"x": 1}\n{"x": 2}\n' > rows.json
script() {
  cat <<EOF
import importlib.metadata
import sys

import datasets

sys.path.insert(0, ".")
import describe

datasets.disable_progress_bars()
rows = datasets.load_dataset("json", data_files="rows.json", split="train")


def in_script(row):
    return {"y": row["x"] * $1}


found = {
    "in the script": rows.map(in_script),
    "imported": rows.map(describe.imported),
    "called by a lambda": rows.map(lambda row: describe.imported(row)),
    "imported, without the cache": rows.map(describe.imported, load_from_cache_file=False),
}
print("datasets", importlib.metadata.version("datasets"), "after the change" if $1 > 1 else "before")
for name, result in found.items():
    print(f"  {name:28} {result['y'][:]}")
    stale = $1 > 1 and name in ("imported", "called by a lambda")
    assert result["y"][:] == ([1, 2] if stale else [$1, 2 * $1]), name
EOF
}
for factor in 1 100; do
  printf 'def imported(row):\n    return {"y": row["x"] * %s}\n' "$factor" > describe.py
  script "$factor" > run.py
  venv/bin/python run.py
done
