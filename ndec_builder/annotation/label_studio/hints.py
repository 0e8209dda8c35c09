"""What the computer thinks of a pair, for the page and for Label Studio: only where somebody switched it on.

A suggestion is a line of text above the pictures and a prediction with its label and score. The label is not filled in:
projects are made with `show_collab_predictions` off, since a choice that is on already biases people.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ndec_builder.annotation.decisions.clearing import slice_pairs
from ndec_builder.annotation.push_options import read_told
from ndec_builder.annotation.tables import AUDIT_ROUND, candidate_tables, cleared_by, read_gold
from ndec_builder.core.workspace import Workspace

MODEL_VERSION = "ndec-prelabel"  # the name of the predictions in Label Studio


@dataclass(frozen=True)
class Suggestion:
    """One pair's: the line on the page, and the pre-label with its confidence where there is one."""

    text: str
    label: str | None = None
    confidence: float = 0.0

    @property
    def predictions(self) -> list[dict[str, Any]]:
        """What goes to Label Studio with the task."""
        if self.label is None:
            return []
        choice = {"from_name": "verdict", "to_name": "query", "type": "choices", "value": {"choices": [self.label]}}
        return [{"model_version": MODEL_VERSION, "score": self.confidence, "result": [choice]}]


NONE = Suggestion("no suggestion for this pair")


def suggestions(workspace: Workspace, split: str, round_: str) -> dict[str, Suggestion] | None:
    """A suggestion for every pair, as the last push was told; None where none are shown.

    Never in the audit, and never for the random slice that checks auto-clearing: people judge those blind. A gold pair
    shows that of a mined pair of its kind, for there is no way to hide among suggestions without one.
    """
    told = read_told(workspace.annotation(split))
    if not told.shown or round_ == AUDIT_ROUND:
        return None
    tables = candidate_tables(workspace, split)
    found: dict[str, Suggestion] = {}
    for table in tables:
        for row in table.select(["pair_id", "rank", "score", "prelabel", "prelabel_confidence"]).to_pylist():
            found[row["pair_id"]] = _of(row)
    mined = list(found.values())
    by_label: dict[str | None, list[Suggestion]] = defaultdict(list)
    for suggestion in mined:
        by_label[suggestion.label].append(suggestion)
    for row in read_gold(workspace, split).to_pylist():
        alike = by_label.get("edited_copy" if row["truth"] == "edited_copy" else "hard_negative") or mined
        if alike:
            found[row["pair_id"]] = alike[int(row["pair_id"], 16) % len(alike)]
    return found | dict.fromkeys(
        slice_pairs(cleared_by(workspace, split, tables), told.check_above, told.check_pairs), NONE
    )


def _of(row: Mapping[str, Any]) -> Suggestion:
    text = f"rank {row['rank']} · similarity {row['score']:.3f}"
    if not row["prelabel"]:
        return Suggestion(text)
    confidence = row["prelabel_confidence"]
    return Suggestion(f"{text} · {row['prelabel']} ({confidence:.0%})", row["prelabel"], confidence)
