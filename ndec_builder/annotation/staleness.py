"""Which results of a workspace were made from older inputs, by the hashes in their run records.

What no record states (a workspace of an older version, or one filled by hand) is not reported as stale.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.assignment.replaced_pairs import no_longer_cleared
from ndec_builder.annotation.decisions.audit import kept_pairs
from ndec_builder.annotation.label_tables import keys, without_set_aside
from ndec_builder.annotation.records.given_labels import waiting_labels
from ndec_builder.annotation.stopping.progress import certificate_progress
from ndec_builder.annotation.tables import RELEARNT_FILE, AnnotationTables
from ndec_builder.candidates.input_hashes import CACHE
from ndec_builder.candidates.mining_cut import is_unfinished
from ndec_builder.candidates.settings import GALLERY
from ndec_builder.core.schemas import SPLITS
from ndec_builder.core.storage import fingerprint, read_json, read_table, sha256_file
from ndec_builder.core.workspace import Workspace

RESOLVE_RECORD = "resolve.run.json"
REPLACED_LABELS, STATEMENTS = "labels of replaced pictures", "audit and certificate"  # among the inputs in that record
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
        if why := older_decisions(workspace, split):
            found.append(
                Stale(
                    f"decisions {split}",
                    f"the decisions of split {split}",
                    why,
                    f"ndec annotate resolve --split {split}",
                )
            )
        elif relearnt_since(workspace, split):
            found.append(
                Stale(
                    f"decisions {split}",
                    f"the weighed decisions of split {split}",
                    "were made before `relearn` changed the pre-labels",
                    f"ndec annotate resolve --split {split}",
                    blocks=False,
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


def older_decisions(workspace: Workspace, split: str) -> str:
    """What changed since the split was resolved, empty if nothing: labels were pulled, sent back or cleared, or came
    with a file, pictures that people labelled were replaced, or the audit and the certificate, which a dataset
    publishes with the decisions, were about other pairs.
    """
    directory = workspace.annotation(split)
    if not (directory / "decisions.parquet").is_file():
        return ""
    labels, tables = "are older than its labels", AnnotationTables(workspace, split)
    if waiting_labels(tables):
        return labels
    record = _record(directory / RESOLVE_RECORD) or _record(directory / "run.json")
    if record.get("stage") != "annotate resolve":
        return ""
    hashes = record.get("inputs", {})
    if any(hashes.get(name) != _sha256(directory / name) for name in _DECIDING):
        return labels
    if hashes.get(REPLACED_LABELS) != replaced_labels(tables):
        return "were made before pictures of decided pairs changed"
    same = STATEMENTS not in hashes or hashes[STATEMENTS] == statements(tables)
    return "" if same else "come with an audit or a certificate of other pairs than those of today"


def relearnt_since(workspace: Workspace, split: str) -> bool:
    """Whether `relearn` changed the pre-labels that weighed decisions were made with."""
    directory = workspace.annotation(split)
    record = _record(directory / RESOLVE_RECORD)
    weighed = (record.get("config") or {}).get("decide") == "weighed" and (directory / "decisions.parquet").is_file()
    return weighed and record.get("inputs", {}).get(RELEARNT_FILE) != _sha256(directory / RELEARNT_FILE)


def statements(tables: AnnotationTables) -> str | None:
    """Fingerprint of what the audit and the certificate are about; None without them.

    Labels are not all that they depend on: pairs are mined later, and images removed.
    """
    audited = (tables.directory / "audit.json").is_file()
    if not tables.mined or not (audited or tables.certificate):
        return None
    known = pa.concat_tables([*tables.mined, tables.former])
    kept = kept_pairs(known, tables.decisions, tables.split) if audited else []
    return fingerprint([kept, certificate_progress(tables)])


def replaced_labels(tables: AnnotationTables) -> str | None:
    """Fingerprint of the labels that do not count because a picture was replaced since, and of the pairs that are no
    longer auto-cleared because of that; None if there are none.
    """
    roles = ("pool", GALLERY[tables.split])
    if not any(tables.workspace.replaced_images(role).is_file() for role in roles):
        return None
    given = without_set_aside(tables.valid_labels, tables.set_aside)
    lost = given.filter(pa.array(tables.shown.former_labels(given)))
    found: list[tuple[str, ...]] = sorted(set(keys(lost, "pair_id", "round", "label")))
    found += [(pair,) for pair in no_longer_cleared(tables)]
    return fingerprint(found) if found else None


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
