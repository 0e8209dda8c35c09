"""Operations that make edited copies. Every parameter is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndec_builder.core.lazy import lazy

if TYPE_CHECKING:
    from ndec_builder.edits.operations import Edited, apply_edits, replay
    from ndec_builder.edits.recipes import edit_image
    from ndec_builder.edits.settings import EditConfig

__all__ = ["EditConfig", "Edited", "apply_edits", "edit_image", "replay"]
__getattr__, __dir__ = lazy(__name__, __file__)
