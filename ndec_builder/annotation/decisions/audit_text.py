"""What is said about an audit: the lines for the terminal and the card, and the bound that a dataset publishes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ndec_builder.annotation.decisions.audit import GOAL, Audit, pairs_to_watch
from ndec_builder.annotation.decisions.label_statistics import MISSED
from ndec_builder.core.console import number_of


def audit_text(audit: Audit) -> str:
    """One line for the terminal: what was found, the bound, and how many more pairs the goal needs."""
    later = ""
    if audit.later:
        later = (
            f"; {number_of(audit.later, 'pair')} of an earlier draw {'does' if audit.later == 1 else 'do'} not count, "
            "because pairs that are kept since then come before them in the random order: run `ndec annotate audit`, "
            "with more --pairs if need be, which draws those too"
        )
    if not audit.drawn and later:
        return f"audit: nothing is known about the {audit.kept:,} kept hard negatives{later}"
    if not audit.drawn:
        return (
            f"audit: none yet of the {audit.kept:,} kept hard negatives; `ndec annotate audit` with annotators who "
            "have not seen them bounds the share of edited copies among them"
        )
    by = " by two" if audit.judges > 1 else ""
    text = (
        f"audit: {audit.audited:,} of {audit.drawn:,} sampled pairs re-labelled{by}, "
        f"{number_of(audit.copies, 'edited copy')}, "
        f"{audit.doubtful} doubtful (they count as copies)"
    )
    if audit.skipped:
        text += f", {audit.skipped} skipped or withdrawn (until they are labelled, they count as copies too)"
    if audit.bound is None:
        return text + later
    most = audit.watched_bound if audit.watched_bound is not None else audit.bound
    text += f": at most {most:.2%} of the {audit.kept:,} kept hard negatives are edited copies (one-sided 95 %"
    text += f", if an annotator overlooks at most {MISSED:.0%} of the copies)"
    if audit.weighted:
        return text + "; doubtful pairs were drawn more often; stop whenever the bound is low enough" + later
    text += "; you may stop now or enlarge the sample"
    if audit.bound < most:
        text += f" ({audit.bound:.2%} if its size was fixed before the first label)"
    if most > GOAL and (need := pairs_to_watch(audit.copies + audit.doubtful, audit.kept)):
        text += f"; {GOAL:.0%} needs up to {number_of(need, 'audited pair')} and no further copy"
    return text + later


def published_bound(audit: Mapping[str, Any]) -> tuple[float, str] | None:
    """(Bound, how it may be read) of an audit in agreement.json; None without an audited pair.

    People look at an audit and enlarge it until the bound is low enough, so a dataset states the one that allows that.
    Audits of earlier versions have only the bound of a fixed size.
    """
    if (watched := audit.get("watched_bound")) is not None:
        return watched, "one-sided 95 % bound, valid however often people looked"
    return None if audit["bound"] is None else (audit["bound"], "one-sided 95 % bound for a size fixed in advance")


def card_text(audit: Mapping[str, Any]) -> str | None:
    """The sentences of a dataset's card about an audit in agreement.json; None without a bound."""
    if not (published := published_bound(audit)):
        return None
    bound, meaning = published
    text = (
        f"Audit: {audit['audited']:,} of the {audit['kept']:,} kept hard negatives, drawn at random, were re-labelled "
        f"by {'two other annotators' if audit.get('judges', 1) > 1 else 'another annotator'} without a pre-label: "
        f"{number_of(audit['copies'], 'edited copy')}, {audit['doubtful']:,} doubtful; these were removed. "
    )
    if skipped := audit.get("skipped", 0):  # audits of earlier versions do not count them
        text += f"The auditor skipped {skipped:,} more: they are kept and count as copies. "
    return text + (
        f"At most {bound:.2%} of the kept hard negatives are copies ({meaning}, doubtful pairs counted as copies; "
        f"assumption: an annotator misses at most {audit.get('missed_at_most', 0):.0%} of the copies)."
    )
