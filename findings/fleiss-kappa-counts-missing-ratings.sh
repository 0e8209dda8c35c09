#!/usr/bin/env bash
# statsmodels: to aggregate_raters, a rating that is missing is one more category
#
# Expected: In a table of pictures × annotators, NaN means that this annotator did not see this picture. It does not
# count, as in the package krippendorff, or the call is refused: Fleiss' kappa needs equally many ratings per picture.
#
# What happens: NaN becomes a category with its own column, so every row sums to the number of annotators and
# fleiss_kappa accepts the table. Two annotators per picture out of six who always agree have a kappa of about 0,
# as if they guessed. Annotators who never agree score .34 better than they should. Without the last column the
# same table gives 1 and -0.5.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check statsmodels==0.15.0 krippendorff==0.9.0 numpy==2.4.6

venv/bin/python - <<'EOF'
import importlib.metadata

import krippendorff
import numpy as np
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

for package in ("statsmodels", "krippendorff"):
    print(package, importlib.metadata.version(package))
rng = np.random.default_rng(0)
kappas = {}
for agree in (True, False):
    ratings = np.full((300, 6), np.nan)  # pictures × annotators, two of whom see a picture
    for row in ratings:
        first, second = rng.choice(6, 2, replace=False)
        row[first] = rng.integers(3)
        row[second] = row[first] if agree else (row[first] + 1 + rng.integers(2)) % 3
    counts, categories = aggregate_raters(ratings)
    alpha = krippendorff.alpha(ratings.T, level_of_measurement="nominal")
    kappas[agree] = fleiss_kappa(counts), fleiss_kappa(counts[:, :-1]), alpha
    print("always agree" if agree else "never agree", "| categories", categories.tolist())
    print("  kappa %.3f | without the column of NaN %.3f | Krippendorff's alpha %.3f" % kappas[agree])
assert abs(kappas[True][0]) < 0.1 and kappas[True][1] == 1 and kappas[True][2] == 1
assert -0.3 < kappas[False][0] < 0 and kappas[False][1] < -0.45 and kappas[False][2] < -0.45
EOF
