"""Ids of images: the rule that `--id` chooses, the same for every kind of source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ndec_builder.core.errors import UsageError

COLUMN = "column:"
ID_NAMES = ("image_id", "id", "__key__", "key", "ImageID")


def check_rule(rule: str) -> str:
    """Return the rule in its usual form. Raises UsageError for anything but "", stem, path and column:NAME."""
    name = rule.removeprefix("column").lstrip(":= ") if rule.startswith(("column:", "column=", "column ")) else ""
    if name:
        return COLUMN + name
    if rule not in ("", "stem", "path"):
        raise UsageError(f"id {rule!r} is unknown; it is stem, path, or column:NAME with a column of the source")
    return rule


def is_missing(value: Any) -> bool:
    """Whether a table has no value: null, an empty text, or the NaN that pandas writes for it."""
    return value is None or value == "" or value != value


def choose_ids(
    rule: str, short: str, longer: Sequence[str], values: Mapping[str, Any] | None = None
) -> tuple[str, Sequence[str]]:
    """Return (the id of one image, longer ids to use when ids repeat in the source).

    short: the file name without its ending · longer: paths in the source, ascending by length · values: the metadata of
    the image, whose id column counts unless the rule says otherwise. The id is empty when a named column has no value.
    """
    if rule.startswith(COLUMN):
        value = (values or {}).get(rule.removeprefix(COLUMN))
        return ("" if is_missing(value) else str(value)), ()
    if rule == "stem":
        return short, ()
    if rule == "path":
        return (longer[0], longer[1:]) if longer else (short, ())
    for name in ID_NAMES if values else ():
        if values is not None and not is_missing(values.get(name)):
            return str(values[name]), ()
    return short, longer


def no_value(rule: str) -> str:
    """Why an image without an id is rejected."""
    return f"no value in {rule.removeprefix(COLUMN)!r}, which --id names"
