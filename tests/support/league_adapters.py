"""Adapters of small detectors, and a league of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ndec_builder.league.run import run
from ndec_builder.league.settings import LeagueConfig

CONSTANTS = """
REQUIRES = ()
COMPARE = {compare!r}
THRESHOLD = {threshold!r}
THRESHOLD_SOURCE = "this test"
LIMITS = ""
"""
GREYS = """
def describe(path):
    import numpy as np
    from PIL import Image
    if path.endswith({fails!r}):
        raise RuntimeError("this picture is too much")
    small = np.asarray(Image.open(path).convert("L").resize((8, 8)), float)
    return small > small.mean()
"""
FOLDER_TOOL = """
def run(folder):
    import os
    from PIL import Image
    names = sorted(os.listdir(folder))
    for name in names:
        Image.open(os.path.join(folder, name)).load()
    for name in names:
        if name.startswith("q"):
            yield "elsewhere/" + name.replace(".png", ".jpeg"), "r" + name[1:], 0.5
    yield "q000000.png", "stranger.png", 0.9
    yield names[0], names[1], 0.9
"""


def adapter(folder: Path, name: str, body: str, compare: str = "hamming", threshold: float | None = 12) -> str:
    path = folder / f"{name}.py"
    path.write_text(CONSTANTS.format(compare=compare, threshold=threshold) + body)
    return str(path)


def league(small: Any, out: Path, *detectors: str, **settings: Any) -> dict[str, dict[str, Any]]:
    """Rows of league.json by name."""
    config = LeagueConfig(
        workspace=small.workspace, manifest=small.manifest, detector=detectors, out=out, replicates=100, **settings
    )
    run(config)
    return {row["name"]: row for row in json.loads((out / "league.json").read_text())["detectors"]}
