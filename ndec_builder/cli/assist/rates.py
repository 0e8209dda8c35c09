"""What a forecast rests on: counts, sizes and rates of a workspace; where it has none yet, those of `core/sizing.py`.

Tables and sizes of files are read, never images; a million rows take well under a second.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from ndec_builder.cli.assist import sizing
from ndec_builder.core.schemas import ROLES
from ndec_builder.core.storage import read_json, read_table
from ndec_builder.core.workspace import Workspace

MEASURED = 1000  # images of a run whose rate counts: in a smaller one most of the time goes into starting
MEASURED_COPIES = 100
LABELLED = 50  # labels from which on people's own speed counts
SAMPLED = 200  # files whose size is looked at
UNKNOWN_PIXELS = 12e6  # of images that nobody has opened yet: a photograph of today


def embed_guess(root: Path, model: str, images: int) -> tuple[float, str]:
    """Seconds for so many images, and what they rest on: this model's largest run in the workspace, or a guess."""
    folders = [Workspace(root).embeddings(role, model) for role in ROLES] if model else []
    records = [read_json(folder / "run.json") for folder in folders if (folder / "run.json").is_file()]
    runs = [(record["counts"]["embedded"], record["seconds"]) for record in records]
    done, seconds = max(runs, default=(0, 0.0))
    if done >= MEASURED and seconds > 0:
        rate = done / seconds
        return images / rate, f"{rate:.0f} images/s in this workspace before"
    return sizing.embed_seconds(images, cores()), "a guess from the rate of efficientnet-lite0 on another machine"


def edit_guess(workspace: Workspace, role: str, copies: int) -> tuple[float, str]:
    """The same for edited copies of a role's images."""
    path = workspace.files("query") / "run.json"
    record = read_json(path) if path.is_file() else {}
    done, seconds = record.get("counts", {}).get("copies", 0), record.get("seconds", 0.0)
    if done >= MEASURED_COPIES and seconds > 0:
        rate = done / seconds
        return copies / rate, f"{rate:.0f} copies/s in this workspace before"
    return sizing.edit_seconds(copies * mean_pixels(workspace.images(role)), cores()), "a guess from their pixels"


def pace(workspace: Workspace, split: str) -> tuple[float, str]:
    """Seconds a pair: the median of this workspace's labels when there are enough, else an assumption."""
    labels = workspace.annotation(split) / "labels.parquet"
    if rows(labels) < LABELLED:
        return sizing.PAIR_SECONDS, "assumed"
    seconds = read_table(labels, ["seconds"])["seconds"]
    median = pc.quantile(seconds.filter(pc.greater(seconds, 0)), 0.5)[0].as_py()
    return (median, "the median of the labels so far") if median else (sizing.PAIR_SECONDS, "assumed")


def mean_pixels(path: Path) -> float:
    """Pixels of an image of the table."""
    table = read_table(path, ["width", "height"])
    product = pc.multiply(*(table[name].cast("float64") for name in ("width", "height")))
    mean: float | None = pc.mean(product).as_py()
    return mean or UNKNOWN_PIXELS


def mean_bytes(workspace: Workspace) -> float | None:
    """Bytes of a reference image, from some of their files; None where they are no files of their own."""
    uris = read_table(workspace.images("reference"), ["uri"])["uri"]
    step = max(1, len(uris) // SAMPLED)
    paths = [Path(workspace.resolve(uris[place].as_py())) for place in range(0, len(uris), step)]
    sizes = [path.stat().st_size for path in paths if path.is_file()]
    return sum(sizes) / len(sizes) if sizes else None


def rows(path: Path) -> int:
    """Rows of a table; 0 where there is none."""
    if not path.is_file():
        return 0
    return int(pq.read_metadata(path).num_rows)


def counts(folder: Path) -> dict[str, Any]:
    """What the run record of a folder counted; nothing without one."""
    path = folder / "run.json"
    found: dict[str, Any] = read_json(path).get("counts", {}) if path.is_file() else {}
    return found


def cores() -> int:
    """Processors of this machine."""
    return os.cpu_count() or 1
