"""The basis of a forecast: counts, sizes and labelling speed of a workspace, never the speed of a machine.

Tables and sizes of files are read, never images; a million rows take well under a second.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from ndec_builder.cli.assist import sizing
from ndec_builder.core.config import build, read_settings
from ndec_builder.core.storage import read_json, read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings import model_names
from ndec_builder.embeddings.settings import EmbedConfig

_LABELLED = 50  # smallest number of labels for a speed
_SAMPLED = 200  # files in the sample of sizes
MEASURED_LATER = "the time left is shown as soon as the first ones are measured"


def pair_pace(workspace: Workspace, split: str) -> tuple[float, str]:
    """(seconds per pair, basis): the median of this workspace's labels if there are enough, else an assumption."""
    labels = workspace.annotation(split) / "labels.parquet"
    if row_count(labels) < _LABELLED:
        return sizing.PAIR_SECONDS, "assumed"
    seconds = read_table(labels, ["seconds"])["seconds"]
    median = pc.quantile(seconds.filter(pc.greater(seconds, 0)), 0.5)[0].as_py()
    return (median, "the median of the labels so far") if median else (sizing.PAIR_SECONDS, "assumed")


def dimensions(workspace: Workspace, roles: Iterable[str], model: str, settings: Path | None) -> int:
    """Dimensions of a model's vectors: those that a role has, else what [embed] of the settings will give."""
    for role in roles:
        path = workspace.embeddings(role, model) / "run.json"
        if path.is_file() and (dim := read_json(path).get("dim")):
            return int(dim)
    values = read_settings(settings or workspace.settings)
    chosen = build(EmbedConfig, "embed", values, workspace=workspace.root, role="pool").dim
    return chosen or model_names.parse_model(model).whitening_dim


def mean_bytes(workspace: Workspace) -> float | None:
    """Mean bytes of a reference image, from a sample of files; None if the images are not separate files."""
    uris = read_table(workspace.images("reference"), ["uri"])["uri"]
    step = max(1, len(uris) // _SAMPLED)
    paths = [Path(workspace.resolve(uris[place].as_py())) for place in range(0, len(uris), step)]
    sizes = [path.stat().st_size for path in paths if path.is_file()]
    return sum(sizes) / len(sizes) if sizes else None


def row_count(path: Path) -> int:
    """Rows of a table; 0 if it does not exist."""
    if not path.is_file():
        return 0
    return int(pq.read_metadata(path).num_rows)


def run_counts(folder: Path) -> dict[str, Any]:
    """The counts in the run record of a folder; empty without one."""
    path = folder / "run.json"
    found: dict[str, Any] = read_json(path).get("counts", {}) if path.is_file() else {}
    return found


def cores() -> int:
    """Processors of this machine."""
    return os.cpu_count() or 1
