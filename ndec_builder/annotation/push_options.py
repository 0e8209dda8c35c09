"""Options of earlier pushes that later commands need: hints.json of a split."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ndec_builder.core.storage import read_json, write_json

OPTIONS_FILE = "hints.json"


@dataclass(frozen=True)
class PushOptions:
    """What the last push was given; the defaults before the first one."""

    shown: bool = False  # hints are shown on the page
    ever_shown: bool = False  # hints were shown at some push: labels may have been influenced
    check_above: float = 1.0  # the slice that checks auto-clearing was drawn above this P(edited copy) …
    check_pairs: int = 0  # … and has this many pairs; 0 before it was drawn
    check_sizes: tuple[int, ...] = ()  # sizes of all slices that were drawn: each is one more look at the labels
    check_slice: str = ""  # fingerprint of the last one
    sample: int = 0  # pairs of the random sample that certify uses; 0 before `push --sample`
    # every `--which` of the double-checks so far; "keepable": with that option; "unknown": by an older ndec
    double_checked: tuple[str, ...] = ()
    decide: str = ""  # how labels become decisions, in the last push of a later round; empty before one
    narrowing: dict[str, Any] = field(default_factory=dict)  # of the last push of the first round; {}: not known
    left: tuple[str, ...] = ()  # annotators who left (`ndec annotate leave`) and were not named by a push since

    def after_push(
        self, hints_shown: bool, check_above: float, check_pairs: int, named: Collection[str] = (), sample: int = 0
    ) -> PushOptions:
        """The options after a push. `ever_shown`, a slice that was drawn and the largest sample stay."""
        return replace(
            self,
            shown=hints_shown,
            ever_shown=self.ever_shown or hints_shown,
            check_above=check_above if check_pairs else self.check_above,
            check_pairs=check_pairs or self.check_pairs,
            sample=max(sample, self.sample),
            left=tuple(name for name in self.left if name not in named),
        )

    def after_slice(self, pairs: Sequence[str]) -> PushOptions:
        """The options after a push that gave this slice to annotators; the same slice again is no new look."""
        found = hashlib.sha256("\x1f".join(pairs).encode()).hexdigest()
        same = self.check_slice == found or (not self.check_slice and self.check_sizes == (len(pairs),))
        sizes = self.check_sizes if same else (*self.check_sizes, len(pairs))
        return replace(self, check_sizes=sizes, check_slice=found)

    def after_double_check(self, which: str, earlier: bool) -> PushOptions:
        """The options after a double-check of these pairs (`--which`); `earlier`: there was one before."""
        known = self.double_checked or (("unknown",) if earlier else ())
        return replace(self, double_checked=tuple(sorted({*known, which})))

    @property
    def drawn_rounds(self) -> tuple[str, ...]:
        """Rounds whose pairs were not chosen by a label."""
        return ("first", "double_check") if self.double_checked == ("all",) else ("first",)


def read_push_options(directory: Path) -> PushOptions:
    """The options kept in annotation/<split>/."""
    path = directory / OPTIONS_FILE
    known = read_json(path) if path.is_file() else {}
    options = PushOptions(**{name: value for name, value in known.items() if name in PushOptions.__dataclass_fields__})
    ever_shown, left = options.ever_shown or options.shown, tuple(options.left)
    sizes = tuple(options.check_sizes) or (
        (options.check_pairs,) if options.check_pairs else ()
    )  # of an older ndec: ()
    return replace(
        options, ever_shown=ever_shown, left=left, double_checked=tuple(options.double_checked), check_sizes=sizes
    )


def write_push_options(directory: Path, options: PushOptions) -> None:
    write_json(directory / OPTIONS_FILE, asdict(options))
