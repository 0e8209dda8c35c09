"""difPy: mean squared error of pictures scaled to 50 × 50 pixels, over four rotations."""

from __future__ import annotations

from collections.abc import Iterator

REQUIRES = ("difPy==4.2.1",)
COMPARE = "distance"
THRESHOLD = 5
THRESHOLD_SOURCE = "similarity='similar' is a mean squared error of at most 5"
LIMITS = "blind to crops and mirror images; it looks at all pairs of a folder"
LEVELS = (5, 100, 1000)  # difPy lists each picture in one group only, so a pair found at a strict level may be lost


def run(folder: str) -> Iterator[tuple[str, str, float]]:
    """Pairs of files with their mean squared error."""
    import difPy

    pictures = difPy.build(folder, show_progress=False, processes=1)
    for level in LEVELS:
        found = difPy.search(pictures, similarity=level, same_dim=False, show_progress=False, processes=1)
        for left, matches in found.result.items():
            for right, error in matches:
                yield str(left), str(right), float(error)
