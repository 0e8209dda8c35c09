"""fastdup: cosine of its own network's features, the nearest neighbours of each picture."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator
from pathlib import Path

REQUIRES = ("fastdup==2.54",)
COMPARE = "cosine"
THRESHOLD = 0.9
THRESHOLD_SOURCE = "default of fastdup.run: threshold = 0.9"
LIMITS = "licence CC BY-NC-ND 4.0, installed by the user; searches queries and references together"
NEIGHBOURS = 20  # of each picture, queries and references; its default is 2


def run(folder: str) -> Iterator[tuple[str, str, float]]:
    """Pairs of files with their cosine, from 0 on."""
    import fastdup

    with tempfile.TemporaryDirectory() as work:
        fastdup.run(folder, work_dir=work, threshold=0.0, nearest_neighbors_k=NEIGHBOURS, num_threads=1)
        with (Path(work) / "similarity.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                yield row["from"], row["to"], float(row["distance"])
