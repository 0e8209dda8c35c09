"""Annotation: pairs to Label Studio, one project per annotator and round; labels back; agreement and decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndec_builder.core.lazy import lazy

if TYPE_CHECKING:
    from ndec_builder.annotation.decisions.agreement import cohen_kappa as cohen_kappa
    from ndec_builder.annotation.decisions.agreement import krippendorff_alpha as krippendorff_alpha
    from ndec_builder.annotation.decisions.binomial import clopper_pearson as clopper_pearson
    from ndec_builder.annotation.decisions.binomial import wilson as wilson
    from ndec_builder.annotation.decisions.dawid_skene import Posterior as Posterior
    from ndec_builder.annotation.decisions.dawid_skene import dawid_skene as dawid_skene
    from ndec_builder.annotation.settings import AutoClearConfig as AutoClearConfig
    from ndec_builder.annotation.settings import LeaveConfig as LeaveConfig
    from ndec_builder.annotation.settings import PullConfig as PullConfig
    from ndec_builder.annotation.settings import PushConfig as PushConfig
    from ndec_builder.annotation.settings import RelearnConfig as RelearnConfig
    from ndec_builder.annotation.settings import ResolveConfig as ResolveConfig
    from ndec_builder.annotation.settings import SendBackConfig as SendBackConfig
    from ndec_builder.annotation.settings import ServeConfig as ServeConfig
    from ndec_builder.annotation.settings import StatusConfig as StatusConfig
    from ndec_builder.annotation.stopping.settings import CertifyConfig as CertifyConfig
    from ndec_builder.annotation.stopping.settings import PlanConfig as PlanConfig
    from ndec_builder.annotation.upkeep.settings import CheckConfig as CheckConfig
    from ndec_builder.annotation.upkeep.settings import ForgetConfig as ForgetConfig

__getattr__, __dir__ = lazy(__name__, __file__)
