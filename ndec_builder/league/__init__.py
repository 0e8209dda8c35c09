"""`ndec league`: duplicate finders of others and ndec's own detectors on one dataset, with and without look-alikes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndec_builder.core.lazy import lazy

if TYPE_CHECKING:
    from ndec_builder.league.settings import LeagueConfig as LeagueConfig

__getattr__, __dir__ = lazy(__name__, __file__)
