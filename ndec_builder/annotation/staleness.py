"""Which results of a workspace were made from older inputs, by the hashes in their run records.

What no record states (a workspace of an older version, or one filled by hand) is not reported as stale.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndec_builder.annotation.records.given_labels import waiting_labels
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.candidates.input_hashes import CACHE
from ndec_builder.candidates.mining_cut import is_unfinished
from ndec_builder.core.schemas import SPLITS
from ndec_builder.core.storage import fingerprint, read_json, read_table, sha256_file
from ndec_builder.core.workspace import Workspace

RESOLVE_RECORD = "resolve.run.json"
_DECIDING = ("labels.parquet", "skips.parquet", "set_aside.parquet", "cleared.parquet")  # what decisions depend on


@dataclass(frozen=True)
class Stale:
    """A result that is older than its inputs.

    stage: its name in `ndec status` · command: makes it again · blocks: a dataset from it would be wrong.
    """

    stage: str
    result: str
    why: str
    command: str
    blocks: bool = True

    def __str__(self) -> str:
        return f"{self.result} {self.why}: run `{self.command}`"


def stale_results(workspace: Workspace) -> list[Stale]:
    """Results of mining, resolving and editing that are older than their inputs, in the order to make them again."""
    found = []
    for split in SPLITS:
        if is_unfinished(workspace.candidates(split)):
            found.append(
                Stale(
                    f"candidates {split}",
                    f"the candidates of split {split}",
                    "are of a mining that was stopped while it wrote them",
                    f"ndec mine --split {split}",
                )
            )
        if changed := changed_images(workspace, split):
            roles = " and ".join(changed)
            found.append(
                Stale(
                    f"candidates {split}",
                    f"the candidates of split {split}",
                    f"were mined before the {roles} images were ingested again",
                    f"ndec mine --split {split}",
                )
            )
        if resolved_before(workspace, split):
            found.append(
                Stale(
                    f"decisions {split}",
                    f"the decisions of split {split}",
                    "are older than its labels",
                    f"ndec annotate resolve --split {split}",
                )
            )
    if edited_before(workspace):
        found.append(
            Stale(
                "images query",
                "the edited copies",
                "were made before the reference images were ingested again",
                "ndec edit --role reference --count N",
                blocks=False,
            )
        )
    return found


def changed_images(workspace: Workspace, split: str) -> list[str]:
    """Roles whose images table changed since the split was mined."""
    directory = workspace.candidates(split)
    if not (directory / "candidates.parquet").is_file():
        return []
    hashes = _record(directory / "run.json").get("images")
    if hashes is None:  # mined by version 0.1.0, which kept them in the cache only
        hashes = {name: known[2] for name, known in _record(directory / CACHE).items()}
    names = {role: f"images/{role}.parquet" for role in ("pool", "reference" if split == "test" else "basic")}
    return [role for role, name in names.items() if name in hashes and hashes[name] != _sha256(workspace.root / name)]


def resolved_before(workspace: Workspace, split: str) -> bool:
    """Whether labels were pulled, sent back or cleared, or came with a file, since the split was resolved."""
    directory = workspace.annotation(split)
    if not (directory / "decisions.parquet").is_file():
        return False
    if waiting_labels(AnnotationTables(workspace, split)):
        return True
    record = _record(directory / RESOLVE_RECORD) or _record(directory / "run.json")
    if record.get("stage") != "annotate resolve":
        return False
    hashes = record.get("inputs", {})
    return any(hashes.get(name) != _sha256(directory / name) for name in _DECIDING)


def edited_before(workspace: Workspace) -> bool:
    """Whether the reference images changed since `ndec edit` made copies of them."""
    known = _record(workspace.files("query") / "run.json").get("inputs", {}).get("reference")
    if known is None or not workspace.images("reference").is_file():
        return False
    return bool(known != fingerprint(read_table(workspace.images("reference"), ["sha256"])["sha256"].to_pylist()))


def _record(path: Path) -> dict[str, Any]:
    value = read_json(path) if path.is_file() else {}
    return value if isinstance(value, dict) else {}


def _sha256(path: Path) -> str | None:
    return sha256_file(path) if path.is_file() else None
