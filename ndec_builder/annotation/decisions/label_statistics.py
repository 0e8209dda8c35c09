"""Which pairs need another look, and which need none: the posterior of each pair against the error that is allowed.

The audit is the check on all of it: kept pairs drawn at random, labelled without pre-label by people who have not seen
them.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from ndec_builder.annotation.decisions.binomial import clopper_pearson_upper
from ndec_builder.annotation.decisions.dawid_skene import Posterior, dawid_skene
from ndec_builder.annotation.tables import AUDIT_ROUND, Three, copy_probabilities, newest
from ndec_builder.core.schemas import LABELS

WHOLE, PARTS = 0.97, 0.98  # confidence of the two tests of `clearing_threshold`
MISSED = 0.1  # share of the pairs of the other kind that one person may at most take for what they are taken for


def draw(pair_ids: Iterable[str], count: int, salt: str = "audit") -> list[str]:
    """The first `count` pairs in the order of a hash: a random draw that anyone can repeat and that only grows."""
    return sorted(pair_ids, key=lambda pair: hashlib.sha256(f"{salt}\x1f{pair}".encode()).digest())[:count]


def posterior_of(labels: pa.Table, prior: Mapping[str, float] | Mapping[str, Three]) -> tuple[list[str], Posterior]:
    """Pair ids (ascending) and their posterior, from all newest labels but those of the audit, which has to stay apart.

    `prior`: by pair P(edited copy) of the pre-label, or the probabilities of all three CLASSES; pairs without one have
    the common prior.
    """
    rows = newest(labels)
    rows = rows.filter(pa.array([name != AUDIT_ROUND for name in rows["round"].to_pylist()], pa.bool_()))
    pair_ids = sorted(set(rows["pair_id"].to_pylist()))
    place = {pair: number for number, pair in enumerate(pair_ids)}
    pairs = np.array([place[pair] for pair in rows["pair_id"].to_pylist()], np.int64)
    given = np.array([LABELS.index(label) for label in rows["label"].to_pylist()], np.int64)
    three = any(isinstance(value, tuple) for value in prior.values())
    unknown = (np.nan,) * 3 if three else np.nan
    believed = np.array([prior.get(pair, unknown) for pair in pair_ids])
    return pair_ids, dawid_skene(pairs, rows["annotator"].to_pylist(), given, believed)


def doubtful(pair_ids: list[str], posterior: Posterior, keep: float, discard: float) -> set[str]:
    """Pairs that one more person looks at: what is taken for no copy is one with a probability above `keep`, or what is
    taken for a copy is none with one above `discard`.

    Only copy or not can spoil a dataset: an unrelated pair kept as a hard negative is an easy negative, no error. A
    copy that is kept spoils it; a hard negative that is discarded is one fewer, so `discard` may be larger.
    """
    copies = posterior.probabilities[:, 0]
    doubt = np.where(copies < 0.5, copies > keep, 1 - copies > discard)
    return {pair for pair, open_ in zip(pair_ids, doubt, strict=True) if open_}


def clearing_threshold(probabilities: np.ndarray, is_copy: np.ndarray, allowed: float) -> tuple[float, float] | None:
    """(The lowest P(edited copy) above which the checked pairs show an error of at most `allowed`, confidence it holds
    with), or None when none is proven: there are too few checked pairs, or too many of them are no copies.

    `probabilities` (n,) and `is_copy` (n,) bool are those of pairs that people judged without seeing a pre-label.
    Auto-clearing may only discard pairs as edited copies, so copies below the threshold cost time and nothing else.
    First all checked pairs are tested, with confidence WHOLE. Where they fail, thresholds are tried from the highest
    down, with confidence PARTS, and the first failure ends it (fixed-sequence testing). Both together claim too much
    in at most 1 − WHOLE + 1 − PARTS = 5 % of the cases.
    """
    order = np.argsort(-probabilities, kind="stable")
    scores, wrong = probabilities[order], np.cumsum(~is_copy[order])
    if len(scores) and clopper_pearson_upper(int(wrong[-1]), len(scores), WHOLE) <= allowed:
        return float(scores[-1]), WHOLE
    need = pairs_to_prove(allowed, PARTS)
    ends = np.flatnonzero(np.diff(scores, append=-np.inf)) + 1  # pairs of one score are cleared together
    best, last = None, 0
    for count in ends[ends >= need].tolist():
        if last and count - last < need // 4 and count < len(scores):
            continue  # fewer looks
        if clopper_pearson_upper(int(wrong[count - 1]), count, PARTS) > allowed:
            break
        best, last = float(scores[count - 1]), count
    return None if best is None else (best, PARTS)


def pairs_to_prove(allowed: float, confidence: float = 0.95) -> int:
    """Checked pairs that prove a rate of at most `allowed` when none of them is wrong."""
    return int(np.ceil(np.log(1 - confidence) / np.log(1 - allowed)))


def prior_of(tables: Sequence[pa.Table], relearnt: Mapping[str, Three]) -> dict[str, Three] | dict[str, float]:
    """The prior of `posterior_of` for the pairs of candidates tables."""
    first = copy_probabilities(tables)
    if not relearnt:
        return first
    return {pair: (p, (1 - p) / 2, (1 - p) / 2) for pair, p in first.items()} | dict(relearnt)


def kept_by_one(labels: pa.Table) -> list[str]:
    """Pairs that two or more people labelled in the first round, and whose first label was hard_negative.

    What one person alone would have kept: the audited slice of a round with overlap, a random share of the pairs.
    """
    rows = newest(labels)
    rows = rows.filter(pa.array([name == "first" for name in rows["round"].to_pylist()], pa.bool_()))
    rows = rows.sort_by([("annotated_at", "ascending"), ("annotator", "ascending")])
    given: dict[str, list[str]] = defaultdict(list)
    for pair, label in zip(rows["pair_id"].to_pylist(), rows["label"].to_pylist(), strict=True):
        given[pair].append(label)
    return sorted(pair for pair, seen in given.items() if len(seen) >= 2 and seen[0] == "hard_negative")


def residual_bound(kept: Iterable[str], verdicts: Mapping[str, str | None]) -> dict[str, float | int | None]:
    """n audited kept pairs, k of them edited copies, and the one-sided 95 % Clopper–Pearson bound of their rate.

    `kept`: pairs that were decided hard_negative before the audit. `bound` is null without an audited pair.
    """
    audited = [verdicts[pair] for pair in kept if verdicts.get(pair) is not None]
    copies = sum(label == "edited_copy" for label in audited)
    bound = clopper_pearson_upper(copies, len(audited)) if audited else None
    return {"n": len(audited), "k": copies, "bound": bound}
