"""Two halves of the groups, one for tuning and one for evaluation, defined by a hash of the group name."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pyarrow as pa

from ndec_builder.evaluation.dataset import Dataset

HALF_NAMES = ("tuned", "untouched")


def half_of_group(group: str) -> str:
    return "tuned" if int(hashlib.sha256(group.encode()).hexdigest(), 16) % 2 == 0 else "untouched"


def query_groups(data: Dataset) -> list[str]:
    """The group of each query, or its id where it has none."""
    return [g or q for g, q in zip(data.queries["group"].to_pylist(), data.query_ids, strict=True)]


def in_half(data: Dataset, half: str) -> np.ndarray:
    """(nq,) bool: the queries whose group is in a half; `all` takes every query."""
    return np.array([half in ("all", half_of_group(name)) for name in query_groups(data)], dtype=bool)


def restricted(data: Dataset, half: str) -> Dataset:
    """The dataset with the queries of one half of the groups; all references stay."""
    keep = in_half(data, half)
    place = np.cumsum(keep) - 1
    queries, references = np.divmod(data.truth, len(data.references))
    kept = keep[queries]
    return replace(
        data,
        name=f"{data.name}, {half} groups",
        queries=data.queries.filter(pa.array(keep)),
        kinds=[kind for kind, there in zip(data.kinds, keep, strict=True) if there],
        stratum=data.stratum[keep],
        query_group=np.unique(data.query_group[keep], return_inverse=True)[1],
        truth=place[queries[kept]] * len(data.references) + references[kept],
    )
