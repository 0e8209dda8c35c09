"""The ASL trainer: losses, views, the loop, checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndec_builder.core.lazy import lazy

if TYPE_CHECKING:
    from ndec_builder.training.checkpoint import TrainedDetector, load_detector
    from ndec_builder.training.class_table import SampledCosFace
    from ndec_builder.training.losses import CosFaceLoss, NormRatioLoss, TripletLoss, norms, ordered_view_pairs
    from ndec_builder.training.model import Head
    from ndec_builder.training.settings import TrainConfig

__all__ = [
    "CosFaceLoss",
    "Head",
    "NormRatioLoss",
    "SampledCosFace",
    "TrainConfig",
    "TrainedDetector",
    "TripletLoss",
    "load_detector",
    "norms",
    "ordered_view_pairs",
]
__getattr__, __dir__ = lazy(
    __name__, __file__, deprecated={"Detector": "ndec_builder.training.checkpoint:TrainedDetector"}
)
