"""cleanvision's exact and near duplicates: pictures with the same pHash. It decides and gives no score."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

REQUIRES = ("cleanvision==0.3.7",)
COMPARE = "decision"
THRESHOLD = 1
THRESHOLD_SOURCE = "its sets of duplicates are its answer"
LIMITS = "no score, so no threshold can be chosen"


def run(folder: str) -> Iterator[tuple[str, str, float]]:
    """Pairs of files in the same set of duplicates."""
    from cleanvision import Imagelab

    lab = Imagelab(data_path=folder)
    lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, n_jobs=1, verbose=False)
    for kind in ("exact_duplicates", "near_duplicates"):
        for names in lab.info[kind]["sets"]:
            for left, right in itertools.combinations(names, 2):
                yield left, right, 1.0
