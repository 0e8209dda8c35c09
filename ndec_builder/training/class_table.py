"""CosFace for very many identities: a step uses the classes of its batch and a random sample of the others.

After Partial FC (An et al., CVPR 2022). The table is kept outside the optimizer, so no tensor of a step is as large as
the table. Memory for C classes of d dimensions: 4·C·d bytes for the table, 8·C for the optimizer (1,000,000 × 512: 2.05
GB + 8 MB; Adam on the full table would take 6.1 GB), and logits of batch × sample.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ndec_builder.training.losses import NORM_EPS

DECAY = 0.99  # of the mean square of a row's gradient


class SampledCosFace(nn.Module):
    """CosFace over a sample of the classes. Buffers: weight (C, d) · square, steps (C,): optimizer state per row.

    One step: `draw` the classes, call, `backward`, `update`. The update divides a row's gradient by the root of its
    mean square over dimensions and steps (Adam without momentum, one number per row). Rows that were not drawn do not
    change.
    """

    weight: Tensor
    square: Tensor
    steps: Tensor

    def __init__(
        self, dim: int, classes: int, sample: int, seed: int, scale: float = 64.0, margin: float = 0.35
    ) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(classes, dim))
        self.register_buffer("square", torch.zeros(classes))
        self.register_buffer("steps", torch.zeros(classes))
        self.sample, self.seed, self.scale, self.margin = sample, seed, scale, margin
        self.classes = torch.zeros(0, dtype=torch.int64)
        self.rows = torch.zeros(0, dim, requires_grad=True)

    def draw(self, labels: Tensor, step: int) -> None:
        """Take the classes of `labels` (of the full batch, over all processes) and random others, up to `sample`."""
        count = len(self.weight)
        own = torch.unique(labels.cpu())
        missing = max(0, min(self.sample, count) - len(own))
        # sampling with replacement, then unique: sampling without replacement costs time linear in the table
        others = torch.from_numpy(np.random.default_rng([self.seed, 4, step]).integers(0, count, missing))
        self.classes = torch.unique(torch.cat([own, others])).to(self.weight.device)
        self.rows = self.weight[self.classes].requires_grad_(True)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """As `CosFaceLoss`, over the drawn classes: `features` (n, d) float32, `labels` (n,) int64."""
        cosine = functional.linear(
            functional.normalize(features, eps=NORM_EPS), functional.normalize(self.rows, eps=NORM_EPS)
        )
        places = torch.searchsorted(self.classes, labels)
        margins = torch.zeros_like(cosine).scatter_(1, places[:, None], self.margin)
        return functional.cross_entropy(self.scale * (cosine - margins), places)

    @torch.no_grad()
    def update(self, gradient: Tensor, lr: float) -> None:
        """Move the drawn rows by their gradient (rows, d)."""
        steps = self.steps[self.classes] + 1
        square = DECAY * self.square[self.classes] + (1 - DECAY) * gradient.square().mean(dim=1)
        self.steps[self.classes], self.square[self.classes] = steps, square
        size = (square / (1 - DECAY**steps)).sqrt() + 1e-8
        self.weight[self.classes] = self.rows.detach() - lr * gradient / size[:, None]
