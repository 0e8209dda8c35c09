#!/usr/bin/env bash
# torchmetrics: average precision with top_k divides by the copies that were found, not by those that exist
#
# Expected: RetrievalMAP(top_k=10) of a query with 100 copies of which only the first hit is one: what is not among the ten
# counts as missed, so AP@10 is 1/100 (trec_eval, ir-measures, ranx) or 1/10, if one divides by what ten places can hold.
#
# What happens: it is 1.0. The mean runs over the copies inside the first ten, so recall does not enter: each further copy
# below the first rank can only lower the value. A detector that finds one copy and then nine wrong pictures is better
# than one that finds nine copies after one wrong picture. Without top_k the value is that of the other libraries.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check \
  torchmetrics==1.9.0 torch==2.14.1 ir-measures==0.4.3 ranx==0.3.21 numpy==2.4.6

venv/bin/python - <<'EOF_PYTHON'
from importlib.metadata import version

import ir_measures
import torch
from ranx import Qrels, Run, evaluate
from torchmetrics.retrieval import RetrievalMAP

print(*(f"{name} {version(name)}" for name in ("torchmetrics", "torch", "ir-measures", "ranx")))
scores = torch.linspace(1, 0, 200)
truths = {"finds one copy": [0, *range(20, 119)], "finds nine copies": [*range(1, 10), *range(20, 111)]}
seen = {}
for name, places in truths.items():
    copies = torch.zeros(200, dtype=torch.long)
    copies[places] = 1
    assert copies.sum() == 100
    run = {"q": {str(place): score.item() for place, score in enumerate(scores)}}
    truth = {"q": {str(place): 1 for place in places}}
    indexes = torch.zeros(200, dtype=torch.long)
    for k, suffix in ((10, "@10"), (None, "")):
        seen[name, k] = (
            RetrievalMAP(top_k=k)(scores, copies, indexes=indexes).item(),
            ir_measures.calc_aggregate([ir_measures.parse_measure(f"AP{suffix}")], truth, run).popitem()[1],
            float(evaluate(Qrels(truth), Run(run), f"map{suffix}")),
        )
        ours, *others = seen[name, k]
        print(f"{name} of 100: AP{suffix} torchmetrics {ours:.3f}, ir-measures {others[0]:.3f}, ranx {others[1]:.3f}")
one, nine = seen["finds one copy", 10], seen["finds nine copies", 10]
assert one[0] == 1 and nine[0] < 0.8
assert all(abs(value - 0.01) < 1e-6 for value in one[1:]) and min(nine[1:]) > 0.05
for name in truths:
    assert max(seen[name, None]) - min(seen[name, None]) < 1e-6
EOF_PYTHON
