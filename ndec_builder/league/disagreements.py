"""The pairs on which the detectors disagree most: which say copy, which do not, and what is true."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.metrics.estimates import STRATA
from ndec_builder.evaluation.predictions import Predictions
from ndec_builder.evaluation.report.gallery import Exhibit, make_exhibit


def disagreements(
    dataset: Dataset, found: Mapping[str, Predictions], thresholds: Mapping[str, float], count: int, pictures: bool
) -> list[Exhibit]:
    """`count` pairs with the most even split of votes, copies and others in turn, one per group of queries.

    A detector votes copy for a pair at or above its threshold. Ties go by pair.
    """
    size = len(dataset.references)
    said = {name: found[name].pairs(size)[found[name].scores >= limit] for name, limit in thresholds.items()}
    if len(said) < 2 or not count:
        return []
    pairs = np.unique(np.concatenate(list(said.values())))
    votes = np.array([np.isin(pairs, chosen) for chosen in said.values()])
    split = np.minimum(votes.sum(axis=0), len(votes) - votes.sum(axis=0))
    order = np.lexsort((pairs, -split))
    order = order[split[order] > 0]
    true = np.isin(pairs, dataset.truth)
    chosen: list[int] = []
    for side, most in ((true, (count + 1) // 2), (~true, count // 2)):
        groups: set[int] = set()
        for row in order[side[order]]:
            group = int(dataset.query_group[pairs[row] // size])
            if group not in groups and len(groups) < most:
                groups.add(group)
                chosen.append(int(row))
    chosen.sort(key=lambda row: (-split[row], pairs[row]))
    return [
        _exhibit(dataset, int(pairs[row]), dict(zip(said, votes[:, row].tolist(), strict=True)), pictures)
        for row in chosen
    ]


def _exhibit(dataset: Dataset, pair: int, votes: Mapping[str, bool], pictures: bool) -> Exhibit:
    query, reference = divmod(pair, len(dataset.references))
    if pair in dataset.truth:
        truth = "true: copy"
    else:
        kind, stratum = dataset.kinds[query].replace("_", " "), STRATA[dataset.stratum[query]].replace("_", " ")
        truth = f"true: no copy (query: {kind}{'' if stratum == 'none' else ', ' + stratum})"
    yes, no = ([name for name, vote in votes.items() if vote is side] for side in (True, False))
    facts = (truth, f"say copy: {', '.join(yes)}", f"do not: {', '.join(no)}")
    return make_exhibit(dataset, query, reference, facts, pictures)
