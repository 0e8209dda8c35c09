#!/usr/bin/env bash
# scikit-learn, pytrec-eval, ir-measures: a query that has no copy counts 1, 0 or nothing in the mean average precision
#
# Expected: most queries of copy detection have no copy in the references. Average precision is not defined for them, so
# they are left out, or they count 0. Two wrappers of the same trec_eval agree about it.
#
# What happens: label_ranking_average_precision_score, scikit-learn's mean of average precision over queries, gives such a
# query 1, a perfect ranking: with 80 % of them, random scores get .84 instead of .17 or .03. scikit-learn's ndcg_score
# gives the same query 0. pytrec-eval leaves it out if its truth is empty, and gives it 0 if the same truth is written with
# an explicit 0 for one of the references. ir-measures, which calls pytrec-eval, gives it 0 both times. Nothing warns.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check \
  scikit-learn==1.9.1 numpy==2.4.6 pytrec-eval-terrier==0.5.11 ir-measures==0.4.3

venv/bin/python -W error::UserWarning - <<'EOF_PYTHON'
from importlib.metadata import version

import ir_measures
import numpy as np
import pytrec_eval
from sklearn.metrics import label_ranking_average_precision_score as lrap
from sklearn.metrics import ndcg_score

print(*(f"{name} {version(name)}" for name in ("scikit-learn", "numpy", "pytrec-eval-terrier", "ir-measures")))
rng = np.random.default_rng(0)
scores = rng.random((1_000, 20))
copies = np.zeros((1_000, 20), int)
copies[np.arange(200), rng.integers(20, size=200)] = 1  # the first 200 queries have one copy each, the others none
run = {f"q{q}": {f"r{r}": float(s) for r, s in enumerate(row)} for q, row in enumerate(scores)}
empty = {f"q{q}": {f"r{r}": 1 for r in np.flatnonzero(row)} for q, row in enumerate(copies)}
written = {query: found or {"r0": 0} for query, found in empty.items()}


def trec(truth):
    results = pytrec_eval.RelevanceEvaluator(truth, {"map"}).evaluate(run)
    return len(results), float(np.mean([result["map"] for result in results.values()]))


def measures(truth):
    return float(ir_measures.calc_aggregate([ir_measures.AP], truth, run)[ir_measures.AP])


defined = float(lrap(copies[:200], scores[:200]))
print(f"mean average precision of the 200 queries with a copy: {defined:.3f}; with the other 800 as 0: {defined / 5:.3f}")
found = {
    "label_ranking_average_precision_score": float(lrap(copies, scores)),
    "pytrec-eval, empty truth": trec(empty)[1],
    "pytrec-eval, truth 0": trec(written)[1],
    "ir-measures, empty truth": measures(empty),
    "ir-measures, truth 0": measures(written),
}
for name, value in found.items():
    print(f"all 1,000 queries, {name}: {value:.3f}")
ndcg = float(ndcg_score(copies, scores)) / float(ndcg_score(copies[:200], scores[:200]))
print(f"queries that pytrec-eval answers: {trec(empty)[0]} and {trec(written)[0]}")
print(f"ndcg_score of all, divided by that of the 200: {ndcg:.3f}")
expected = [0.8 + defined / 5, defined, defined / 5, defined / 5, defined / 5]
assert np.allclose(list(found.values()), expected, atol=1e-4) and abs(ndcg - 0.2) < 1e-6
EOF_PYTHON
