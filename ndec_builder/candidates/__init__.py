"""Finds the most similar pairs of pool and reference images, for people to label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndec_builder.core.lazy import lazy

if TYPE_CHECKING:
    from ndec_builder.candidates.geometry.fitting import Geometry as Geometry
    from ndec_builder.candidates.geometry.fitting import fit_geometry as fit_geometry
    from ndec_builder.candidates.search.exact import top_pairs as top_pairs
    from ndec_builder.candidates.search.pairs import Pairs as Pairs
    from ndec_builder.candidates.settings import MineConfig as MineConfig
    from ndec_builder.candidates.settings import PrelabelConfig as PrelabelConfig
    from ndec_builder.candidates.settings import RecheckConfig as RecheckConfig

__getattr__, __dir__ = lazy(__name__, __file__, {"fit": "ndec_builder.candidates:fit_geometry"})
