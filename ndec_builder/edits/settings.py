"""Settings of `ndec edit`. Light: the command line imports this at start."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ndec_builder.core.config import Config, described, setting
from ndec_builder.core.executor.settings import engine_option, ray_address_option
from ndec_builder.core.vocabulary import ROLES

EDIT_RECIPE_NAMES = ("copy", "crop", "edited-crop", "editor", "light", "view")


@dataclass(frozen=True)
class EditConfig(Config):
    """Make edited copies of a role's images and add them to the queries."""

    workspace: Path
    count: int = field(metadata=described("Number of edited-copy queries to make.", ge=1))
    role: str = setting("reference", "Role of the images to copy: reference, basic, pool or query.", choices=ROLES)
    recipe: str = setting(
        "copy",
        "copy (a mix of edits like in DISC21), crop, edited-crop, editor (effects of image editors, memes, …), "
        "light or view.",
        choices=EDIT_RECIPE_NAMES,
    )
    seed: int = setting(0, "Seed; the same seed gives the same copies.")
    prefix: str = setting("copy", "Ids are PREFIX-000000 and so on; a rerun replaces the copies with its own prefix.")
    backgrounds: Path | None = setting(
        None, "Folder of pictures to paste copies on; without it, backgrounds are generated from the seed."
    )
    max_reject_share: float = setting(
        0.05, "Share of unusable source images above which the exit code is 3.", ge=0, le=1, result=False
    )
    engine: str = engine_option()
    ray_address: str = ray_address_option()
