"""Which pairs need another label and which need none: the posterior of each pair against the allowed error.

The audit checks all of this: a random sample of the kept pairs, labelled without a pre-label by annotators who have not
seen them.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.decisions.binomial import clopper_pearson_upper
from ndec_builder.annotation.decisions.dawid_skene import Posterior, dawid_skene
from ndec_builder.annotation.label_tables import (
    AUDIT_ROUND,
    ClassProbabilities,
    copy_probabilities,
    keys,
    newest_labels,
)
from ndec_builder.core.schemas import LABELS

# Confidence of the two tests of `clearing_threshold`: of all pairs at once, and of thresholds from the top down.
CONFIDENCE_AT_ONCE, CONFIDENCE_IN_STEPS = 0.97, 0.98
MISSED = 0.1  # assumed highest share of pairs of the other class that a single annotator fails to notice


def draw_pairs(pair_ids: Iterable[str], count: int, salt: str = "audit") -> list[str]:
    """The first `count` pairs in a hash order: a random draw that anyone can repeat and that only grows."""
    return sorted(pair_ids, key=lambda pair: hashlib.sha256(f"{salt}\x1f{pair}".encode()).digest())[:count]


def posterior_of(
    labels: pa.Table, prior: Mapping[str, float] | Mapping[str, ClassProbabilities]
) -> tuple[list[str], Posterior]:
    """Pair ids (ascending) and their posterior, from all newest labels except the audit's, which must stay independent.

    `prior`: pair_id → P(edited copy) of the pre-label, or the probabilities of all three CLASSES; pairs that it lacks
    get the common prior.
    """
    rows = newest_labels(labels)
    rows = rows.filter(pc.not_equal(rows["round"], AUDIT_ROUND))
    pair_ids = sorted(set(rows["pair_id"].to_pylist()))
    place = {pair: number for number, pair in enumerate(pair_ids)}
    pairs = np.array([place[pair] for pair in rows["pair_id"].to_pylist()], np.int64)
    given = np.array([LABELS.index(label) for label in rows["label"].to_pylist()], np.int64)
    three = any(isinstance(value, tuple) for value in prior.values())
    unknown = (np.nan,) * 3 if three else np.nan
    believed = np.array([prior.get(pair, unknown) for pair in pair_ids])
    return pair_ids, dawid_skene(pairs, rows["annotator"].to_pylist(), given, believed)


def doubtful_pairs(pair_ids: list[str], posterior: Posterior, keep: float, discard: float) -> set[str]:
    """Pairs that need one more label: those more likely no copy with P(edited copy) above `keep`, and those more likely
    a copy with P(no copy) above `discard`.

    Only the distinction between copy and no copy can spoil a dataset: an unrelated pair that is kept is an easy
    negative, not an error. A kept copy spoils it; a discarded hard negative is one fewer, so `discard` may be larger.
    """
    copies = posterior.probabilities[:, 0]
    doubt = np.where(copies < 0.5, copies > keep, 1 - copies > discard)
    return {pair for pair, open_ in zip(pair_ids, doubt, strict=True) if open_}


def look_confidence(confidence: float, look: int) -> float:
    """Confidence of the `look`-th test (from 1) that may end in a claim: they spend 3/4, 3/16, 3/64 … of the error.

    The first one costs few pairs more than a single test would. All of them together make the error of one test. From
    the 21st on the part stays the same, 10⁻¹² of it: a confidence of 1 proves nothing.
    """
    return 1 - (1 - confidence) * 0.75 * 0.25 ** min(look - 1, 20)


def clearing_threshold(
    probabilities: np.ndarray, is_copy: np.ndarray, allowed: float, look: int = 1
) -> tuple[float, float] | None:
    """(Lowest P(edited copy) above which the checked pairs prove an error of at most `allowed`, confidence), or None.

    `probabilities` (n,) and `is_copy` (n,) bool: of pairs that were labelled without a pre-label in sight.
    Auto-clearing may only discard pairs as edited copies, so a copy below the threshold costs time and nothing else.
    First all checked pairs are tested, with CONFIDENCE_AT_ONCE. If that fails, thresholds are tried from the highest
    down, with CONFIDENCE_IN_STEPS, until the first failure (fixed-sequence testing). The chance that either test claims
    too much is at most (1 − 0.97) + (1 − 0.98) = 5 %, over all looks: people enlarge a slice that proves nothing, so
    the `look`-th size gets its part of it (`look_confidence`). None: too few checked pairs, or too many no copies.
    """
    order = np.argsort(-probabilities, kind="stable")
    scores, wrong = probabilities[order], np.cumsum(~is_copy[order])
    at_once, in_steps = (look_confidence(one, look) for one in (CONFIDENCE_AT_ONCE, CONFIDENCE_IN_STEPS))
    if len(scores) and clopper_pearson_upper(int(wrong[-1]), len(scores), at_once) <= allowed:
        return float(scores[-1]), at_once
    need = pairs_to_prove(allowed, in_steps)
    ends = np.flatnonzero(np.diff(scores, append=-np.inf)) + 1  # pairs of one score are cleared together
    best, last = None, 0
    for count in ends[ends >= need].tolist():
        if last and count - last < need // 4 and count < len(scores):
            continue  # fewer tests
        if clopper_pearson_upper(int(wrong[count - 1]), count, in_steps) > allowed:
            break
        best, last = float(scores[count - 1]), count
    return None if best is None else (best, in_steps)


def pairs_to_prove(allowed: float, confidence: float = 0.95) -> int:
    """Checked pairs that prove a rate of at most `allowed` if none of them is wrong."""
    return int(np.ceil(np.log(1 - confidence) / np.log(1 - allowed)))


def prior_of(
    candidates: Sequence[pa.Table], relearnt: Mapping[str, ClassProbabilities]
) -> dict[str, ClassProbabilities] | dict[str, float]:
    """The prior of `posterior_of` for the pairs of candidates tables."""
    first = copy_probabilities(candidates)
    if not relearnt:
        return first
    return {pair: (p, (1 - p) / 2, (1 - p) / 2) for pair, p in first.items()} | dict(relearnt)


def kept_by_one(labels: pa.Table) -> list[str]:
    """Pairs that several annotators got in one batch of the first round, the earliest label hard_negative; ascending.

    A single annotator would have kept them. They are a random share of the round's pairs. Pairs that got another label
    in a later batch are not: their first label was in doubt. Which label is the earliest only has to be chosen without
    looking at the labels, so clocks may differ, and equal times go by name.
    """
    rows = newest_labels(labels)
    rows = rows.filter(pc.equal(rows["round"], "first"))
    rows = rows.sort_by([("annotated_at", "ascending"), ("annotator", "ascending")])
    given: dict[tuple[str, int | None], list[str]] = defaultdict(list)
    for pair, batch, label in keys(rows, "pair_id", "batch", "label"):
        given[pair, batch].append(label)
    return sorted({pair for (pair, _), seen in given.items() if len(seen) >= 2 and seen[0] == "hard_negative"})


def residual_bound(kept: Iterable[str], decisions: Mapping[str, str | None]) -> dict[str, float | int | None]:
    """n kept pairs, k edited copies among them, `undecided` ones, and the one-sided 95 % Clopper–Pearson bound.

    `kept`: pairs that one annotator kept. Annotators differ about the undecided ones, so these are where copies are:
    the bound counts them as copies. It is null without a kept pair.
    """
    found = [decisions.get(pair) for pair in kept]
    copies, undecided = found.count("edited_copy"), found.count(None)
    bound = clopper_pearson_upper(copies + undecided, len(found)) if found else None
    return {"n": len(found), "k": copies, "undecided": undecided, "bound": bound}
