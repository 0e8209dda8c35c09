"""Datasets: build them from decisions, validate, describe, compare and fetch them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndec_builder.core.lazy import lazy

if TYPE_CHECKING:
    from ndec_builder.manifests.read import Manifest, open_manifest
    from ndec_builder.manifests.settings import DiffConfig, ExportConfig, FetchConfig, ReleaseConfig, ValidateConfig
    from ndec_builder.manifests.validation.findings import Finding

__all__ = [
    "DiffConfig",
    "ExportConfig",
    "FetchConfig",
    "Finding",
    "Manifest",
    "ReleaseConfig",
    "ValidateConfig",
    "open_manifest",
]
__getattr__, __dir__ = lazy(__name__, __file__)
