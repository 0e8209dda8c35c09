"""Draw distractors that are not close to a reference: a copy among them would be a wrong negative."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import pyarrow as pa

from ndec_builder.manifests.arrow_ops import ArrowColumn

# why an unmined pool image is no distractor
GROUPED, CLOSE = "group_of_a_training_image_or_reference", "unlabelled_and_close_to_a_reference"
_COMPARED = 1000  # images compared at a time, at least
FindClose = Callable[[Collection[str]], set[str]]  # which of these pool images reach the mining cut with a reference


def below_the_cut(ids: ArrowColumn, count: int, seed: int, find_close: FindClose | None) -> tuple[np.ndarray, int]:
    """Rows of the first `count` images of a random order that stay below the mining cut, and how many were passed over.

    A smaller count gives a start of the rows for a larger one.
    """
    order = np.random.default_rng(seed).permutation(len(ids))
    if find_close is None:
        return order[:count], 0
    chosen: list[int] = []
    passed = 0
    step = max(count, _COMPARED)
    for start in range(0, len(order), step):
        part = order[start : start + step]
        close = find_close(ids.take(pa.array(part)).to_pylist())
        for row in part.tolist():
            if len(chosen) == count:
                return np.array(chosen), passed
            if ids[row].as_py() in close:
                passed += 1
            else:
                chosen.append(row)
    return np.array(chosen, dtype=np.int64), passed
