"""What must hold between the tables of a dataset. Each check yields findings and knows nothing of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ndec_builder.core.schemas import pair_id
from ndec_builder.manifests.lineage import count_tables

Tables = dict[str, pa.Table]
SHOWN = 3  # ids named in a finding
KEYS = (
    ("queries", "query_id"),
    ("references", "image_id"),
    ("ground_truth", "query_id"),
    ("train_basic", "image_id"),
    ("train_pairs", "pair_id"),
    ("train_pair_images", "image_id"),
)
KINDS = ("edited_copy", "hard_negative", "distractor")
HARD_KINDS = ("natural", "reverse_crop")
TEST, TRAIN = ("queries", "references"), ("train_basic", "train_pair_images")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: a stable code, error or warning, how many rows, what and what to do."""

    code: str
    severity: str
    rows: int
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.code} {self.severity}: {self.what}; {self.remedy}"


def found(code: str, rows: list[str], what: str, remedy: str, severity: str = "error") -> Iterator[Finding]:
    """Yield one finding that names the first rows, or nothing when there are none."""
    if rows:
        names = sorted(rows)
        shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        yield Finding(code, severity, len(rows), f"{what}: {shown}", remedy)


def check_tables(tables: Tables, info: dict[str, Any]) -> Iterator[Finding]:
    """Every check on the tables of one dataset, in the order of the codes."""
    yield from check_counts(tables, info)
    yield from check_keys(tables)
    yield from check_queries(tables)
    yield from check_train_pairs(tables)
    yield from check_roles(tables)
    yield from check_licences(tables)


def check_counts(tables: Tables, info: dict[str, Any]) -> Iterator[Finding]:
    recomputed, stated = _flat(count_tables(tables)), _flat(info.get("counts", {}))
    wrong = [
        f"{name} is {recomputed.get(name, 0)}, manifest.json says {stated.get(name, 'nothing')}"
        for name in sorted(recomputed.keys() | stated.keys())
        if recomputed.get(name, 0) != stated.get(name)
    ]
    yield from found("M201", wrong, "counts differ from the tables", "export again, never edit a dataset by hand")


def check_keys(tables: Tables) -> Iterator[Finding]:
    for table, column in KEYS:
        values = tables[table][column].to_pylist()
        remedy = "give every image its own id and export again"
        if table == "ground_truth":
            remedy = "keep one reference for each query in the ground truth and export again"
        yield from found("M202", _twice(values), f"{table}.{column} holds values more than once", remedy)
        empty = [f"row {row}" for row, value in enumerate(values) if not value]
        yield from found("M203", empty, f"{table}.{column} is empty", "export again")


def check_queries(tables: Tables) -> Iterator[Finding]:
    queries, truth = tables["queries"].to_pylist(), tables["ground_truth"].to_pylist()
    query_ids = {row["query_id"] for row in queries}
    reference_ids = set(tables["references"]["image_id"].to_pylist())
    listed = {row["query_id"] for row in truth}
    with_reference = {row["query_id"] for row in truth if row["reference_id"] is not None}
    remedy = "ingest the ground truth again with all its images, then export"
    yield from found("M204", list(listed - query_ids), "ground truth of unknown queries", remedy)
    unknown = {row["reference_id"] for row in truth} - reference_ids - {None}
    yield from found("M205", list(unknown), "ground truth names unknown references", remedy)
    yield from found("M206", list(query_ids - listed), "queries without a row in the ground truth", remedy)
    if not with_reference:
        yield Finding("M207", "error", 0, "no query has a reference", "make some with `ndec edit`, or ingest your own")
    kinds = [
        row["query_id"]
        for row in queries
        if row["kind"] not in KINDS or (row["kind"] == "edited_copy") != (row["query_id"] in with_reference)
    ]
    yield from found("M208", kinds, "the kind of queries contradicts the ground truth", "export again")
    hard = [
        row["query_id"]
        for row in queries
        if (row["hard_kind"] in HARD_KINDS) != (row["kind"] == "hard_negative")
        or row["hard_kind"] not in (*HARD_KINDS, None)
    ]
    yield from found("M209", hard, "the hard_kind of queries contradicts their kind", "export again")


def check_train_pairs(tables: Tables) -> Iterator[Finding]:
    pairs = tables["train_pairs"].to_pylist()
    basic = set(tables["train_basic"]["image_id"].to_pylist())
    extra = set(tables["train_pair_images"]["image_id"].to_pylist())
    formers, latters = {row["former_id"] for row in pairs}, {row["latter_id"] for row in pairs}
    yield from found(
        "M210", list(formers - basic), "former images of train_pairs are not in train_basic", "export again"
    )
    yield from found("M211", list(latters - extra), "latter images are not in train_pair_images", "export again")
    yield from found("M212", list(extra - latters), "train_pair_images that no pair uses", "export again", "warning")
    yield from found(
        "M213", list(extra & basic), "ids in both train_basic and train_pair_images", "rename and ingest again"
    )
    turned = [row["pair_id"] for row in pairs if row["pair_id"] != pair_id("train", row["latter_id"], row["former_id"])]
    remedy = "a pair is mined as latter (pool) × former (basic) and its id is the hash of that: export again"
    yield from found("M214", turned, "pair ids do not fit the direction of their pairs", remedy)


def check_roles(tables: Tables) -> Iterator[Finding]:
    """No file in two roles, and no group on both sides. A query with the bytes of its own match is a copy."""
    queries, references = tables["queries"].to_pylist(), tables["references"].to_pylist()
    truth = dict(zip(*(tables["ground_truth"][name].to_pylist() for name in ("query_id", "reference_id")), strict=True))
    by_hash: dict[str, set[str]] = {}
    for row in references:
        by_hash.setdefault(row["sha256"], set()).add(row["image_id"])
    both = [row["query_id"] for row in queries if by_hash.get(row["sha256"], set()) - {truth.get(row["query_id"])}]
    remedy = "the query is a copy of that reference: name it in the ground truth, or take the image out"
    yield from found("M301", both, "queries have the bytes of a reference that is not their match", remedy)
    yield from found(
        "M302",
        _twice(tables["queries"]["sha256"].to_pylist()),
        "queries with the same bytes (sha256)",
        "take one of them out, or its predictions count twice",
        "warning",
    )
    for column, code, what in (("sha256", "M303", "files"), ("group", "M304", "groups")):
        test = {value for name in TEST for value in tables[name][column].to_pylist()} - {None, ""}
        for name in TRAIN:
            shared = test & set(tables[name][column].to_pylist())
            remedy = "training on queries or references is forbidden: export again, it leaves them out of training"
            yield from found(code, list(shared), f"{name} shares {what} with queries or references", remedy)


def check_licences(tables: Tables) -> Iterator[Finding]:
    for name in (*TEST, *TRAIN):
        key = tables[name].column_names[0]
        bare = [row[key] for row in tables[name].select([key, "license"]).to_pylist() if not row["license"]]
        remedy = "state it when ingesting, before you publish the dataset"
        yield from found("M401", bare, f"{name} without a licence", remedy, "warning")


def _twice(values: list[Any]) -> list[str]:
    return [str(value) for value, times in Counter(values).items() if times > 1]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {
        key: number for part in value for key, number in _flat(value[part], f"{name}.{part}" if name else part).items()
    }
