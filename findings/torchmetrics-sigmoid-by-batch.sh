#!/usr/bin/env bash
# torchmetrics: average precision of cosines depends on the batches in which they were given
#
# Expected: a metric that ranks (average precision, AUROC, recall at a precision) gives the same value for the same
# scores, in one update() or in many. A rising function of the scores would not change it.
#
# What happens: the binary metrics look at each batch: if a score is below 0 or above 1, the whole batch is taken for
# logits and goes through a sigmoid; other batches stay as they are. Cosines are mostly between 0 and 1, so a few
# batches hold a negative one: there a hit of cosine 0.8 becomes 0.69 and a miss of -0.1 becomes 0.48, and these are
# ranked among the untouched ones of other batches. The value changes with the batch size and with the order, without
# a warning; scikit-learn's value comes out only if all batches are treated alike. Scores scaled to 0 … 1 beforehand
# give the right value with every batch size.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check \
  torchmetrics==1.9.0 torch==2.14.1 numpy==2.4.6 scikit-learn==1.9.1

venv/bin/python -W error - <<'EOF_PYTHON'
from importlib.metadata import version

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

print(*(f"{name} {version(name)}" for name in ("torchmetrics", "torch", "scikit-learn")))
rng = torch.Generator().manual_seed(0)
copies = torch.rand(2_000, generator=rng) < 0.2
cosines = (0.35 + 0.2 * copies + 0.17 * torch.randn(2_000, generator=rng)).clamp(-1, 1)
print(f"2,000 cosines, {(cosines < 0).float().mean():.1%} of them negative, none above 1")


def by_batches(metric, scores, size):
    for part, truth in zip(scores.split(size), copies.int().split(size), strict=True):
        metric.update(part, truth)
    return metric.compute().item()


scaled = (cosines + 1) / 2
found = {}
for name, metric, peer in (
    ("average precision", BinaryAveragePrecision, average_precision_score),
    ("AUROC", BinaryAUROC, roc_auc_score),
):
    right = peer(copies, cosines)
    sizes = (1, 16, 64, 256, 2_000)
    found[name] = [by_batches(metric(), cosines, size) for size in sizes]
    shown = " ".join(f"{size}: {value:.3f}" for size, value in zip(sizes, found[name], strict=True))
    print(f"{name}: scikit-learn {right:.3f}; torchmetrics by batch size {shown}")
    assert all(abs(by_batches(metric(), scaled, size) - right) < 1e-4 for size in sizes)
    assert abs(found[name][-1] - right) < 1e-4  # one batch: all are logits
    assert min(found[name]) < right - 0.02
EOF_PYTHON
