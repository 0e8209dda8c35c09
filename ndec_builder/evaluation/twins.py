"""Twins: references that show the same picture. A detector that finds the other twin of a copy counts as wrong.

Twins have the same bytes, or are confirmed as near-exact duplicates as in mining (`candidates/duplicates.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ndec_builder.candidates.duplicates import VERSION, find_duplicates, report_not_compared
from ndec_builder.candidates.search.exact import pairs_above
from ndec_builder.candidates.twins import TWIN_SCORE
from ndec_builder.core.console import number_of
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import fingerprint, read_json, remove_abandoned, write_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset, pictures_of, rotations_of
from ndec_builder.evaluation.detectors.scoring import reference_vectors
from ndec_builder.evaluation.settings import BenchmarkConfig

NEIGHBOURS = 20  # closest references of each that are compared
_CACHE_VERSION = 2  # 1: pictures that could not be read counted as different
ALL_REFERENCES = 20_000  # with more, only those of the ground truth are compared with the others


@dataclass(frozen=True)
class Twins:
    """representative: (nr,) int64, for each reference the row that stands for its picture: itself without twins.

    The representative is a reference of the ground truth if the group has one, then the first by id. by_picture: False
    if there were no descriptors, so that only equal bytes were found.
    """

    representative: np.ndarray
    by_picture: bool

    @property
    def groups(self) -> list[np.ndarray]:
        """Rows of the references of each group of two or more, ascending."""
        rows, counts = np.unique(self.representative, return_counts=True)
        return [np.flatnonzero(self.representative == row) for row in rows[counts > 1]]

    def in_truth(self, dataset: Dataset) -> int:
        """How many ground-truth pairs name a reference that has a twin."""
        twinned = np.concatenate(self.groups) if self.groups else np.empty(0, np.int64)
        return int(np.isin(dataset.truth % len(dataset.references), twinned).sum())


def find_dataset_twins(config: BenchmarkConfig, workspace: Workspace, dataset: Dataset) -> Twins:
    """Find the twins among the references; comparisons of pictures are cached in the workspace."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    vectors = reference_vectors(config, workspace, dataset)
    pairs = np.array([*_equal_bytes(dataset), *_equal_pictures(workspace, dataset, vectors)], np.int64).reshape(-1, 2)
    count = len(dataset.references)
    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    group = connected_components(links, directed=False)[1]
    in_truth = np.isin(np.arange(count), dataset.truth % count)
    order = np.lexsort((np.arange(count), ~in_truth, group))  # within a group: ground truth first, then by id
    _, first = np.unique(group[order], return_index=True)
    return Twins(order[first][group], vectors is not None)


def apply_twins(dataset: Dataset, twins: Twins, how: str) -> Dataset:
    """The dataset with twins as further true references (`match`), or with one reference of each group (`drop`)."""
    count = len(dataset.references)
    queries, references = np.divmod(dataset.truth, count)
    if how == "drop":
        truth = np.unique(queries * count + twins.representative[references])
        return replace(dataset, truth=truth, dropped=twins.representative != np.arange(count))
    groups = {int(row): group for group in twins.groups for row in group}
    more = [
        query * count + twin
        for query, reference in zip(queries.tolist(), references.tolist(), strict=True)
        for twin in groups.get(reference, np.array([reference])).tolist()
    ]
    return replace(dataset, truth=np.unique(np.array(more, np.int64)))


def settle_twins(config: BenchmarkConfig, workspace: Workspace, dataset: Dataset) -> tuple[Dataset, str | None]:
    """The dataset after --twins, and what to tell people; None if no reference has a twin."""
    twins = find_dataset_twins(config, workspace, dataset)
    if not twins.groups:
        return dataset, None
    text = describe_twins(dataset, twins, config.twins)
    return apply_twins(dataset, twins, config.twins) if config.twins else dataset, text


def describe_twins(dataset: Dataset, twins: Twins, how: str | None) -> str:
    """How many twins there are, which, and what was or can be done."""
    groups, ids = twins.groups, dataset.reference_ids
    first = " = ".join(ids[row] for row in groups[0])
    found = (
        f"{number_of(sum(map(len, groups)), 'reference shows', 'references show')} the same picture as "
        f"another one ({number_of(len(groups), 'group')}, "
        f"first: {first}); {twins.in_truth(dataset)} of {len(dataset.truth)} ground-truth pairs name one of them"
    )
    found += "" if twins.by_picture else " (without descriptors only equal files are found)"
    if how == "drop":
        return f"{found}. One reference of each group was kept"
    if how == "match":
        return f"{found}. Finding any of them counts as a match"
    return (
        f"{found}. Finding the other one counts as wrong. Remove the duplicate references, or use --twins drop (keep "
        "one of each group) or --twins match (count each of them as a match)"
    )


def _equal_bytes(dataset: Dataset) -> Iterator[tuple[int, int]]:
    seen: dict[tuple[str, int], int] = {}
    rotations = rotations_of(dataset.references)
    for row, sha256 in enumerate(dataset.references["sha256"].to_pylist()):
        if sha256:
            first = seen.setdefault((sha256, rotations[row]), row)
            if first != row:
                yield first, row


def _equal_pictures(
    workspace: Workspace, dataset: Dataset, known: tuple[np.ndarray, np.ndarray] | None
) -> list[tuple[int, int]]:
    """Pairs of rows whose pictures are near-exact duplicates; known: places and vectors of the references."""
    if known is None:
        return []
    places, vectors = known
    in_truth = np.isin(places, dataset.truth % len(dataset.references))
    asked = np.flatnonzero(in_truth | (len(places) <= ALL_REFERENCES))
    if not len(asked):
        return []
    near = pairs_above(vectors[asked], vectors, TWIN_SCORE, closest=NEIGHBOURS + 1)
    one, other = places[asked[near.queries]], places[near.references]
    rows = np.unique(np.sort(np.stack([one, other], axis=1), axis=1)[one != other], axis=0)
    score = dict(
        zip(map(tuple, np.sort(np.stack([one, other], axis=1), axis=1).tolist()), near.scores.tolist(), strict=True)
    )
    contents, turned = pictures_of(dataset.references, dataset.resolve), rotations_of(dataset.references)
    key = fingerprint(
        [
            _CACHE_VERSION,
            VERSION,
            TWIN_SCORE,
            [[contents[r], turned[r], contents[s], turned[s]] for r, s in rows.tolist()],
        ]
    )
    path = workspace.root / "cache" / "twins" / f"{key}.json"
    remove_abandoned(path.parent)
    if not path.is_file():
        images = dataset.references.select(
            [name for name in ("image_id", "uri", "sha256", "rotation") if name in dataset.references.column_names]
        )
        table = {row: images.slice(row, 1).to_pylist()[0] for row in np.unique(rows).tolist()}
        pairs = [(table[r], table[s], score[r, s]) for r, s in rows.tolist()]
        marks = find_duplicates(pairs, dataset.resolve)
        report_not_compared(marks)
        if None not in marks:
            write_json(path, marks)
    else:
        marks = read_json(path)
    if not isinstance(marks, list) or len(marks) != len(rows):
        raise NdecError(f"{path} is damaged; delete it and run the same command again")
    return [(r, s) for (r, s), mark in zip(rows.tolist(), marks, strict=True) if mark]
