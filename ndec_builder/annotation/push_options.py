"""What `push` was told and later verbs have to know: hints.json of a split."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ndec_builder.core.storage import read_json, write_json

FILE = "hints.json"


@dataclass(frozen=True)
class Told:
    """shown: hints are on · ever_shown: they were at some push, so that labels may not be blind · check_above,
    check_pairs: where the slice that checks auto-clearing was drawn, and how many pairs; 0 before it was.
    """

    shown: bool = False
    ever_shown: bool = False
    check_above: float = 1.0
    check_pairs: int = 0


def read_told(directory: Path) -> Told:
    """What the last push into annotation/<split>/ was told; the defaults before one."""
    path = directory / FILE
    known = read_json(path) if path.is_file() else {}
    told = Told(**{name: value for name, value in known.items() if name in Told.__dataclass_fields__})
    return replace(told, ever_shown=told.ever_shown or told.shown)


def remember(directory: Path, shown: bool, above: float, check_pairs: int) -> None:
    """Keep it. That hints were shown once stays, and so does the size of a slice that was drawn."""
    before = read_told(directory)
    told = Told(shown, before.ever_shown or shown, above, check_pairs or before.check_pairs)
    write_json(directory / FILE, asdict(told))
