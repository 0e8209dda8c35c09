#!/usr/bin/env bash
# trec_eval (pytrec-eval-terrier): close scores become ties, and the name of a document decides them
#
# Expected: A run that ranks the true match first has average precision 1. Document ids are only
# labels.
#
# What happens: Scores are float32 inside trec_eval, so 0.9100000002 and 0.91 are equal. Equal
# scores are sorted by document id, descending; the order in which the run lists them is ignored.
# Renaming the match from "a" to "z" changes AP from 0.5 to 1. A csv of float64 cosines therefore
# gives a different number than any code that sorts the float64 values.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check pytrec-eval-terrier==0.5.11 numpy==2.4.6

venv/bin/python - <<'EOF'
from importlib.metadata import version

import pytrec_eval


def average_precision(match, other, match_score, other_score):
    evaluator = pytrec_eval.RelevanceEvaluator({"q": {match: 1, other: 0}}, {"map"})
    return evaluator.evaluate({"q": {match: match_score, other: other_score}})["q"]["map"]


print("pytrec-eval-terrier", version("pytrec-eval-terrier"))
close = average_precision("a", "b", 0.9100000002, 0.91)
renamed = average_precision("z", "b", 0.9100000002, 0.91)
behind = average_precision("z", "b", 0.91, 0.9100000002)
print(f"match 'a' ahead by 2e-10: {close}; the same match called 'z': {renamed}; 'z' behind by 2e-10: {behind}")
assert (close, renamed, behind) == (0.5, 1.0, 1.0)
EOF
