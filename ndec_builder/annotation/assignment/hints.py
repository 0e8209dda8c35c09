"""Suggestions for pairs, on the page and as predictions in Label Studio: only if hints are switched on.

A suggestion is a line of text above the pictures and a prediction with a label and a score. It does not preselect a
choice, because that biases people: projects are made with `show_collab_predictions` off.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ndec_builder.annotation.decisions.clearing import slice_pairs
from ndec_builder.annotation.label_tables import AUDIT_ROUND
from ndec_builder.annotation.tables import AnnotationTables

MODEL_VERSION = "ndec-prelabel"  # the name of the predictions in Label Studio


@dataclass(frozen=True)
class Suggestion:
    """The line on the page for one pair, and its pre-label with confidence if it has one."""

    text: str
    label: str | None = None
    confidence: float = 0.0

    @property
    def predictions(self) -> list[dict[str, Any]]:
        """The predictions that are imported with the task."""
        if self.label is None:
            return []
        choice = {"from_name": "verdict", "to_name": "query", "type": "choices", "value": {"choices": [self.label]}}
        return [{"model_version": MODEL_VERSION, "score": self.confidence, "result": [choice]}]


NO_SUGGESTION = Suggestion("no suggestion for this pair")


def suggestions(tables: AnnotationTables, round_: str) -> dict[str, Suggestion] | None:
    """A suggestion for every pair, if the last push switched hints on; None if none are shown.

    The audit and the random slice that checks auto-clearing never show one: they are labelled blind. A gold pair shows
    the suggestion of a mined pair of the same kind, because a pair without one would stand out.
    """
    options = tables.options
    if not options.shown or round_ == AUDIT_ROUND:
        return None
    found: dict[str, Suggestion] = {}
    for table in tables.candidates:
        for row in table.select(["pair_id", "rank", "score", "prelabel", "prelabel_confidence"]).to_pylist():
            found[row["pair_id"]] = _of(row)
    mined = list(found.values())
    by_label: dict[str | None, list[Suggestion]] = defaultdict(list)
    for suggestion in mined:
        by_label[suggestion.label].append(suggestion)
    for row in tables.gold.to_pylist():
        alike = by_label.get("edited_copy" if row["truth"] == "edited_copy" else "hard_negative") or mined
        if alike:
            found[row["pair_id"]] = alike[int(row["pair_id"], 16) % len(alike)]
    return found | dict.fromkeys(
        slice_pairs(tables.cleared_by, options.check_above, options.check_pairs), NO_SUGGESTION
    )


def _of(row: Mapping[str, Any]) -> Suggestion:
    text = f"rank {row['rank']} · similarity {row['score']:.3f}"
    if not row["prelabel"]:
        return Suggestion(text)
    confidence = row["prelabel_confidence"]
    return Suggestion(f"{text} · {row['prelabel']} ({confidence:.0%})", row["prelabel"], confidence)
