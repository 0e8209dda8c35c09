"""Annotation: pairs to Label Studio, one project per annotator and round; labels back; agreement and decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndec_builder.core.lazy import lazy

if TYPE_CHECKING:
    from ndec_builder.annotation.decisions.agreement import cohen_kappa, krippendorff_alpha
    from ndec_builder.annotation.decisions.binomial import clopper_pearson, wilson
    from ndec_builder.annotation.decisions.dawid_skene import Posterior, dawid_skene
    from ndec_builder.annotation.settings import (
        AutoClearConfig,
        LeaveConfig,
        PullConfig,
        PushConfig,
        RelearnConfig,
        ResolveConfig,
        SendBackConfig,
        ServeConfig,
        StatusConfig,
    )

__all__ = [
    "AutoClearConfig",
    "LeaveConfig",
    "Posterior",
    "PullConfig",
    "PushConfig",
    "RelearnConfig",
    "ResolveConfig",
    "SendBackConfig",
    "ServeConfig",
    "StatusConfig",
    "clopper_pearson",
    "cohen_kappa",
    "dawid_skene",
    "krippendorff_alpha",
    "wilson",
]
__getattr__, __dir__ = lazy(__name__, __file__)
