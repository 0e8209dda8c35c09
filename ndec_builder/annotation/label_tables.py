"""Pure functions on annotation tables: keys, labels that count, the newest labels, pre-labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.rows import as_values
from ndec_builder.core.vocabulary import FILE_SOURCE

AUDIT_ROUND = "audit"
_ROWS_AT_ONCE = 10_000
_REPEATED = ("round", "annotator", "label", "login")  # columns with few different values

ClassProbabilities = tuple[float, float, float]  # of dawid_skene.CLASSES
Pair = tuple[str, str, str]  # pair_id, query_id, reference_id
Key = tuple[str, str, str]  # pair_id, round, annotator


def keys(table: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    """The values of these columns row by row; without names: pair_id, round, annotator.

    A few thousand rows at a time become Python objects, so that large tables do not take ten times their memory.
    """
    for batch in table.select(list(names or ("pair_id", "round", "annotator"))).to_batches(_ROWS_AT_ONCE):
        yield from zip(*(as_values(column) for column in batch.columns), strict=True)


def compact_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with dictionary-encoded columns where values repeat: 4 bytes a row instead of the text."""
    for name in set(_REPEATED) & set(schema.names):
        encoded = schema.field(name).with_type(pa.dictionary(pa.int32(), pa.string()))
        schema = schema.set(schema.get_field_index(name), encoded)
    return schema


def of_people(table: pa.Table) -> pa.Table:
    """Tasks or labels without those of a file of pairs (`ndec mine --labels`), which has no queue and no project."""
    return table.filter(pc.invert(_of_a_file(table)))


def of_files(table: pa.Table) -> pa.Table:
    """Tasks or labels that came with a file of pairs."""
    return table.filter(_of_a_file(table))


def _of_a_file(table: pa.Table) -> pa.ChunkedArray:
    return pc.starts_with(table["annotator"].cast(pa.string()), FILE_SOURCE)


def without_set_aside(labels: pa.Table, set_aside: pa.Table) -> pa.Table:
    """Labels without every (pair, round, annotator) that was set aside, later changes included."""
    if not set_aside.num_rows:
        return labels
    excluded = set(keys(set_aside))
    return labels.filter(pa.array([key not in excluded for key in keys(labels)], pa.bool_()))


def no_gold(table: pa.Table) -> pa.Table:
    """Tasks or labels without those of gold pairs, which measure annotators and decide nothing."""
    if not pc.any(table["is_gold"]).as_py():
        return table
    return table.filter(pc.invert(table["is_gold"]))


def unmined_pairs(
    candidates: Iterable[pa.Table], labels: pa.Table, tasks: Callable[[], pa.Table]
) -> list[dict[str, str]]:
    """pair_id, query_id and reference_id of labelled pairs that are not among the mined ones, by pair_id; no gold.

    None if nothing was mined. `tasks` is called only if there are such pairs.
    """
    mined = {pair for table in candidates for pair in table["pair_id"].to_pylist()}
    wanted = set(no_gold(labels)["pair_id"].to_pylist()) - mined if mined else set()
    names = ("pair_id", "query_id", "reference_id")
    rows = {row[0]: row for row in keys(tasks(), *names) if row[0] in wanted} if wanted else {}
    return [dict(zip(names, rows[pair], strict=True)) for pair in sorted(rows)]


def newest_labels(labels: pa.Table) -> pa.Table:
    """The newest label of each (pair, round, annotator), in the table's order; without gold pairs."""
    return uncorrected(no_gold(labels))


def uncorrected(labels: pa.Table) -> pa.Table:
    """The labels that their annotators did not change later, in the table's order; gold pairs included.

    The table is append-only, so the newest label of a (pair, round, annotator) is the last row.
    """
    last = {key: row for row, key in enumerate(keys(labels))}
    return labels.take(pa.array(sorted(last.values()), pa.int64()))


def labels_by_pair(labels: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """pair_id → the newest row of each (round, annotator), sorted by these."""
    newest = {(row["pair_id"], row["round"], row["annotator"]): row for row in labels.to_pylist()}
    pairs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (pair_id, _, _), row in sorted(newest.items()):
        pairs[pair_id].append(row)
    return dict(pairs)


def with_relearnt(table: pa.Table, relearnt: Mapping[str, ClassProbabilities]) -> pa.Table:
    """A candidates table whose prelabel and prelabel_confidence come from the relearnt P(edited copy)."""
    if not relearnt:
        return table
    labels, confidences = (table[name].to_pylist() for name in ("prelabel", "prelabel_confidence"))
    for row, pair in enumerate(table["pair_id"].to_pylist()):
        if pair in relearnt:
            copy = relearnt[pair][0]
            labels[row], confidences[row] = "edited_copy" if copy >= 0.5 else "hard_negative", max(copy, 1 - copy)
    for name, values in (("prelabel", labels), ("prelabel_confidence", confidences)):
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))
    return table


def copy_probabilities(candidates: Iterable[pa.Table]) -> dict[str, float]:
    """pair_id → P(edited copy) of its pre-label; pairs without a pre-label are left out."""
    found = {}
    for table in candidates:
        for pair, label, confidence in keys(table, "pair_id", "prelabel", "prelabel_confidence"):
            if label is not None and confidence is not None:
                found[pair] = confidence if label == "edited_copy" else 1 - confidence
    return found
