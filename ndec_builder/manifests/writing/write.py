"""Write every file of a dataset directory. The same selection and facts give the same bytes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.addresses import without_credentials
from ndec_builder.core.schemas import MANIFEST_TABLES, SCHEMA_VERSION
from ndec_builder.core.storage import sha256_file, write_bytes, write_json, write_table, write_text
from ndec_builder.manifests.arrow_ops import mask
from ndec_builder.manifests.csv_tables import (
    IMAGE_TABLES,
    SUSPECT,
    URL_COLUMNS,
    attribution_csv,
    ground_truth_csv,
    write_pieces,
)
from ndec_builder.manifests.pair_folders import FOLDERS
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.writing.card import card
from ndec_builder.manifests.writing.citation import citation, deposit
from ndec_builder.manifests.writing.croissant import croissant
from ndec_builder.manifests.writing.lineage import annotator_names, count_tables, labels_by, made_by_edits
from ndec_builder.manifests.writing.selection import DatasetSelection
from ndec_builder.version import __version__

Facts = dict[str, Any]


def write_dataset(
    directory: Path,
    config: ExportConfig,
    selection: DatasetSelection,
    facts: Facts,
    source: Facts | None = None,
    preset: Facts | None = None,
    ingested: Facts | None = None,
    packed: Facts | None = None,
    shards: Sequence[Path] = (),
    folders: bytes | None = None,
    cleaned: int = 0,
    hashed: Mapping[str, Any] | None = None,
) -> Facts:
    """Write every file of the dataset into `directory`, manifest.json last; returns the content of manifest.json.

    facts: lineage · source: the corpus · ingested: pairs of another dataset · packed: how the images were packed, with
    the tar files (and hashes.parquet) in `shards` · folders: the content of pair_folders.csv · cleaned: images whose
    URLs lost a password or signature · hashed: facts about hashes.parquet.
    """
    tables = without_uris(selection.tables) if config.attribution_only else selection.tables
    names = annotator_names(facts)
    counts = count_tables(tables)
    apart = packed is None and not config.attribution_only
    root = Path(os.path.relpath(config.workspace.absolute(), directory.absolute())).as_posix() if apart else "."
    form = "attribution_only" if config.attribution_only else "elsewhere"
    info: Facts = {
        "name": config.name,
        "version": config.version,
        "schema_version": SCHEMA_VERSION,
        "ndec_version": __version__,
        "description": _description(counts),
        "images_root": root,
        "images": packed or {"form": form},
        "settings": {
            "distractors": config.distractors,
            "distractors_drawn": selection.distractors_drawn,
            "distractors_compared": selection.distractors_compared,
            "confirmed_copies": config.confirmed_copies,
            "seed": config.seed,
        },
        "preset": preset,
        "counts": counts,
        "made_by_edits": made_by_edits(tables),
        "confirmed_copies": selection.confirmed_copies,
        "dropped": selection.dropped,
        "credentials_removed": cleaned,
        "lineage": facts,
        "corpus": source,
        "ingested_pairs": ingested,
        "annotators": names,
        "labels_by": labels_by(names, facts),
        "card": config.card.stated(),
        "authors": [name for part in config.authors.split(";") if (name := part.strip())],
    }
    if selection.renamed:
        info["renamed_pool_images"] = dict(sorted(selection.renamed.items()))
    if hashed:
        info |= hashed
    if config.train_only:
        info["settings"]["train_only"] = True
    paths = []
    for name, (split, _) in MANIFEST_TABLES.items():
        path = directory / "data" / name / f"{split}-00000-of-00001.parquet"
        paths.append(write_table(path, tables[name]))
    paths.append(write_pieces(directory / "ground_truth.csv", ground_truth_csv(tables["ground_truth"])))
    paths.append(write_pieces(directory / "ATTRIBUTION.csv", attribution_csv(tables)))
    if folders is not None:
        paths.append(write_bytes(directory / FOLDERS, folders))
    paths += shards
    files = {path.relative_to(directory).as_posix(): (sha256_file(path), path.stat().st_size) for path in paths}
    described = croissant(info, files)
    paths.append(write_json(directory / "croissant.json", described))
    paths.append(write_text(directory / "README.md", card(info)))
    paths.append(write_text(directory / "CITATION.cff", citation(info)))
    paths.append(write_json(directory / "zenodo.json", deposit(info)))
    for path in paths[-4:]:
        files[path.relative_to(directory).as_posix()] = (sha256_file(path), path.stat().st_size)
    info["files"] = {name: {"sha256": sha256, "bytes": size} for name, (sha256, size) in files.items()}
    write_json(directory / "manifest.json", info)
    return info


def without_secrets(tables: dict[str, pa.Table], uris: bool) -> tuple[dict[str, pa.Table], int]:
    """Take passwords and signatures out of the URLs of all image tables; returns the number of images concerned.

    `uris`: of the column `uri` too, which then serves to find the image elsewhere, not to read it.
    """
    result, count = dict(tables), 0
    for name in IMAGE_TABLES:
        changed = np.zeros(tables[name].num_rows, dtype=bool)
        for column in (*URL_COLUMNS, *(("uri",) if uris else ())):
            table = result[name]
            suspect = np.flatnonzero(mask(pc.match_substring_regex(table[column], SUSPECT)))
            if not len(suspect):
                continue
            values = table[column].to_pylist()
            for row in suspect:
                clean = without_credentials(values[row])
                changed[row] |= clean != values[row]
                values[row] = clean
            place = table.column_names.index(column)
            result[name] = table.set_column(place, table.schema.field(column), pa.array(values, pa.string()))
        count += int(changed.sum())
    return result, count


def without_uris(tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """Set every uri that is not a web address to null: the rest may be published with the ids and hashes."""
    result = dict(tables)
    for name in IMAGE_TABLES:
        table = tables[name]
        column = table.column_names.index("uri")
        kept = pc.if_else(
            pc.match_substring_regex(table["uri"], "^https?://"), table["uri"], pa.scalar(None, pa.string())
        )
        result[name] = table.set_column(column, table.schema.field(column), kept)
    return result


def _description(counts: Facts) -> str:
    kinds = counts["queries"]
    if not counts["rows"]["queries"]:
        return (
            f"Training data for image copy detection: {counts['rows']['train_basic']} images and "
            f"{counts['rows']['train_pairs']} hard negative pairs. It has no test set."
        )
    return (
        f"A benchmark for image copy detection with hard negatives: {counts['rows']['queries']} queries "
        f"({kinds.get('edited_copy', 0)} edited copies, {kinds.get('hard_negative', 0)} hard negatives, "
        f"{kinds.get('distractor', 0)} distractors) against {counts['rows']['references']} references, with "
        f"{counts['rows']['train_basic']} images and {counts['rows']['train_pairs']} hard negative pairs to train on."
    )
