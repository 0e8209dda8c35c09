"""Plans: named sets of the settings that make a labelling strategy. Light: the command line imports this at start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ndec_builder.core.config import filled_from

# What a plan sets unless it is given. `thorough` is the defaults; `economical` is the way that docs/annotation.md
# measures as `keepable`: weighted decisions, second labels only in doubt, likely copies last.
PLANS: dict[str, dict[str, Any]] = {
    "thorough": {},
    "economical": {
        "decide": "weighed",
        "discard_tolerance": 0.1,
        "double_check": "uncertain",
        "keepable": True,
        "order": "copies_last",
        "overlap": 0.0,
    },
}


def _plan_of(given: Mapping[str, Any]) -> dict[str, Any]:
    plan = dict(PLANS.get(given.get("plan", ""), {}))
    if given.get("split", "test") != "test":
        plan.pop("keepable", None)  # only valid in the split test
    return plan


with_plan = filled_from(_plan_of)  # class decorator: fields that are not given come from the config's plan
