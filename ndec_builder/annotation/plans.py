"""Plans: named sets of the settings that make a labelling strategy. Light: the command line imports this at start."""

from __future__ import annotations

import functools
import inspect
from dataclasses import fields
from typing import Any, TypeVar

from ndec_builder.core.config import Config

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
_ConfigT = TypeVar("_ConfigT", bound=Config)


def with_plan(cls: type[_ConfigT]) -> type[_ConfigT]:
    """Fill the fields that are not given from the config's plan; a field that is given wins, even with its default."""
    make = cls.__init__
    signature, names = inspect.signature(make), {field.name for field in fields(cls)}  # type: ignore[arg-type]

    @functools.wraps(make)
    def init(self: _ConfigT, *values: Any, **named: Any) -> None:
        given = signature.bind(self, *values, **named).arguments
        plan = {name: value for name, value in PLANS.get(given.get("plan", ""), {}).items() if name in names}
        if given.get("split", "test") != "test":
            plan.pop("keepable", None)  # only valid in the split test
        make(**(plan | given))

    cls.__init__ = init  # type: ignore[method-assign, assignment]
    return cls
