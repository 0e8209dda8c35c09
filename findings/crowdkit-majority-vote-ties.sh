#!/usr/bin/env bash
# crowd-kit: MajorityVote decides a tie by the order of the rows
#
# Expected: With one vote each for two labels, MajorityVote picks a documented winner (the first in
# alphabetical order, or a random one) that does not depend on how the table is sorted.
#
# What happens: The winner of every tie is the label in the first row of the table, even if that row
# belongs to another task. The same votes, sorted by person or by time instead of by task, give
# different decisions for all tied tasks.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps crowd-kit==1.4.2
venv/bin/python -m pip install --quiet --disable-pip-version-check pandas==3.1.1 scikit-learn==1.9.1 attrs==26.1.0 tqdm==4.70.1 nltk==3.10.4

venv/bin/python - <<'EOF'
from importlib.metadata import version

import pandas as pd
from crowdkit.aggregation.classification.majority_vote import MajorityVote

votes = pd.DataFrame(
    [("pair 1", "ann", "copy"), ("pair 1", "ben", "other"), ("pair 2", "ann", "other"), ("pair 2", "ben", "copy")],
    columns=["task", "worker", "label"],
)
print("crowd-kit", version("crowd-kit"))
orders = {"as given": [0, 1, 2, 3], "pair 2 first": [2, 3, 0, 1], "ben first": [1, 3, 0, 2], "ann first": [0, 2, 1, 3]}
decisions = {name: MajorityVote().fit_predict(votes.iloc[rows]).to_dict() for name, rows in orders.items()}
for name, decision in decisions.items():
    first = votes.iloc[orders[name][0]].label
    print(f"{name}: first label of the table {first!r}, decisions {decision}")
    assert set(decision.values()) == {first}
assert decisions["as given"] != decisions["pair 2 first"]
EOF
