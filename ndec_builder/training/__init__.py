"""The ASL trainer: losses, views, the loop, checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndec_builder.core.lazy import lazy

if TYPE_CHECKING:
    from ndec_builder.training.checkpoint import TrainedDetector as TrainedDetector
    from ndec_builder.training.checkpoint import load_detector as load_detector
    from ndec_builder.training.class_table import SampledCosFace as SampledCosFace
    from ndec_builder.training.losses import CosFaceLoss as CosFaceLoss
    from ndec_builder.training.losses import NormRatioLoss as NormRatioLoss
    from ndec_builder.training.losses import TripletLoss as TripletLoss
    from ndec_builder.training.losses import norms as norms
    from ndec_builder.training.losses import ordered_view_pairs as ordered_view_pairs
    from ndec_builder.training.model import Head as Head
    from ndec_builder.training.settings import TrainConfig as TrainConfig

__getattr__, __dir__ = lazy(
    __name__, __file__, deprecated={"Detector": "ndec_builder.training.checkpoint:TrainedDetector"}
)
