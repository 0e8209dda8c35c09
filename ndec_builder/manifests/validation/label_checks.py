"""Checks against the labels of the workspace that a dataset was exported from, where it can be found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.candidates.candidate_table import all_candidates
from ndec_builder.core.schemas import CANDIDATES
from ndec_builder.core.workspace import Workspace
from ndec_builder.manifests.arrow_ops import concatenated, mask, row_numbers, take, texts, within
from ndec_builder.manifests.read import Manifest
from ndec_builder.manifests.validation.findings import Finding, Tables, flag_rows
from ndec_builder.manifests.writing.labelled_pairs import former_pairs


def check_labels(manifest: Manifest, tables: Tables) -> Iterator[Finding]:
    """No query contradicts a label or decision of the workspace at `images_root`; nothing without one.

    A query that was ingested, not taken from the pool, is compared with nothing: other images may have its id. A pool
    image that got another id in the dataset (`renamed_pool_images`) is compared under its own.
    """
    workspace = Workspace(manifest.directory / manifest.info["images_root"])
    if manifest.form != "elsewhere" or not workspace.annotation("test").is_dir():
        return
    queries = tables["queries"]
    pool = workspace.read_images("pool") if workspace.images("pool").is_file() else None
    if pool is None:
        return
    renamed = manifest.info.get("renamed_pool_images", {})
    queries = queries.append_column("pool_id", _workspace_ids(queries["query_id"], renamed))
    rows = take(pool["sha256"], row_numbers(queries["pool_id"], pool["image_id"]))
    queries = queries.filter(pa.array(mask(pc.equal(rows, queries["sha256"]))))
    names = ("distractor", "hard_negative", "edited_copy")
    kinds = {kind: queries.filter(pc.equal(queries["kind"], kind)) for kind in names}
    labelled = _labelled(workspace, ("edited_copy", "hard_negative"))
    hashes = pool["sha256"].filter(pa.array(within(pool["image_id"], labelled)))
    drawn = kinds["distractor"]
    bad = within(drawn["pool_id"], labelled) | within(drawn["sha256"], hashes)
    yield from flag_rows("M313", drawn["query_id"].filter(pa.array(bad)))
    pairs = _decided(workspace)
    copies = pairs.filter(pc.equal(pairs["decision"], "edited_copy"))
    hard = kinds["hard_negative"]
    yield from flag_rows("M314", hard["query_id"].filter(pa.array(within(hard["pool_id"], copies["query_id"]))))
    truth = tables["ground_truth"]
    truth = truth.filter(pa.array(within(truth["query_id"], kinds["edited_copy"]["query_id"])))
    no_copies = pairs.filter(pc.is_in(pairs["decision"], value_set=texts(["hard_negative", "unrelated"])))
    named = pa.table({"query_id": _workspace_ids(truth["query_id"], renamed), "reference_id": truth["reference_id"]})
    yield from flag_rows("M315", truth["query_id"].filter(pa.array(within(_joint(named), _joint(no_copies)))))


def _labelled(workspace: Workspace, labels: tuple[str, ...]) -> pa.ChunkedArray:
    """Pool images of the pairs that got one of these labels from anyone, set aside or not."""
    tables = AnnotationTables(workspace, "test")
    given = tables.labels.filter(pc.is_in(tables.labels["label"], value_set=texts(labels)))
    return tables.tasks["query_id"].filter(pa.array(within(tables.tasks["pair_id"], given["pair_id"])))


def _joint(table: pa.Table) -> pa.ChunkedArray:
    return concatenated([pc.binary_join_element_wise(table["query_id"], table["reference_id"], "\x1f")])


def _workspace_ids(ids: pa.ChunkedArray, renamed: Mapping[str, str]) -> pa.ChunkedArray:
    """The ids that these have in the workspace. `renamed`: id in the dataset → id in the workspace."""
    own = take(texts(renamed.values()), row_numbers(ids, texts(renamed)))
    return concatenated([pc.coalesce(own, ids)])


def _decided(workspace: Workspace) -> pa.Table:
    """Pairs of split test with their decision: query_id, reference_id, decision."""
    decisions = AnnotationTables(workspace, "test").decisions
    mined = all_candidates(workspace, "test") if workspace.candidate_files("test") else CANDIDATES.empty_table()
    pairs = pa.concat_tables([mined, former_pairs(workspace, "test", mined, quiet=True)])
    place = row_numbers(pairs["pair_id"], decisions["pair_id"])
    pairs = pairs.select(["query_id", "reference_id"]).append_column("decision", take(decisions["decision"], place))
    return pairs.filter(pc.is_valid(pairs["decision"]))
