"""Checks between the tables of a dataset, on columns. Each yields findings and reads no files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.addresses import without_credentials
from ndec_builder.core.schemas import TABLE_KEYS, pair_id
from ndec_builder.core.vocabulary import HARD_KINDS
from ndec_builder.manifests.arrow_ops import (
    concatenated,
    filled,
    first_of_each,
    mask,
    repeated,
    row_numbers,
    take,
    texts,
    within,
)
from ndec_builder.manifests.csv_tables import IMAGE_TABLES, SUSPECT, URL_COLUMNS
from ndec_builder.manifests.validation.findings import Finding, Tables, flag_rows
from ndec_builder.manifests.writing.lineage import count_tables, made_by_edits

BASES = ("agreed", "double_checked", "adjudicated", "auto_cleared", "ingested")
TEST_IMAGES, TRAIN_IMAGES = ("queries", "references"), ("train_basic", "train_pair_images")
_TURNS = pa.array([0, 90, 180, 270], pa.int32())
ROUNDING = 1e-3  # a cosine of float16 vectors can exceed 1 by about this


def check_tables(tables: Tables, info: dict[str, Any], form: str = "elsewhere") -> Iterator[Finding]:
    """All checks of the tables of a dataset. form: where its images are (`Manifest.form`)."""
    yield from check_counts(tables, info)
    yield from check_keys(tables)
    yield from check_queries(tables, bool(info["settings"].get("train_only")))
    yield from check_train_pairs(tables)
    yield from check_images_columns(tables, form)
    yield from check_roles(tables)
    yield from check_licences(tables)


def check_counts(tables: Tables, info: dict[str, Any]) -> Iterator[Finding]:
    recomputed, stated = _flat(count_tables(tables)), _flat(info.get("counts", {}))
    if "made_by_edits" in info:  # versions before [card] did not count them
        recomputed["made_by_edits"], stated["made_by_edits"] = made_by_edits(tables), info["made_by_edits"]
    wrong = [
        f"{name} is {recomputed.get(name, 0)}, manifest.json says {stated.get(name, 'nothing')}"
        for name in sorted(recomputed.keys() | stated.keys())
        if recomputed.get(name, 0) != stated.get(name)
    ]
    yield from flag_rows("M201", wrong)


def check_keys(tables: Tables) -> Iterator[Finding]:
    for table, name in TABLE_KEYS.items():
        column = tables[table][name].combine_chunks()
        where = f"{table}.{name}"
        yield from flag_rows("M202", repeated(column), where)
        yield from flag_rows("M203", [f"row {row}" for row in np.flatnonzero(~filled(column))], where)
        if len(column) > 1:
            turned = mask(pc.less(column[1:], column[:-1]))
            yield from flag_rows("M218", column[1:].filter(pa.array(turned)), where)


def check_queries(tables: Tables, train_only: bool) -> Iterator[Finding]:
    queries, truth = tables["queries"], tables["ground_truth"]
    ids = queries["query_id"]
    matched = truth.filter(pc.is_valid(truth["reference_id"]))
    known = within(matched["reference_id"], tables["references"]["image_id"])
    yield from flag_rows("M204", _at(truth["query_id"], ~within(truth["query_id"], ids)))
    yield from flag_rows("M205", _at(matched["reference_id"], ~known))
    yield from flag_rows("M206", _at(ids, ~within(ids, truth["query_id"])))
    if not matched.num_rows and not (train_only and not len(ids) and tables["train_basic"].num_rows):
        yield Finding("M207", 0, "")
    kind, hard_kind = queries["kind"], queries["hard_kind"]
    copies, hard = mask(pc.equal(kind, "edited_copy")), mask(pc.equal(kind, "hard_negative"))
    other = ~(copies | hard | mask(pc.equal(kind, "distractor")))
    yield from flag_rows("M208", _at(ids, other | (copies != within(ids, matched["query_id"]))))
    natural = within(hard_kind, texts(HARD_KINDS))
    yield from flag_rows("M209", _at(ids, (natural != hard) | (mask(pc.is_valid(hard_kind)) & ~natural)))
    edited = queries.filter(pc.is_valid(queries["edit"]))
    broken = [not _is_json(text) for text in edited["edit"].to_pylist()]
    yield from flag_rows("M224", _at(edited["query_id"], np.array(broken, dtype=bool)))


def check_train_pairs(tables: Tables) -> Iterator[Finding]:
    pairs = tables["train_pairs"]
    formers, latters, ids = pairs["former_id"], pairs["latter_id"], pairs["pair_id"]
    basic, extra = tables["train_basic"]["image_id"], tables["train_pair_images"]["image_id"]
    yield from flag_rows("M210", _at(formers, ~within(formers, basic)))
    yield from flag_rows("M211", _at(latters, ~within(latters, extra)))
    yield from flag_rows("M212", _at(extra, ~within(extra, latters)))
    yield from flag_rows("M213", _at(extra, within(extra, basic)))
    columns = (column.to_pylist() for column in (ids, latters, formers))
    turned = [
        name != pair_id("train", latter or "", former or "") for name, latter, former in zip(*columns, strict=True)
    ]
    yield from flag_rows("M214", _at(ids, np.array(turned, dtype=bool)))
    joint = pc.binary_join_element_wise(formers, latters, "\x1f")
    yield from flag_rows("M215", _at(ids, within(joint, pc.binary_join_element_wise(latters, formers, "\x1f"))))
    yield from flag_rows("M216", _at(ids, mask(pc.equal(formers, latters))))
    yield from flag_rows("M217", _at(ids, ~first_of_each(joint) & mask(pc.is_valid(joint))))
    score = pairs["score"].to_numpy()
    impossible = (np.isnan(score) & ~mask(pc.is_null(pairs["score"]))) | (np.abs(score) > 1 + ROUNDING)
    yield from flag_rows("M225", _at(ids, impossible | ~within(pairs["basis"], texts(BASES))))


def check_images_columns(tables: Tables, form: str) -> Iterator[Finding]:
    """Columns that describe the image file: hash, rotation, uri."""
    for name, key in IMAGE_TABLES.items():
        table = tables[name]
        ids, uri = table[key], table["uri"]
        yield from flag_rows("M219", _at(ids, ~mask(pc.match_substring_regex(table["sha256"], "^[0-9a-f]{64}$"))), name)
        turned = mask(pc.is_valid(table["rotation"])) & ~mask(pc.is_in(table["rotation"], value_set=_TURNS))
        yield from flag_rows("M226", _at(ids, turned), name)
        for column in (*URL_COLUMNS, "uri"):
            yield from flag_rows("M227", _at(ids, _with_secrets(table[column])), f"{name}.{column}")
        web = mask(pc.match_substring_regex(uri, "^https?://"))
        if form == "attribution_only":
            yield from flag_rows("M221", _at(ids, filled(uri) & ~web), name)
            urls = web | mask(pc.match_substring_regex(table["original_url"], "^https?://"))
            if name == "queries":
                urls |= filled(table["edit"])  # `ndec fetch` makes these copies again
            yield from flag_rows("M222", _at(ids, ~urls), name)
            continue
        yield from flag_rows("M220", _at(ids, ~filled(uri)), name)
        bad = mask(pc.match_substring_regex(uri, r"(^|[/:\\])\.\.([/\\]|$)")) & ~web
        if form == "folder":
            bad |= filled(uri) & ~mask(pc.starts_with(uri, f"images/{name}/"))
        elif form == "tar":
            bad |= filled(uri) & ~mask(pc.match_substring_regex(uri, rf"^images/{name}-\d+\.tar#bytes=\d+-\d+$"))
        yield from flag_rows("M223", _at(ids, bad), name)


def _with_secrets(column: pa.ChunkedArray) -> np.ndarray:
    """(n,) bool: URLs that `without_credentials` would change."""
    result = mask(pc.match_substring_regex(column, SUSPECT))
    for row in np.flatnonzero(result):
        value = column[row].as_py()
        result[row] = without_credentials(value) != value
    return result


def check_roles(tables: Tables) -> Iterator[Finding]:
    """No file in two roles, no group on both sides. A query may have the bytes of its own match."""
    queries, references, truth = tables["queries"], tables["references"], tables["ground_truth"]
    yield from flag_rows("M301", _at(queries["query_id"], _of_another_reference(queries, references, truth)))
    yield from flag_rows("M302", _again(queries, "query_id"))
    for name in ("references", *TRAIN_IMAGES):
        yield from flag_rows("M308", _again(tables[name], "image_id"), name)
    for column, code in (("sha256", "M303"), ("group", "M304")):
        test = concatenated(tables[name][column] for name in TEST_IMAGES)
        test = test.filter(pa.array(filled(test)))
        for name in TRAIN_IMAGES:
            yield from flag_rows(code, _at(tables[name]["image_id"], within(tables[name][column], test)), name)
    extra = tables["train_pair_images"]
    yield from flag_rows("M307", _at(extra["image_id"], within(extra["sha256"], tables["train_basic"]["sha256"])))


def _of_another_reference(queries: pa.Table, references: pa.Table, truth: pa.Table) -> np.ndarray:
    """(nq,) bool: True where a reference other than the query's match has its bytes."""
    hit = within(queries["sha256"], references["sha256"])
    result = np.zeros(len(queries), dtype=bool)
    if not hit.any():
        return result
    shared = references.filter(pa.array(within(references["sha256"], queries["sha256"])))
    owners: dict[str, set[str]] = {}
    for sha256, image_id in zip(shared["sha256"].to_pylist(), shared["image_id"].to_pylist(), strict=True):
        owners.setdefault(sha256, set()).add(image_id)
    place = row_numbers(queries["query_id"], truth["query_id"])
    matches = take(truth["reference_id"], place)
    for row in np.flatnonzero(hit):
        result[row] = bool(owners[queries["sha256"][row].as_py()] - {matches[row].as_py()})
    return result


def check_licences(tables: Tables) -> Iterator[Finding]:
    for name, key in IMAGE_TABLES.items():
        table = tables[name]
        yield from flag_rows("M401", _at(table[key], ~filled(table["license"])), name)
        asks = mask(pc.match_substring_regex(table["license"], "(?i)^cc[- ]by"))
        named = filled(table["author"]) & (filled(table["original_url"]) | filled(table["landing_url"]))
        yield from flag_rows("M402", _at(table[key], asks & ~named), name)


def _at(ids: pa.ChunkedArray, rows: np.ndarray) -> pa.ChunkedArray:
    return ids.filter(pa.array(rows, pa.bool_()))


def _again(table: pa.Table, key: str) -> pa.ChunkedArray:
    """Ids of rows whose bytes an earlier row of the table has."""
    return _at(table[key], ~first_of_each(table["sha256"]) & filled(table["sha256"]))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
        return True
    except ValueError:
        return False


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {
        key: number for part in value for key, number in _flat(value[part], f"{name}.{part}" if name else part).items()
    }
