"""The origin of a dataset: models, mining runs, who labelled how much. No times and no paths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.decisions.annotator_quality import FAST_PACE, IMPOSSIBLE_PACE, faster_than_people
from ndec_builder.annotation.label_tables import keys, newest_labels
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.candidates.kept_queries import kept_queries
from ndec_builder.candidates.recheck import not_searched_again
from ndec_builder.core.schemas import LICENCE_COLUMNS, SPLITS
from ndec_builder.core.storage import read_json, read_table, sha256_file
from ndec_builder.core.vocabulary import FILE_SOURCE
from ndec_builder.core.workspace import Workspace, slug
from ndec_builder.manifests.arrow_ops import concatenated, filled, tally
from ndec_builder.manifests.csv_tables import IMAGE_TABLES

ORACLE = "oracle"  # the annotator that answers from the known truth, in the demo and in tests
MINING_SETTINGS = ("top", "max_per_query", "max_per_reference")
_UNKNOWN = "unknown"


def lineage(workspace: Workspace, of: Sequence[str] = SPLITS) -> dict[str, Any]:
    """Return {split: facts} for every split `of` these that was mined."""
    splits = {}
    for split in of:
        if (workspace.candidates(split) / "run.json").is_file():
            splits[split] = {**_mining(workspace, split), **_annotation(workspace, split)}
    return splits


def corpus_facts(workspace: Workspace) -> dict[str, Any] | None:
    """Counts and packages of `ndec corpus fetch`; None when the images come from elsewhere."""
    path = workspace.root / "images" / "corpus.run.json"
    if not path.is_file():
        return None
    run = read_json(path)
    return {"counts": run.get("counts") or {}, "packages": run.get("packages", [])}


def ingested_pairs(workspace: Workspace) -> dict[str, Any] | None:
    """Number of training pairs that came with another dataset, and the sha256 of their table."""
    if not workspace.pairs.is_file():
        return None
    return {"rows": read_table(workspace.pairs, ["former_id"]).num_rows, "sha256": sha256_file(workspace.pairs)}


def annotator_names(facts: dict[str, Any]) -> list[str]:
    return sorted({row["annotator"] for split in facts.values() for row in split["labels"]})


def labels_by(names: list[str], facts: dict[str, Any], pace_limit: float = IMPOSSIBLE_PACE) -> str:
    """Say whether people labelled, so that a reader never mistakes simulated labels for human ones.

    Labels that came with a file of pairs are named apart: nobody gave them with ndec.
    """
    if files := [name for name in names if name.startswith(FILE_SOURCE)]:
        others = labels_by([name for name in names if name not in files], facts, pace_limit)
        came = f"labels that came with {', '.join(name.removeprefix(FILE_SOURCE) for name in files)}"
        return came if others == "nobody" else f"{others}, and {came}"
    if ORACLE not in names:
        reports = [(split.get("agreement") or {}).get("annotators") or [] for split in facts.values()]
        if fast := sorted({name for report in reports for name in faster_than_people(report, pace_limit)}):
            return f"people and probably programs ({', '.join(fast)}: faster than a person can label)"
        return "people" if names else "nobody"
    return "known truth (simulated)" if names == [ORACLE] else "people and known truth (simulated)"


def earlier_labels_by(names: list[str], facts: dict[str, Any]) -> str:
    """What versions before the limit of `IMPOSSIBLE_PACE` wrote: their datasets stay valid."""
    return labels_by(names, facts, FAST_PACE).replace("people and probably programs", "people and programs")


def count_tables(tables: dict[str, pa.Table]) -> dict[str, Any]:
    """Every count of `manifest.json` that follows from the tables; `ndec validate` recomputes them."""
    queries = tables["queries"]
    images = {name: tables[name] for name in IMAGE_TABLES}
    return {
        "rows": {name: table.num_rows for name, table in tables.items()},
        "queries": tally(queries["kind"]),
        "hard_negatives": tally(queries["hard_kind"]),
        "positive_pairs": tables["ground_truth"].num_rows - tables["ground_truth"]["reference_id"].null_count,
        "groups": {
            name: int(pc.count_distinct(table["group"].filter(pa.array(filled(table["group"])))).as_py())
            for name, table in images.items()
        },
        "licenses": tally(concatenated(table["license"] for table in images.values()), missing=_UNKNOWN),
        "images_without_licence_columns": sum(int(bare_rows(table).sum()) for table in images.values()),
    }


def made_by_edits(tables: dict[str, pa.Table]) -> int:
    """Number of queries that recorded edits made from other images."""
    queries = tables["queries"]
    return queries.num_rows - int(queries["edit"].null_count)


def bare_rows(table: pa.Table) -> np.ndarray:
    """(n,) bool: True for images with neither a licence nor an origin."""
    said = np.zeros(table.num_rows, dtype=bool)
    for name in LICENCE_COLUMNS:
        said |= filled(table[name])
    return ~said


def _mining(workspace: Workspace, split: str) -> dict[str, Any]:
    """What run.json says of the mining. A tool that wrote the candidates in place of ndec may leave any of it out."""
    run = read_json(workspace.candidates(split) / "run.json")
    config = run.get("config") or {}
    recheck = workspace.candidates(split) / "recheck.parquet"
    return {
        "mining": {
            "model": slug(config.get("model") or "unrecorded"),  # without the path, if given as one
            "settings": {name: config.get(name) for name in MINING_SETTINGS},
            "fingerprint": run.get("fingerprint"),
            "cut": run.get("cut"),
            "counts": run.get("counts") or {},
            "weights": run.get("weights") or {},
            "candidates_sha256": sha256_file(workspace.candidates(split) / "candidates.parquet"),
            **({"pairs_from_a_file": True} if config.get("pairs") else {}),
            **({"pairs_by_local_features": True} if config.get("shortlist") == "local" else {}),
            "rechecked_pairs": read_table(recheck, ["pair_id"]).num_rows if recheck.is_file() else 0,
            **_not_rechecked(workspace, split),
        }
    }


def _not_rechecked(workspace: Workspace, split: str) -> dict[str, int]:
    """How many kept queries of the test split were not searched again in the present references; {} if none."""
    tables = AnnotationTables(workspace, split)
    if split != "test" or not tables.mined:
        return {}
    kept = kept_queries(pa.concat_tables(tables.mined), tables.decisions).kept
    missing = not_searched_again(workspace, split, kept)
    return {"queries_not_rechecked": len(missing)} if missing else {}


def _undecided(split: str, tables: AnnotationTables) -> dict[str, int]:
    """What undecided pairs cost. pairs: those without a decision, `never_assigned` among them · queries_dropped:
    queries of the test split that are left out only because of them, with `hard_negatives` pairs decided so.
    """
    if not tables.mined:
        return {"pairs": 0, "never_assigned": 0, "queries_dropped": 0, "hard_negatives": 0}
    mined = pa.concat_tables(tables.mined)
    pairs = mined.filter(pc.is_null(mined["duplicate_of"]))
    decided = dict(keys(tables.decisions, "pair_id", "decision"))
    ids = set(pairs["pair_id"].to_pylist())
    open_ = {pair for pair in ids if decided.get(pair) is None}
    lost: dict[str, str] = {}
    if split == "test":
        dropped = kept_queries(mined, tables.decisions).dropped
        lost = {query: reason for query, reason in dropped.items() if reason == "undecided"}
    hard = {
        (pair, query)
        for pair, query in keys(pairs, "pair_id", "query_id")
        if query in lost and decided.get(pair) == "hard_negative"
    }
    return {
        "pairs": len(open_),
        "never_assigned": len(open_ - set(tables.tasks["pair_id"].to_pylist())),
        "queries_dropped": len({query for _, query in hard}),
        "hard_negatives": len({pair for pair, _ in hard}),
    }


def _annotation(workspace: Workspace, split: str) -> dict[str, Any]:
    directory, tables = workspace.annotation(split), AnnotationTables(workspace, split)
    rows: Counter[tuple[str, str, str]] = Counter()
    if (directory / "labels.parquet").is_file():
        # gold pairs, labels that were sent back and labels that the annotator changed later do not count
        table = newest_labels(tables.counting_labels)
        columns = (table[name].to_pylist() for name in ("round", "annotator", "label"))
        rows.update(zip(*columns, strict=True))
    decisions: dict[str, int] = {}
    bases: dict[str, int] = {}
    per_decision: dict[str, int] = {}
    if (directory / "decisions.parquet").is_file():
        table = read_table(directory / "decisions.parquet", ["decision", "basis", "labels"])
        decisions = tally(table["decision"], missing="undecided")
        bases = tally(table["basis"])
        counted = table["labels"].filter(pc.is_valid(table["decision"]))
        per_decision = {str(labels): n for labels, n in sorted(Counter(counted.drop_null().to_pylist()).items())}
    agreement = directory / "agreement.json"
    return {
        "labels": [
            {"round": round_, "annotator": annotator, "label": label, "count": count}
            for (round_, annotator, label), count in sorted(rows.items())
        ],
        "decisions": decisions,
        "undecided": _undecided(split, tables) if decisions else None,
        "labels_per_decision": per_decision,
        "bases": bases,  # auto_cleared: nobody labelled these pairs
        "decisions_sha256": sha256_file(directory / "decisions.parquet") if decisions else None,
        "agreement": read_json(agreement) if agreement.is_file() else None,
    }
