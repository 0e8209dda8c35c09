"""Settings of `ndec edit`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.config import setting


@dataclass(frozen=True)
class EditConfig:
    """Make edited copies of a role's images and add them to the queries."""

    workspace: Path
    count: int
    role: str = setting("reference", "whose images are copied")
    recipe: str = setting("copy", "copy (a mix like DISC21's), crop, edited-crop, light or view")
    seed: int = setting(0, "same seed, same copies")
    prefix: str = setting("copy", "ids are PREFIX-000000 and so on; a rerun replaces the copies of its own prefix")
    backgrounds: Path | None = setting(None, "folder of pictures to paste copies on; drawn from a seed unless given")
    max_reject_share: float = setting(0.05, "more unusable sources than this: exit 3", result=False)
