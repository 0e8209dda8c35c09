"""Settings of `ndec export` and `ndec validate`. Light: the command line reads this module for `--help`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.config import setting


@dataclass(frozen=True)
class ExportConfig:
    """Build a dataset from the decisions of a workspace."""

    workspace: Path
    name: str = setting("benchmark", "name of the dataset; its folder is manifests/NAME-VERSION")
    version: str = setting("1.0.0", "semantic version of the dataset: raise it whenever its content changes")
    distractors: int = setting(0, "queries without any reference, drawn at random from the pool images never mined")
    seed: int = setting(0, "draws the distractors; fewer of them under one seed are a subset of more")


@dataclass(frozen=True)
class ValidateConfig:
    """Check a dataset from its files alone."""

    manifest: Path  # directory that holds manifest.json
    images: bool = setting(True, "also hash every image file that can be found beside the manifest", result=False)
