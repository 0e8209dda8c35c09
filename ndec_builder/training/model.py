"""The trained part: a head that learns direction and length of its output separately."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from ndec_builder.core.errors import NdecError
from ndec_builder.embeddings.whitening import Whitening

NORM_LAYER = "head output"  # norms are trained and tested at this layer
HIDDEN = 256
MAX_LOG_LENGTH = 3.0  # lengths change by at most a factor of 20, up or down


class Head(nn.Module):
    """x = (W f + b) · exp(t · tanh(g(f) / t)): trunk features (n, dim_in) float32 → features (n, dim) float32.

    The direction is linear. A linear map alone can hardly learn norms, because its length depends on its direction (in
    a pilot the ratio separated copies from reverse crops with an AUC of .59, with this branch .89), so the two-layer g
    learns the length. g starts at zero: before training x is the PCA-whitened descriptor. g receives the features
    standardised by `mean` and `std`. The bound t is needed because the norm-ratio loss has no minimum: a plain exp(g)
    reached 1e19 and then NaN within 700 steps.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim_in: int, dim: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        # skip_init: `fit_head` or a checkpoint fills the layers, and the global generator stays untouched
        self.direction = nn.utils.skip_init(nn.Linear, dim_in, dim)
        self.hidden = nn.utils.skip_init(nn.Linear, dim_in, hidden)
        self.log_length = nn.utils.skip_init(nn.Linear, hidden, 1)
        self.register_buffer("mean", torch.zeros(dim_in))
        self.register_buffer("std", torch.ones(dim_in))

    @property
    def shape(self) -> dict[str, int]:
        """Arguments that build an empty head of this shape."""
        return {
            "dim_in": self.direction.in_features,
            "dim": self.direction.out_features,
            "hidden": self.hidden.out_features,
        }

    def forward(self, features: Tensor, keep: Tensor | None = None) -> Tensor:
        """`keep` (n, hidden) float32: in training, what dropout multiplies g's hidden units with (see `batches`)."""
        inner = torch.relu(self.hidden((features - self.mean) / self.std))
        if keep is not None:
            inner = inner * keep
        log_length = MAX_LOG_LENGTH * torch.tanh(self.log_length(inner) / MAX_LOG_LENGTH)
        output: Tensor = self.direction(features) * torch.exp(log_length)
        return output


def fit_head(features: np.ndarray, dim: int, shrinkage: float, seed: int) -> Head:
    """A head initialised as the PCA whitening of `features` (n, dim_in), the originals of the training images.

    `dim` is at most n − 1. Raises NdecError for fewer than two images.
    """
    if len(features) < 2:
        raise NdecError(f"training needs at least 2 readable basic images, got {len(features)}; use a few hundred")
    whitening = Whitening.fit(features.astype(np.float32), dim, shrinkage)
    head = Head(features.shape[1], whitening.dim)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        matrix = torch.from_numpy(whitening.matrix)
        head.direction.weight.copy_(matrix)
        head.direction.bias.copy_(-(matrix @ torch.from_numpy(whitening.mean)))
        head.mean.copy_(torch.from_numpy(features.mean(axis=0, dtype=np.float64)))
        # dead channels of a trunk hardly vary: do not amplify their noise
        deviation = features.std(axis=0, dtype=np.float64)
        head.std.copy_(torch.from_numpy(np.maximum(deviation, 0.01 * deviation.mean() + 1e-6)))
        bound = 1 / features.shape[1] ** 0.5
        head.hidden.weight.uniform_(-bound, bound, generator=generator)
        for zero in (head.hidden.bias, head.log_length.weight, head.log_length.bias):
            zero.zero_()
    return head


def class_means(features: Tensor, classes: Tensor, count: int) -> Tensor:
    """Mean direction of each class, (count, dim): the initial CosFace proxies. `classes` (n,) int64."""
    unit = nn.functional.normalize(features)
    total = torch.zeros(count, features.shape[1], dtype=unit.dtype, device=unit.device).index_add_(0, classes, unit)
    return nn.functional.normalize(total)


def norms_of(head: Head, features: np.ndarray) -> np.ndarray:
    """Trunk features (…, dim_in) → norms of the head's output, (…) float64, computed in float64 as in testing."""
    wide = copy.deepcopy(head).cpu().double()
    with torch.inference_mode():
        output = wide(torch.from_numpy(features.reshape(-1, features.shape[-1]).astype(np.float64)))
        norms: np.ndarray = output.norm(dim=1).numpy().reshape(features.shape[:-1])
    return norms
