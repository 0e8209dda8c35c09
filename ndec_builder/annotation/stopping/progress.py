"""How far the pairs that a certificate names are labelled, and whether it still holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ndec_builder.annotation.assignment.undecided_queries import pairs_of_dropped_queries
from ndec_builder.annotation.stopping.certificate import (
    HARD,
    as_table,
    first_labels,
    population,
    random_sample,
)
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.console import number_of
from ndec_builder.core.storage import fingerprint


def certificate_progress(tables: AnnotationTables) -> dict[str, Any] | None:
    """The stored certificate without its list of pairs, and what is left to do; None without a certificate.

    open: named pairs that still need a label · unkeepable: named pairs without a label whose query is dropped for an
    edited copy, so they need none (split test) · unlabelled: other pairs of the candidates, which need no label.
    stale: the candidates are no longer those of the certificate, or show other pictures (`others`: how many). changed:
    pairs of its random sample that are a hard negative now and were none, or the other way round, or have no label of
    the first round any more.
    """
    stored = tables.certificate
    if stored is None:
        return None
    pairs = population(tables)
    labelled = set(tables.counting_labels["pair_id"].to_pylist())
    named = [pair for pair in stored["to_label"] if pair not in labelled]
    dropped = pairs_of_dropped_queries(pairs, tables.decisions) if tables.split == "test" else set()
    rest = {pair for pair, _, _ in pairs} - labelled - set(stored["to_label"])
    known = stored.get("candidates")
    stale = known is not None and known != fingerprint(sorted(pair for pair, _, _ in pairs))
    others = tables.shown.others_since(as_table(pairs), stored["pictures"]) if "pictures" in stored else set()
    hidden = ("to_label", "hard_in_sample", "pictures")
    return {name: value for name, value in stored.items() if name not in hidden} | {
        "open": sum(pair not in dropped for pair in named),
        "unkeepable": sum(pair in dropped for pair in named),
        "unlabelled": len(rest),
        "stale": stale or bool(others),
        "others": len(others),
        "changed": 0 if stale else _changed(tables, stored, {pair for pair, _, _ in pairs}),
    }


def _changed(tables: AnnotationTables, stored: Mapping[str, Any], inside: set[str]) -> int:
    """Pairs of the certificate's sample whose first labels say something else now; 0 if it does not name them.

    inside: the pairs that the certificate is about.
    """
    if "hard_in_sample" not in stored:  # of an older version
        return 0
    labels, hard = first_labels(tables), set(stored["hard_in_sample"])
    sample = [pair for pair in random_sample(tables, stored["drawn"]) if pair in inside][: stored["sample"]]
    return sum(pair not in labels or (labels[pair] == HARD) != (pair in hard) for pair in sample)


def certificate_line(tables: AnnotationTables) -> str | None:
    """What is certified, or how many labels are missing, in one line; None without a certificate."""
    found = certificate_progress(tables)
    return None if found is None else certificate_text(found)


def certificate_text(found: Mapping[str, Any]) -> str:
    """The line of `certificate_progress`, with what it is based on."""
    if found.get("others"):
        return (
            f"the certificate does not hold: {found['others']:,} of its {number_of(found['pairs'], 'candidate')} "
            f"{'shows' if found['others'] == 1 else 'show'} other pictures now; push, pull and relearn, then run "
            "`ndec annotate certify --again`"
        )
    if found["stale"]:
        return (
            f"the certificate is about {number_of(found['pairs'], 'candidate')} that were mined or "
            "cleared differently; "
            "run `ndec annotate certify --again`"
        )
    if found.get("changed"):
        return (
            f"the certificate does not hold: {number_of(found['changed'], 'pair')} of its random sample "
            f"{'has' if found['changed'] == 1 else 'have'} other labels now, or none (corrected, withdrawn or sent "
            "back); when all of them are labelled again, run `ndec annotate certify --again`"
        )
    either = (
        f", or belong to a query with an edited copy ({number_of(found['unkeepable'], 'pair')})"
        if found["unkeepable"]
        else ""
    )
    statement = (
        f"at least {found['recall']:.0%} of the hard negatives among these "
        f"{number_of(found['pairs'], 'candidate')} are "
        f"labelled{either} ({found['confidence']:.0%} confidence)"
    )
    twice = " labelled so by two annotators" if found.get("confirmed") else ""
    basis = (
        f"based on {number_of(found['sample'], 'random pair')} with "
        f"{number_of(found['positives'], 'hard negative')}{twice}, up to "
        f"{found['false']} of them wrong (error {found['error']:.3f}: {found['error_source']})"
    )
    rest = f"; the other {number_of(found['unlabelled'], 'pair needs', 'pairs need')} no label" * bool(
        found["unlabelled"]
    )
    if not found["open"]:
        return f"certified: {statement}{rest}; {basis}"
    return (
        f"{found['open']:,} more labels certify that {statement}: `push --order likeliest --count {found['open']}`"
        f"{rest}; {basis}"
    )
