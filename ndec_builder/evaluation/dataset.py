"""What a detector is evaluated on: queries, references and ground truth, from a manifest or from plain folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.fingerprints import DECODE_VERSION, has_decode_version
from ndec_builder.core.schemas import IMAGES
from ndec_builder.core.storage import fingerprint, read_uri, sha256_bytes, sha256_file
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.metrics.estimates import QUERY_SUBSETS, STRATA
from ndec_builder.evaluation.predictions import Predictions
from ndec_builder.evaluation.query_kinds import read_query_kinds, settle_kinds


@dataclass(frozen=True)
class Dataset:
    """Queries and references in ascending id order; all other arrays hold row numbers of these two tables.

    queries, references: tables with at least image_id, uri, sha256 and group · kinds: (nq,) edited_copy, hard_negative,
    distractor, or `query` where a plain ground truth does not say · stratum: (nq,) int, index in STRATA · query_group:
    (nq,) int, for the bootstrap · truth: (P,) int64 pair numbers, ascending · labels_by: who decided the labels ·
    training: the training images of the manifest, used to fit a whitening; None for plain folders · dropped: (nr,)
    bool, references that are left out as twins of another one; None: none · confirmed_copies: queries that annotators
    found to be edited copies.
    """

    name: str
    queries: pa.Table
    references: pa.Table
    kinds: Sequence[str]
    stratum: np.ndarray
    query_group: np.ndarray
    truth: np.ndarray
    resolve: Callable[[str], str]
    labels_by: str
    labels_simulated: bool
    training: pa.Table | None
    dropped: np.ndarray | None = None
    confirmed_copies: int = 0

    @cached_property
    def query_ids(self) -> list[str]:
        """Ids of the queries, ascending."""
        ids: list[str] = self.queries["image_id"].to_pylist()
        return ids

    @cached_property
    def reference_ids(self) -> list[str]:
        """Ids of the references, ascending."""
        ids: list[str] = self.references["image_id"].to_pylist()
        return ids

    @property
    def subsets(self) -> tuple[str, ...]:
        """The subsets of the queries that differ in this data."""
        present = {int(stratum) for stratum in np.unique(self.stratum)}
        if present <= {0}:
            return ("all",)
        return tuple(
            name for name, strata in QUERY_SUBSETS.items() if name in ("all", "without") or present & set(strata[1:])
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that the numbers depend on: ids, contents and rotations of the images, truth, kinds."""
        tables = (self.queries, self.references)
        sides = [[table["image_id"].to_pylist(), contents_of(table, self.resolve)] for table in tables]
        rotations = [rotations_of(table) for table in tables]
        more = rotations if any(map(any, rotations)) else []  # data without rotations keep the hash they had
        more += [] if self.dropped is None else [self.dropped.tolist()]
        return fingerprint([sides, self.truth.tolist(), self.stratum.tolist(), self.query_group.tolist(), *more])

    @property
    def reference_count(self) -> int:
        """References that take part."""
        return len(self.references) - (0 if self.dropped is None else int(self.dropped.sum()))

    def is_match(self, predictions: Predictions) -> np.ndarray:
        """(m,) bool: True where a prediction is a ground-truth pair."""
        pairs = predictions.pairs(len(self.references))
        places = np.minimum(np.searchsorted(self.truth, pairs), len(self.truth) - 1)
        return self.truth[places] == pairs

    def without_prediction(self, predictions: Predictions) -> Counter[str]:
        """Kind → how many queries of it have no prediction."""
        listed = set(predictions.query.tolist())
        return Counter(kind for row, kind in enumerate(self.kinds) if row not in listed)

    def references_not_listed(self, predictions: Predictions) -> int:
        """How many references are in no row of a list that has nearly all pairs of at least half of them; else 0.

        These were not searched. A list of the best pairs says nothing about references without a row.
        """
        queries, references = len(np.unique(predictions.query)), len(np.unique(predictions.reference))
        complete = len(predictions) >= 0.9 * queries * references and 2 * references >= self.reference_count
        return max(self.reference_count - references, 0) if complete else 0

    def truth_queries(self) -> np.ndarray:
        """(P,) int64: the query of every ground-truth pair."""
        return self.truth // len(self.references)


def contents_of(images: pa.Table, resolve: Callable[[str], str]) -> list[str]:
    """What identifies the bytes of each image: sha256, or for an image that was never opened its uri and file state.

    The file state (size and time of the last change) is known for local files only: another image that a web address
    returns later is not noticed.
    """
    return [
        sha256 or _unopened(uri, resolve)
        for sha256, uri in zip(images["sha256"].to_pylist(), images["uri"].to_pylist(), strict=True)
    ]


def pictures_of(images: pa.Table, resolve: Callable[[str], str]) -> list[str]:
    """What the pixels of each image depend on, except for its rotation: its bytes, and how its format is decoded."""
    return [
        f"{content} decoding {DECODE_VERSION}" if versioned else content
        for content, versioned in zip(contents_of(images, resolve), has_decode_version(images), strict=True)
    ]


def rotations_of(images: pa.Table) -> list[int]:
    """Clockwise rotation of each image in degrees; 0 if the table has no such column."""
    if "rotation" not in images.column_names:
        return [0] * len(images)
    return [rotation or 0 for rotation in images["rotation"].to_pylist()]


def _unopened(uri: str, resolve: Callable[[str], str]) -> str:
    path = Path(resolve(uri).partition("#")[0])
    if not path.is_file():
        return uri
    state = path.stat()
    return f"{uri} {state.st_size} {state.st_mtime_ns}"


def from_manifest(directory: Path) -> Dataset:
    """The test split of a manifest. Raises NdecError if it has no positive pair or names unknown ids."""
    from ndec_builder.manifests.read import open_manifest

    manifest = open_manifest(directory)
    if not manifest.stored("queries").num_rows:
        raise NdecError(
            f"{directory} has no test set, only training tables; evaluate on a dataset that was exported without "
            "--train-only"
        )
    queries = manifest.table("queries").rename_columns({"query_id": "image_id"})
    queries, references = queries.sort_by("image_id"), manifest.table("references").sort_by("image_id")
    kinds = queries["kind"].to_pylist()
    hard_kinds = queries["hard_kind"].to_pylist()
    strata = [_stratum(kind, hard_kind) for kind, hard_kind in zip(kinds, hard_kinds, strict=True)]
    truth = manifest.table("ground_truth")
    pairs = zip(truth["query_id"].to_pylist(), truth["reference_id"].to_pylist(), strict=True)
    labels_by = _test_labels_by(manifest.info)
    return Dataset(
        directory.resolve().name, queries, references, kinds, np.array(strata, dtype=np.int64), _groups(queries),
        _truth(pairs, queries, references, str(directory)), manifest.resolve, labels_by, "simulated" in labels_by,
        manifest.table("train_basic").sort_by("image_id"), confirmed_copies=manifest.info.get("confirmed_copies") or 0,
    )  # fmt: skip


def _test_labels_by(info: dict[str, Any]) -> str:
    """Who labelled the test split; the manifest's own sentence, about both splits, where only that is known."""
    from ndec_builder.manifests.writing.lineage import annotator_names, labels_by

    said, splits = str(info.get("labels_by", "nobody named in the manifest")), info.get("lineage") or {}
    if "train" not in splits or "test" not in splits:
        return said
    test = {"test": splits["test"]}
    return said if annotator_names(test) == annotator_names(splits) else labels_by(annotator_names(test), test)


def from_folders(
    queries: Path, references: Path, ground_truth: Path, group_by: str = "auto", kinds: Path | None = None
) -> Dataset:
    """Two folders of images and a DISC21 ground truth; no table of the workspace is read or written.

    Ids are file names, or paths where names repeat. Intervals are over groups of queries by the rule `group_by`
    (docs/sources.md). kinds: csv that names hard negatives and groups (`query_kinds.py`). What a folder holds and is
    not used is printed. Raises UsageError for a missing or empty folder and for links out of it, NdecError for ids of
    the ground truth that no file has, and the errors of `query_kinds.py`.
    """
    from ndec_builder.sources.ground_truth import match_ids, read_ground_truth

    tables = [folder_table("query", queries, group_by), folder_table("reference", references, "none")]
    ids: list[list[str]] = [table["image_id"].to_pylist() for table in tables]
    rows = match_ids(read_ground_truth(ground_truth, {*ids[0], *ids[1]}), ids[0], ids[1], str(ground_truth))
    truth = _truth(rows, tables[0], tables[1], str(ground_truth))
    names = ["query"] * len(tables[0])
    strata: np.ndarray = np.zeros(len(tables[0]), dtype=np.int64)
    if kinds is not None:
        matched = {ids[0][row] for row in (truth // len(ids[1])).tolist()}
        settled, text = settle_kinds(kinds, read_query_kinds(kinds, ids[0]), ids[0], matched)
        say(text)
        names = [row.kind for row in settled]
        strata = np.array([_stratum(row.kind, row.hard_kind) for row in settled], dtype=np.int64)
        groups = [row.group or old for row, old in zip(settled, tables[0]["group"].to_pylist(), strict=True)]
        place = tables[0].column_names.index("group")
        tables[0] = tables[0].set_column(place, "group", pa.array(groups, pa.string()))
    return Dataset(
        f"{queries.name} × {references.name}", tables[0], tables[1], names, strata,
        _groups(tables[0]), truth, str, f"the ground truth {ground_truth.name}", False, None,
    )  # fmt: skip


def folder_table(role: str, folder: Path, group_by: str) -> pa.Table:
    """image_id (ascending), uri (absolute), sha256, group (null for an image that is alone in it) and rotation."""
    from ndec_builder.sources.ingest import list_source
    from ndec_builder.sources.settings import IngestConfig

    workspace = Workspace(Path().absolute())
    contents = list_source(IngestConfig(workspace.root, role, folder, group_by=group_by), workspace)
    listing = contents.listings[role]
    if listing.rejects:
        first = min(listing.rejects, key=lambda row: str(row["uri"]))
        raise UsageError(
            f"{number_of(len(listing.rejects), 'file')} of {folder} cannot be used, {first['uri']} first: "
            f"{first['reason']}; replace or remove what cannot be read"
        )
    for note in (*contents.notes, *contents.gaps, listing.note):
        if note:
            say(f"{folder}: {note}")
    images = listing.images
    sizes = Counter(images["group"].to_pylist())
    uris = [workspace.resolve(uri) for uri in images["uri"].to_pylist()]
    columns = {
        "image_id": images["image_id"],
        "uri": uris,
        "sha256": [sha256_file(Path(uri)) if Path(uri).is_file() else sha256_bytes(read_uri(uri)) for uri in uris],
        "group": [group if sizes[group] > 1 else None for group in images["group"].to_pylist()],
    }
    table = pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns]))
    return table.append_column(IMAGES.field("rotation"), images["rotation"])


def _stratum(kind: str, hard_kind: str | None) -> int:
    if kind != "hard_negative":
        return 0
    return STRATA.index(hard_kind) if hard_kind in STRATA[1:] else STRATA.index("unspecified")


def _groups(queries: pa.Table) -> np.ndarray:
    """(nq,) int64 group numbers; a query without a group forms its own."""
    names = [
        ("group", group) if group else ("query", query)
        for query, group in zip(queries["image_id"].to_pylist(), queries["group"].to_pylist(), strict=True)
    ]
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def _truth(pairs: Iterable[tuple[str, str | None]], queries: pa.Table, references: pa.Table, where: str) -> np.ndarray:
    places = [{name: i for i, name in enumerate(table["image_id"].to_pylist())} for table in (queries, references)]
    numbers = set()
    for query, reference in pairs:
        if reference is None:
            continue
        for name, known, what in ((query, places[0], "query"), (reference, places[1], "reference")):
            if name not in known:
                raise NdecError(
                    f"the ground truth {where} names the {what} {name!r}, which is not among the {len(known):,} {what} "
                    "images; an id is the file name without its extension. Fix the ground truth, or add the image"
                )
        numbers.add(places[0][query] * len(references) + places[1][reference])
    if not numbers:
        raise NdecError(f"the ground truth {where} has no positive pair; μAP is not defined without one")
    return np.array(sorted(numbers), dtype=np.int64)
