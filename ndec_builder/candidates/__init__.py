"""Candidates: the most similar pairs of pool and reference images, for people to decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndec_builder.core.lazy import lazy

if TYPE_CHECKING:
    from ndec_builder.candidates.geometry.fitting import Geometry, fit
    from ndec_builder.candidates.search.exact import top_pairs
    from ndec_builder.candidates.search.pairs import Pairs
    from ndec_builder.candidates.settings import MineConfig, PrelabelConfig, RecheckConfig

__all__ = ["Geometry", "MineConfig", "Pairs", "PrelabelConfig", "RecheckConfig", "fit", "top_pairs"]
__getattr__, __dir__ = lazy(__name__, __file__)
