"""Mining: the global top pairs of pool × reference (split test) or pool × basic (split train), for annotators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.candidates.contact_sheet import write_contact_sheet
from ndec_builder.candidates.geometry_table import GEOMETRY_FILE, add_geometry
from ndec_builder.candidates.rows import GALLERY, Side, candidate_table, load_sides
from ndec_builder.candidates.search import top_pairs
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.candidates.splits import OtherSplit, count_reasons, mined_first, near_duplicates, skip_reasons
from ndec_builder.core.config import result_fields
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.locks import one_writer
from ndec_builder.core.runs import RunRecord
from ndec_builder.core.storage import fingerprint, read_json, read_table, write_table
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 2  # 2: geometry


@one_writer(lambda config: Workspace(config.workspace).candidates(config.split))
def run(config: MineConfig) -> Path:
    """Mine one split; return candidates/<split>/ with candidates.parquet, contact_sheet.html and run.json.

    Folders given are ingested and embedded first. The same inputs and settings again do no work. Raises UsageError for
    settings out of range, NdecError for an empty side or embeddings that do not fit together.
    """
    _check(config)
    record = RunRecord("mine", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.candidates(config.split)
    _ingest(config)
    pool, gallery, background = load_sides(workspace, config.split, config.model)
    first = mined_first(workspace, config.split)
    closed, closed_hashes = _closed(workspace, config.split)
    inputs = {side.role: side.fingerprint for side in (pool, gallery, background) if side is not None}
    mark = fingerprint(
        {
            "settings": result_fields(config) | {"split": config.split},
            "version": RESULT_VERSION,
            "inputs": inputs,
            "skip": first.fingerprint if first else None,
            "closed": sorted(closed | closed_hashes),
            "images": {side.role: _identity(side) for side in (pool, gallery)},
        }
    )
    if _is_done(directory, mark):
        say(f"{directory}: mined already with these settings and inputs; nothing to do")
        return directory
    gallery, gallery_reasons = _open_part(gallery, closed, closed_hashes)
    pool, pool_reasons = _pool_part(workspace, pool, first, closed)
    pairs = top_pairs(
        pool.ids,
        pool.vectors,
        gallery.ids,
        gallery.vectors,
        top=config.top,
        max_per_query=config.max_per_query,
        max_per_reference=config.max_per_reference,
        block=config.block,
    )
    if len(pairs) < config.top:
        say(
            f"asked for {config.top} pairs; only {len(pairs)} exist under --max-per-query {config.max_per_query} and "
            f"--max-per-reference {config.max_per_reference}, with {len(pool.ids)} pool and {len(gallery.ids)} "
            f"{gallery.role} images"
        )
    table = candidate_table(workspace, config.split, pairs, (pool, gallery), background)
    (directory / GEOMETRY_FILE).unlink(missing_ok=True)  # of an earlier mining
    if config.geometry:
        table = add_geometry(workspace, config.split, table, name=GEOMETRY_FILE, workers=config.workers)
    write_table(directory / "candidates.parquet", table)
    _write_sheet(workspace, config.split, table, pool, gallery)
    scores = table["score"].to_pylist()
    record.write(
        directory,
        counts={
            "pairs": len(scores),
            "asked": config.top,
            "pool": len(pool.ids),
            gallery.role: len(gallery.ids),
            "duplicates": len(scores) - table["duplicate_of"].null_count,
            "fitted": sum((inliers or 0) > 0 for inliers in table["inliers"].to_pylist()),
            "queries": len(set(table["query_id"].to_pylist())),
            "pool_skipped": count_reasons(pool_reasons),
            f"{gallery.role}_skipped": count_reasons(gallery_reasons),
        },
        inputs=inputs,
        weights=read_json(workspace.embeddings("pool", config.model) / "run.json").get("weights", {}),
        fingerprint=mark,
        skipped={"split": first.split, "fingerprint": first.fingerprint} if first else None,
        cut=scores[-1],
        mean_score=sum(scores) / len(scores),
        background=background.role if background else None,
    )
    say(f"{directory}: {len(scores)} pairs, scores {scores[0]:.4f} … {scores[-1]:.4f}")
    return directory


def _check(config: MineConfig) -> None:
    if config.split not in GALLERY:
        raise UsageError(f"--split {config.split!r} is unknown; it is one of {', '.join(GALLERY)}")
    for name, lowest in (("top", 1), ("max_per_query", 0), ("max_per_reference", 0), ("block", 1), ("workers", 0)):
        if getattr(config, name) < lowest:
            raise UsageError(f"{name} is {getattr(config, name)}; it must be at least {lowest}")


def _ingest(config: MineConfig) -> None:
    if config.pool is None and config.references is None:
        return
    from ndec_builder.sources.ingest import run as ingest
    from ndec_builder.sources.settings import IngestConfig

    for role, folder in (("pool", config.pool), (GALLERY[config.split], config.references)):
        if folder is not None:
            ingest(IngestConfig(workspace=config.workspace, role=role, source=folder))


def _closed(workspace: Workspace, split: str) -> tuple[set[str], set[str]]:
    """Groups and file hashes of the references: training pairs from them would be left out of every manifest anyway."""
    if split != "train" or not workspace.images("reference").is_file():
        return set(), set()
    table = workspace.read_images("reference")
    return set(table["group"].to_pylist()) - {None, ""}, set(table["sha256"].to_pylist()) - {None}


def _open_part(gallery: Side, closed: set[str], hashes: set[str]) -> tuple[Side, dict[str, str]]:
    reasons = {
        image_id: "group of a reference" if row["group"] in closed else "same bytes as a reference"
        for image_id, row in gallery.rows.items()
        if row["group"] in closed or row["sha256"] in hashes
    }
    left = gallery.without(reasons)
    if not left.ids:
        raise NdecError(
            f"every {gallery.role} image has the bytes or the group of a reference, so none may be trained on; "
            f"ingest other images with `ndec ingest {gallery.role} FOLDER`"
        )
    return left, reasons


def _pool_part(
    workspace: Workspace, pool: Side, first: OtherSplit | None, closed: set[str]
) -> tuple[Side, dict[str, str]]:
    """Leave out what the split mined first used, its duplicates and groups. Raises NdecError when nothing is left."""
    used = first.used if first else frozenset()
    reasons = skip_reasons(pool.rows, used, closed)
    near = near_duplicates(pool.rows, pool.ids, pool.vectors, used, workspace.resolve)
    reasons |= dict.fromkeys(near - set(reasons), "duplicate of an image used by the other split")
    left = pool.without(reasons)
    if not left.ids:
        raise NdecError(
            f"no pool image is left to mine: {count_reasons(reasons)}; ingest more with `ndec ingest pool FOLDER`, "
            f"or mine the first split again with a smaller --top"
        )
    return left, reasons


def _identity(side: Side) -> str:
    """What mining reads of the images beside their vectors."""
    return fingerprint([(i, side.rows[i]["sha256"], side.rows[i]["group"], side.rows[i]["rotation"]) for i in side.ids])


def _is_done(directory: Path, mark: str) -> bool:
    files = [directory / name for name in ("run.json", "candidates.parquet", "contact_sheet.html")]
    if not all(path.is_file() for path in files) or read_json(files[0]).get("fingerprint") != mark:
        return False
    read_table(files[1], ["pair_id"])  # a broken file must not pass as done
    return True


def _write_sheet(workspace: Workspace, split: str, table: pa.Table, pool: Side, gallery: Side) -> None:
    rows: list[dict[str, Any]] = table.to_pylist()
    roles = ("query (pool)", "reference") if split == "test" else ("latter (pool)", "former (basic)")
    write_contact_sheet(
        workspace.candidates(split) / "contact_sheet.html",
        rows,
        pool.rows,
        gallery.rows,
        workspace.resolve,
        title=f"Mined pairs, split {split}",
        roles=roles,
    )
