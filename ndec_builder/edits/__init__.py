"""Operations that make edited copies. Every parameter is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndec_builder.core.lazy import lazy

if TYPE_CHECKING:
    from ndec_builder.edits.operations import Edited as Edited
    from ndec_builder.edits.operations import apply_edits as apply_edits
    from ndec_builder.edits.operations import replay as replay
    from ndec_builder.edits.recipes import edit_image as edit_image
    from ndec_builder.edits.settings import EditConfig as EditConfig

__getattr__, __dir__ = lazy(__name__, __file__)
