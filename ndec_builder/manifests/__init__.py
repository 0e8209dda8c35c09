"""Datasets: build them from decisions, validate, describe, compare and fetch them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndec_builder.core.lazy import lazy

if TYPE_CHECKING:
    from ndec_builder.manifests.read import Manifest as Manifest
    from ndec_builder.manifests.read import open_manifest as open_manifest
    from ndec_builder.manifests.settings import DiffConfig as DiffConfig
    from ndec_builder.manifests.settings import ExportConfig as ExportConfig
    from ndec_builder.manifests.settings import FetchConfig as FetchConfig
    from ndec_builder.manifests.settings import ReleaseConfig as ReleaseConfig
    from ndec_builder.manifests.settings import ValidateConfig as ValidateConfig
    from ndec_builder.manifests.validation.findings import Finding as Finding

__getattr__, __dir__ = lazy(__name__, __file__)
