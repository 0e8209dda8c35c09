"""The two terms of the ASL loss (paper, equations 1 and 2) and the choice of pairs for the first."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

NORM_EPS = 1e-6  # smaller norms count as this, so that ratio and gradient stay finite


def norms(x: Tensor) -> Tensor:
    """Euclidean norms of (n, d) features, (n,), never below NORM_EPS; the gradient at the zero vector is zero."""
    return x.square().sum(dim=1).clamp_min(NORM_EPS**2).sqrt()


class NormRatioLoss(nn.Module):
    """exp(1 − ‖x_i‖ / ‖x_j‖), i the image with more content (equations 1 and 2), averaged over the given pairs.

    At ratio 1 a pair costs 1; a larger ratio costs less. The caller leaves out pairs of equal content, as
    `ordered_view_pairs` does: each would push two equal norms apart.

    >>> features = torch.tensor([[2.0, 0.0], [0.0, 1.0]])  # norms 2 and 1
    >>> round(NormRatioLoss()(features, more=torch.tensor([0]), less=torch.tensor([1])).item(), 4)  # exp(1 - 2)
    0.3679
    """

    def forward(self, features: Tensor, more: Tensor, less: Tensor) -> Tensor:
        """`features` (n, d) float32; `more`, `less` (p,) int64 rows, pair by pair. A zero when p is 0.

        Raises ValueError for a pair of a row with itself.
        """
        if len(more) == 0:
            return features.new_zeros(())
        if bool((more == less).any()):
            raise ValueError("a norm-ratio pair has the same row on both sides")
        length = norms(features)
        return torch.exp(1 - length[more] / length[less]).mean()


class TripletLoss(nn.Module):
    """max(0, ‖a − p‖ − ‖a − n‖ + m) of unit features (Hermans et al. 2017), averaged over the anchors.

    p is the farthest positive of an anchor (batch hard); each anchor has one negative, its hard negative.
    """

    def __init__(self, margin: float = 0.3) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, features: Tensor, anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """`features` (n, d) float32; `anchors`, `negatives` (a,), `positives` (a, p) int64 rows. A zero when a is 0."""
        if len(anchors) == 0:
            return features.new_zeros(())
        unit = functional.normalize(features, eps=NORM_EPS)
        near = norms((unit[anchors, None] - unit[positives]).flatten(0, 1)).view(positives.shape).max(dim=1).values
        far = norms(unit[anchors] - unit[negatives])
        return functional.relu(near - far + self.margin).mean()


class CosFaceLoss(nn.Module):
    """Large-margin cosine loss (CosFace, Wang et al. 2018): softmax cross-entropy of s·(cos θ − m·[own class]).

    `weight` (classes, dim) float32 has one proxy per class; rows need not be normalised. Memory: 3 tables of that size
    with Adam, plus (batch, classes) logits.

    >>> loss = CosFaceLoss(dim=2, classes=2, scale=1.0, margin=0.0)
    >>> _ = loss.weight.data.copy_(torch.eye(2))
    >>> round(loss(torch.tensor([[5.0, 0.0]]), torch.tensor([0])).item(), 4)  # log(1 + exp(0 - 1)), whatever the norm
    0.3133
    """

    def __init__(self, dim: int, classes: int, scale: float = 64.0, margin: float = 0.35) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(classes, dim))  # the trainer sets it to the mean features of the classes
        self.scale, self.margin = scale, margin

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """`features` (n, dim) float32 of any norm, `labels` (n,) int64 in 0 … classes − 1; returns the mean."""
        cosine = functional.linear(
            functional.normalize(features, eps=NORM_EPS), functional.normalize(self.weight, eps=NORM_EPS)
        )
        margins = torch.zeros_like(cosine).scatter_(1, labels[:, None], self.margin)
        return functional.cross_entropy(self.scale * (cosine - margins), labels)


def ordered_view_pairs(
    identities: Tensor, content_share: Tensor, adds_content: Tensor, min_gap: float = 0.0
) -> tuple[Tensor, Tensor]:
    """All ordered pairs of views of one image whose content differs: rows with more, rows with less, both (p,) int64.

    `identities` (n,) int64; `content_share` (n,) float 0 … 1, the share of the original's area still visible;
    `adds_content` (n,) bool. A view that shows something its original lacks (padding, underlay, overlay, text) is in no
    pair: its content is not comparable. Pairs come in ascending order; the gap must be strictly above `min_gap`.
    """
    comparable = ~adds_content
    same = (identities[:, None] == identities[None, :]) & comparable[:, None] & comparable[None, :]
    larger = content_share[:, None] - content_share[None, :] > min_gap
    more, less = (same & larger).nonzero(as_tuple=True)
    return more, less


def original_copy_pairs(originals: Tensor, views: int) -> tuple[Tensor, Tensor]:
    """Each original over each of its other views: (originals' rows, views' rows), both (blocks · (views − 1),) int64.

    `originals` (blocks,) int64: the first row of each block of `views` rows.
    """
    steps = torch.arange(1, views, device=originals.device)
    return originals.repeat_interleave(views - 1), (originals[:, None] + steps).reshape(-1)
