"""Settings of `ndec demo`. Light: the command line imports this at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.config import Config, option
from ndec_builder.demo.corpus.settings import SIZE_NAMES
from ndec_builder.sources.settings import GROUP_BY


@dataclass(frozen=True)
class DemoConfig(Config):
    """`ndec demo`: every stage on real pictures."""

    out: Path = option(Path("ndec-demo"), "Workspace of the demo; run the command again to resume.")
    size: str = option("full", "full (about twelve minutes on two cores) or small (for CI).", choices=SIZE_NAMES)
    images: Path | None = option(None, "Folder with your own photos, used instead of the mini corpus.")
    group_by: str = option("auto", f"Of --images: {GROUP_BY['help']}", choices=GROUP_BY["choices"])
    annotate_yourself: bool = option(
        False, "Open the labelling page and label the pairs yourself, instead of using the known ground truth."
    )
    seed: int = option(0, "Seed; the same seed gives the same demo.")
    port: int = option(8700, "Port of Label Studio; the image server uses the next one.", ge=1, le=65534)
