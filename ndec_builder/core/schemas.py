"""Every table that passes from stage to stage, as a pyarrow schema. A breaking change needs a new SCHEMA_VERSION.

The field's words everywhere: a *query* is the possible copy, a *reference* the original; a pair is directed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from ndec_builder.core.errors import NdecError
from ndec_builder.core.vocabulary import LABELS as LABELS
from ndec_builder.core.vocabulary import ROLES as ROLES
from ndec_builder.core.vocabulary import ROUNDS as ROUNDS
from ndec_builder.core.vocabulary import SPLITS as SPLITS

SCHEMA_VERSION = "1"

LICENCE_COLUMNS = ("license", "author", "author_url", "title", "original_url", "landing_url")
_LICENCE = [(name, pa.string()) for name in LICENCE_COLUMNS]


def _schema(name: str, *columns: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema(columns, metadata={"ndec_table": name, "ndec_schema_version": SCHEMA_VERSION})


IMAGES = _schema(
    "images",
    ("image_id", pa.string()),
    ("role", pa.string()),
    ("uri", pa.string()),  # posix path from the workspace, else absolute path or fsspec URI; `#…`: core/addresses.py
    ("sha256", pa.string()),  # of the image's bytes; with width, height and format null where it was never opened
    ("width", pa.int32()),  # pixels, after EXIF turning
    ("height", pa.int32()),
    ("format", pa.string()),  # PNG, JPEG, WEBP, GIF, BMP, TIFF, AVIF, HEIF, JXL or RAW (its preview)
    ("rotation", pa.int32()),  # clockwise degrees to apply on top of EXIF: 0, 90, 180, 270 (OpenImages metadata)
    *_LICENCE,
    ("group", pa.string()),  # author, burst, video …: never shared by training and test
)
REJECTS = _schema("rejects", ("image_id", pa.string()), ("uri", pa.string()), ("reason", pa.string()))
# pictures that an id of a role had before, and when an ingest put something else in its place or turned it
_SEEN = [IMAGES.field(name) for name in ("image_id", "sha256", "rotation")]
REPLACED = _schema("replaced", *_SEEN, ("until", pa.timestamp("us", "UTC")))
TWINS = _schema(
    "twins",  # images that show the same picture as another one of their role, which represents them
    ("image_id", pa.string()),
    ("representative", pa.string()),
    ("same_bytes", pa.bool_()),  # false: a near-exact duplicate, re-encoded or resized
)
EDITS = _schema(
    "edits",  # how a derived image was made: ground truth by construction
    ("image_id", pa.string()),
    ("role", pa.string()),
    ("source_id", pa.string()),
    ("source_role", pa.string()),
    ("kind", pa.string()),  # edited_copy: made from its source; reverse_crop: its source is a crop of it
    ("edit", pa.string()),  # json: recipe, seed, [{operation, parameters}]
)
PAIRS = _schema(
    "pairs",  # directed training pairs that came with a release, in its order
    ("pair_id", pa.string()),
    ("former_id", pa.string()),  # l_F, an image of the role basic
    ("latter_id", pa.string()),  # l_L, an image of the role pool: similar to l_F, but not an edited copy
)
CANDIDATES = _schema(
    "candidates",
    ("pair_id", pa.string()),
    ("split", pa.string()),
    ("query_id", pa.string()),
    ("reference_id", pa.string()),
    ("score", pa.float32()),
    ("score_normalized", pa.float32()),
    ("rank", pa.int32()),  # from 1, in the total order
    ("inliers", pa.int32()),
    ("inlier_share", pa.float32()),
    ("query_inside", pa.float32()),
    ("reference_covered", pa.float32()),
    ("seam", pa.float32()),
    ("local_correlation", pa.float32()),
    ("duplicate_of", pa.string()),  # the reference this query duplicates: same bytes, same pixels or near-exact
    ("prelabel", pa.string()),
    ("prelabel_confidence", pa.float32()),
    ("same_photo", pa.bool_()),  # one Flickr photo by the metadata: a true duplicate; null where they do not say
    ("same_author", pa.bool_()),  # a prior for a hard negative; null if unknown
)
GIVEN_LABELS = _schema(
    "given_labels",  # labels that came with a file of pairs (`ndec mine --pairs FILE --labels COLUMN`), of all files
    *[(name, pa.string()) for name in ("pair_id", "query_id", "reference_id", "label", "annotator")],  # file:NAME
    ("given_at", pa.timestamp("us", tz="UTC")),  # when the file was last changed
)
PRELABELS = _schema(
    "prelabels",  # class probabilities of each pair, learnt from the labels of other pairs (`ndec annotate relearn`)
    ("pair_id", pa.string()),
    ("edited_copy", pa.float32()),  # probabilities; the three add up to 1
    ("hard_negative", pa.float32()),
    ("unrelated", pa.float32()),
)
GEOMETRY = _schema(
    "geometry",  # alignment of the query and reference of a candidate pair; null if there is none
    ("pair_id", pa.string()),
    ("homography", pa.list_(pa.float64())),  # nine, by rows: pixels of the decoded query → of the decoded reference
    ("mirrored", pa.bool_()),  # the homography mirrors the query
    ("inliers", pa.int32()),
    ("inlier_share", pa.float32()),
    ("matches", pa.int32()),
    ("match_density", pa.float32()),
    ("query_inside", pa.float32()),
    ("reference_covered", pa.float32()),
    ("seam", pa.float32()),  # null where the reference has no border inside the query
    ("local_correlation", pa.float32()),
    ("median_correlation", pa.float32()),
    ("agreeing_share", pa.float32()),
    ("global_correlation", pa.float32()),
    ("shift", pa.float32()),
    ("perspective", pa.float32()),
    ("stretch", pa.float32()),
    ("scale", pa.float32()),
    ("epipolar_share", pa.float32()),
    ("unreadable", pa.string()),  # why a picture could not be read; null otherwise
)
_LABELLING = [(name, pa.string()) for name in ("pair_id", "round", "annotator")]
TASKS = _schema(
    "tasks",
    *_LABELLING,
    ("batch", pa.int32()),
    ("position", pa.int32()),  # order in which the annotator sees the pairs
    ("query_id", pa.string()),
    ("reference_id", pa.string()),
    ("is_gold", pa.bool_()),
)
LABEL_ROWS = _schema(
    "labels",
    *_LABELLING,
    ("label", pa.string()),
    ("seconds", pa.float32()),  # time spent on the pair, as Label Studio measured it
    ("annotated_at", pa.timestamp("us", tz="UTC")),
    ("is_gold", pa.bool_()),
    ("batch", pa.int32()),
    ("project", pa.int32()),  # Label Studio's project that the label was given in
    ("login", pa.string()),  # Label Studio's user who gave it
    ("pictures", pa.string()),  # tag of the bytes that the task showed; null: the pictures of the time annotated_at
)
PROJECT_TASKS = _schema(
    "project_tasks",  # contents of Label Studio at the last pull, to detect deletions
    ("round", pa.string()),
    ("annotator", pa.string()),
    ("project", pa.int32()),
    ("task", pa.int64()),
    ("pair_id", pa.string()),  # null for a task added by hand
    ("annotation", pa.int64()),  # the newest one, skips excluded; null: open
    ("label", pa.string()),
    ("state", pa.string()),  # id and change time of every annotation of the task, to compare with later
    ("pictures", pa.string()),  # tag of the bytes that the task was made for; null: of an older version, or unknown
)
SKIPS = _schema(
    "skips",  # append-only: pairs that an annotator skipped, and labels that were withdrawn in Label Studio
    ("seen_at", pa.timestamp("us", tz="UTC")),
    ("kind", pa.string()),  # skipped, deleted (the label), offered_again (to the same annotator, as a new task)
    *_LABELLING,
    ("label", pa.string()),  # the label that no longer counts; null when there was none
    ("label_rows", pa.int32()),  # so many label rows of this pair, round and annotator, the first ones, do not count
    ("project", pa.int32()),
    ("task", pa.int64()),
    ("annotation", pa.int64()),  # Label Studio's annotation that holds the skip
    ("at", pa.timestamp("us", tz="UTC")),  # by Label Studio's clock
    ("login", pa.string()),
)
INCIDENTS = _schema(
    "incidents",  # append-only: edits and deletions made in Label Studio itself
    ("seen_at", pa.timestamp("us", tz="UTC")),
    ("kind", pa.string()),  # annotation_…, task_…, project_…, label_…: docs/annotation.md lists them
    ("round", pa.string()),
    ("annotator", pa.string()),
    ("project", pa.int32()),
    ("task", pa.int64()),
    ("pair_id", pa.string()),
    ("label", pa.string()),  # before the change
    ("new_label", pa.string()),
    ("login", pa.string()),  # who did it, if Label Studio records it
    ("detail", pa.string()),
)
GOLD = _schema(
    "gold",  # pairs of known truth, mixed into the queues and not marked; never part of a dataset
    ("pair_id", pa.string()),
    ("query_id", pa.string()),
    ("query_role", pa.string()),  # gold: made for this pair, listed in images/gold.parquet; else an image of that role
    ("reference_id", pa.string()),
    ("reference_role", pa.string()),
    ("truth", pa.string()),  # a label, or no_copy: any label except edited_copy is correct
    ("kind", pa.string()),  # edited_copy, reverse_crop or two_crops
    ("source_id", pa.string()),  # the user's image that both pictures show
    ("source_role", pa.string()),
    ("edit", pa.string()),  # json, as in the edits table
    ("pictures", pa.string()),  # tag of the bytes that the truth is about; null: of an older version, or unknown
)
SET_ASIDE = _schema(
    "set_aside",  # append-only: labels that no longer count; their rows in labels stay
    *_LABELLING,
    ("label", pa.string()),
    ("annotated_at", pa.timestamp("us", tz="UTC")),
    ("set_aside_at", pa.timestamp("us", tz="UTC")),
    ("by", pa.string()),  # who decided it
    ("why", pa.string()),
)
CLEARED = _schema(
    "cleared",  # pairs that need no label: edited copies by the pre-label, verified on a random slice
    ("pair_id", pa.string()),
    ("probability", pa.float64()),  # of an edited copy
    ("above", pa.float64()),  # the slice was drawn among pairs of at least this probability
    ("allowed", pa.float64()),  # largest share of non-copies that the check allowed
)
POSTERIOR = _schema(
    "posterior",  # class probabilities of a labelled pair (Dawid & Skene), from all labels except the audit
    ("pair_id", pa.string()),
    *[(name, pa.float64()) for name in ("edited_copy", "hard_negative", "unrelated")],
)
DECISIONS = _schema(
    "decisions",
    ("pair_id", pa.string()),
    ("decision", pa.string()),  # a label, or null while undecided
    ("basis", pa.string()),  # agreed, double_checked, adjudicated, auto_cleared
    ("labels", pa.int32()),  # number of labels behind the decision; 0 if auto_cleared
    ("agreement", pa.float32()),  # share of them that equal the decision
)
QUERIES = _schema(
    "queries",
    ("query_id", pa.string()),
    ("kind", pa.string()),  # edited_copy, hard_negative, distractor
    ("hard_kind", pa.string()),  # natural, reverse_crop, null
    ("edit", pa.string()),
    ("group", pa.string()),
    ("uri", pa.string()),
    ("sha256", pa.string()),
    ("rotation", pa.int32()),  # as in images; 0 where the dataset packed the image upright
    *_LICENCE,
)
_IMAGE_COLUMNS: list[tuple[str, pa.DataType]] = [
    *[(name, pa.string()) for name in ("image_id", "group", "uri", "sha256")],
    ("rotation", pa.int32()),
    *_LICENCE,
]
REFERENCES = _schema("references", *_IMAGE_COLUMNS)
TRAIN_BASIC = _schema("train_basic", *_IMAGE_COLUMNS)
TRAIN_PAIR_IMAGES = _schema("train_pair_images", *_IMAGE_COLUMNS)  # images of train_pairs that are not in train_basic
GROUND_TRUTH = _schema("ground_truth", ("query_id", pa.string()), ("reference_id", pa.string()))
TRAIN_PAIRS = _schema(
    "train_pairs",
    ("pair_id", pa.string()),
    ("former_id", pa.string()),  # l_F of the paper: the basic image
    ("latter_id", pa.string()),  # l_L: similar to l_F, but not an edited copy
    ("score", pa.float32()),
    ("basis", pa.string()),
)
PREDICTIONS = _schema("predictions", ("query_id", pa.string()), ("reference_id", pa.string()), ("score", pa.float64()))

MANIFEST_TABLES: dict[str, tuple[str, pa.Schema]] = {
    # table → (split it is stored under, schema)
    "queries": ("test", QUERIES),
    "references": ("test", REFERENCES),
    "ground_truth": ("test", GROUND_TRUTH),
    "train_basic": ("train", TRAIN_BASIC),
    "train_pairs": ("train", TRAIN_PAIRS),
    "train_pair_images": ("train", TRAIN_PAIR_IMAGES),
}
TABLE_KEYS = {table: schema.names[0] for table, (_, schema) in MANIFEST_TABLES.items()}  # the first column is the key


def pair_id(split: str, query_id: str, reference_id: str) -> str:
    """Return the 16-hex-digit id of a directed pair; rerunning anything never makes a second one."""
    return hashlib.sha256("\x1f".join((split, query_id, reference_id)).encode()).hexdigest()[:16]


def table_of(schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Build a table from rows (missing keys become null). Raises NdecError for a key the schema does not have."""
    rows = list(rows)
    names = set(schema.names)
    for row in rows:
        if unknown := set(row) - names:
            raise NdecError(
                f"column {sorted(unknown)[0]!r} is not in the table {table_name(schema)!r} ({schema.names})"
            )
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table with exactly the schema's columns, order and types. Raises NdecError when one is missing."""
    if missing := [name for name in schema.names if name not in table.column_names]:
        raise NdecError(
            f"the table {table_name(schema)!r} needs the columns {schema.names}; missing: {missing}, "
            f"present: {table.column_names}"
        )
    return table.select(schema.names).cast(schema).replace_schema_metadata(schema.metadata)


def table_name(schema: pa.Schema) -> str:
    return (schema.metadata or {}).get(b"ndec_table", b"?").decode()
