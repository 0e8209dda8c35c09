"""Groups of look-alikes, joined by name or structure, so that no look-alike pair crosses a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

ALIKE = 0.75  # cosine from which two pictures share a design (checked by eye: road signs, cards, flags)


def group_names(
    image_ids: Sequence[str], families: Sequence[str | None], pairs: Iterable[tuple[int, int]], scenes: set[str]
) -> list[str]:
    """Return each picture's group: connected components over equal family names and look-alike `pairs` (indices).

    A single picture is its own group, named by its id. Other groups are named `scene/` (when the component contains a
    family of `scenes`) or `family/` plus the smallest id of the component.
    """
    first: dict[str, int] = {}
    links = [(first.setdefault(name, index), index) for index, name in enumerate(families) if name is not None]
    ends = np.array([*links, *pairs], np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), bool), ends.T), shape=(len(image_ids), len(image_ids)))
    roots = connected_components(graph, directed=False)[1].tolist()
    sizes, smallest = Counter(roots), dict.fromkeys(roots, "")
    of_scene = {roots[i] for i, family in enumerate(families) if family in scenes}
    for component, image_id in zip(roots, image_ids, strict=True):
        smallest[component] = min(smallest[component] or image_id, image_id)
    return [
        image_id if sizes[component] == 1 else f"{'scene' if component in of_scene else 'family'}/{smallest[component]}"
        for component, image_id in zip(roots, image_ids, strict=True)
    ]
