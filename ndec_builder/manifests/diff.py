"""`ndec diff A B`: what changed between two versions of a dataset, and whether the version says so."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.schemas import MANIFEST_TABLES, TABLE_KEYS
from ndec_builder.manifests.arrow_ops import mask, row_numbers, within
from ndec_builder.manifests.read import Manifest, open_manifest
from ndec_builder.manifests.settings import SEMANTIC, DiffConfig
from ndec_builder.manifests.validation.findings import MAX_EXAMPLES

LEVELS = ("none", "patch", "minor", "major")
TEST_TABLES = ("queries", "references", "ground_truth")
# columns that can change a result on the test set or a training run
DECIDING = {
    "queries": ("kind", "hard_kind", "group", "sha256", "rotation"),
    "references": ("sha256", "rotation"),
    "ground_truth": ("reference_id",),
    "train_basic": ("group", "sha256", "rotation"),
    "train_pairs": ("former_id", "latter_id"),
    "train_pair_images": ("group", "sha256", "rotation"),
}
_SHOWN = 3
_PreRelease = tuple[tuple[int, int, str], ...]
_RELEASE: _PreRelease = ((2, 0, ""),)  # sorts after its pre-releases
NOT_COMPARED = ("files", "name", "version")  # hashes follow from the rest; name and version are printed first


@dataclass(frozen=True)
class TableChange:
    """Rows by key: numbers added, removed and changed, examples of each, and rows per changed column."""

    table: str
    added: int
    removed: int
    changed: int
    columns: dict[str, int]
    examples: dict[str, list[str]]

    @property
    def level(self) -> str:
        """major: results on the test set can differ · minor: the training side changed · patch: the rest."""
        if not (self.added or self.removed or self.changed):
            return "none"
        deciding = self.added or self.removed or set(self.columns) & set(DECIDING[self.table])
        if not deciding:
            return "patch"
        return "major" if self.table in TEST_TABLES else "minor"


@dataclass(frozen=True)
class Changes:
    """info: flat key of manifest.json → (before, after); None where it is missing."""

    before: Manifest
    after: Manifest
    tables: list[TableChange]
    info: dict[str, tuple[Any, Any]]

    @property
    def needed(self) -> str:
        """The part of the version that must be raised: the highest level of all changes."""
        levels = [change.level for change in self.tables] + (["patch"] if self.info else [])
        if "schema_version" in self.info:
            levels.append("major")
        return max(levels, key=LEVELS.index, default="none")

    @property
    def differ(self) -> bool:
        """Whether the content differs; the version of ndec that wrote it is no content."""
        return any(change.level != "none" for change in self.tables) or bool(self.info.keys() - {"ndec_version"})

    @property
    def adequate(self) -> bool:
        """Whether the version was raised enough. Below 1.0.0 a minor is enough; between pre-releases any change is."""
        old, new = (version_key(manifest.info.get("version")) for manifest in (self.before, self.after))
        if old is None or new is None:
            return False
        if self.needed == "none":
            return new >= old
        if new[:3] == old[:3]:
            return new[3] > old[3]  # 1.0.0-rc1 → 1.0.0-rc2 → 1.0.0
        raised = next(level for level, a, b in zip(("major", "minor", "patch"), old, new, strict=False) if a != b)
        required = "minor" if self.needed == "major" and old[0] == 0 else self.needed
        return new[:3] > old[:3] and LEVELS.index(raised) >= LEVELS.index(required)

    def as_dict(self) -> dict[str, Any]:
        return {
            "before": {name: self.before.info.get(name) for name in ("name", "version")},
            "after": {name: self.after.info.get(name) for name in ("name", "version")},
            "tables": {change.table: {**vars(change), "level": change.level} for change in self.tables},
            "manifest": {key: {"before": old, "after": new} for key, (old, new) in self.info.items()},
            "needed": self.needed,
            "adequate": self.adequate,
        }

    def as_text(self) -> str:
        old, new = (f"{m.info.get('name')} {m.info.get('version')}" for m in (self.before, self.after))
        lines = [f"{old} → {new}"]
        for change in self.tables:
            if change.level == "none":
                continue
            lines.append(
                f"{change.table}: {change.added:,} added, {change.removed:,} removed, {change.changed:,} changed"
            )
            lines += [f"  {kind}: {', '.join(names[:_SHOWN])}" for kind, names in change.examples.items() if names]
            lines += [f"  column {name}: {rows:,} rows" for name, rows in change.columns.items()]
        lines += [f"{key}: {_short(old)} → {_short(new)}" for key, (old, new) in self.info.items()]
        if self.needed == "none":
            lines.append("nothing changed")
        verdict = "is raised enough" if self.adequate else "is NOT raised enough"
        return "\n".join([*lines, f"version: these changes need {self.needed}; it {verdict}"])


def run(config: DiffConfig) -> Changes:
    """Compare two dataset directories. Raises NdecError when one is not a dataset or has an unreadable table."""
    before, after = open_manifest(config.before), open_manifest(config.after)
    tables = [_compare(name, before.stored(name), after.stored(name)) for name in MANIFEST_TABLES]
    flat = [_flat({k: v for k, v in m.info.items() if k not in NOT_COMPARED}) for m in (before, after)]
    keys = sorted(flat[0].keys() | flat[1].keys())
    info = {key: (flat[0].get(key), flat[1].get(key)) for key in keys if flat[0].get(key) != flat[1].get(key)}
    return Changes(before, after, tables, info)


def _compare(name: str, before: pa.Table, after: pa.Table) -> TableChange:
    key = TABLE_KEYS[name]
    added, removed = ~within(after[key], before[key]), ~within(before[key], after[key])
    place = row_numbers(before[key], after[key])
    old = before.filter(pa.array(place >= 0))
    new = after.take(pa.array(place[place >= 0]))
    columns, any_changed = {}, np.zeros(old.num_rows, dtype=bool)
    for column in old.column_names:
        same = mask(pc.equal(old[column], new[column])) | (
            mask(pc.is_null(old[column])) & mask(pc.is_null(new[column]))
        )
        if not same.all():
            columns[column] = int((~same).sum())
            any_changed |= ~same
    rows = {"added": after[key].filter(pa.array(added)), "removed": before[key].filter(pa.array(removed))}
    rows["changed"] = old[key].filter(pa.array(any_changed))
    examples = {kind: sorted(values.slice(0, MAX_EXAMPLES).to_pylist()) for kind, values in rows.items()}
    return TableChange(name, int(added.sum()), int(removed.sum()), int(any_changed.sum()), columns, examples)


def next_version(version: str, needed: str) -> str:
    """The next semantic version after a change of one of LEVELS. Below 1.0.0 a minor is enough for a major change.

    >>> next_version("1.2.3", "minor"), next_version("0.2.0", "major"), next_version("2.0.0-rc1", "patch")
    ('1.3.0', '0.3.0', '2.0.0')
    """
    major, minor, patch, rest = version_key(version) or (0, 0, 0, _RELEASE)
    if rest != _RELEASE:
        return f"{major}.{minor}.{patch}"
    if needed == "major" and major:
        return f"{major + 1}.0.0"
    return f"{major}.{minor + 1}.0" if needed in ("major", "minor") else f"{major}.{minor}.{patch + 1}"


def version_key(text: Any) -> tuple[int, int, int, _PreRelease] | None:
    """A version as something to compare: numbers in a pre-release count as numbers, so rc10 comes after rc2."""
    match = re.fullmatch(SEMANTIC, text) if isinstance(text, str) else None
    if match is None:
        return None
    parts = re.findall(r"[0-9]+|[^0-9.]+", match[4][1:]) if match[4] else []
    rest = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
    return int(match[1]), int(match[2]), int(match[3]), rest or _RELEASE


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {name: value}
    parts: dict[str, Any] = {}
    for key, part in value.items():
        parts |= _flat(part, f"{name}.{key}" if name else str(key))
    return parts


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "…"
