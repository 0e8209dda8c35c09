"""`ndec ingest ROLE SOURCE`: list the images of a source in images/<role>.parquet."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.console import counted_reasons, number_of, say
from ndec_builder.core.errors import GapsError, UsageError
from ndec_builder.core.locks import locked
from ndec_builder.core.run_record import RunRecord, added_to
from ndec_builder.core.schemas import GROUND_TRUTH, REJECTS, table_of
from ndec_builder.core.storage import (
    forget_cells,
    read_json,
    read_table,
    sha256_file,
    sync_folder,
    write_json,
    write_table,
)
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.detect_kind import guess_kind, table_of_downloads
from ndec_builder.sources.ground_truth import Match, check_added, check_ids, match_ids, read_ground_truth
from ndec_builder.sources.inspect_images import RESULT_VERSION, close, open_listing, write_images
from ndec_builder.sources.late_inspection import opened_path
from ndec_builder.sources.listing import Listing, SourceContents
from ndec_builder.sources.pictures_over_time import record_replaced
from ndec_builder.sources.places import with_groups
from ndec_builder.sources.replaced import earlier_rejects, find_forgotten, merge, unusable_ids
from ndec_builder.sources.settings import IngestConfig, check_source

_MODULES = {
    # kind: module of `sources/readers` with `find(config, workspace) -> SourceContents`
    "folder": "folder", "list": "image_list", "imagefolder": "folder", "tar": "tar", "parquet": "parquet",
    "hf": "huggingface", "openimages": "openimages", "disc21": "disc21", "ndec": "ndec_release", "copydays": "copydays",
}  # fmt: skip


@dataclass(frozen=True)
class Written:
    """The result for one role."""

    path: Path
    images: int
    total: int  # usable and rejected images of the source
    rejects: list[dict[str, Any]]
    all_rejects: int  # also those of the ingests that this one adds to
    notes: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()


def run(config: IngestConfig) -> Path:
    """Write images/<role>.parquet (schema IMAGES, ascending image_id), <role>-rejects.parquet and <role>.run.json.

    A source with a ground truth or directed pairs also fills images/ground_truth.parquet and images/pairs.parquet.
    Returns the table, or the folder of the tables for role `all`. Raises UsageError for a source that is
    missing, empty or repeats an id, NdecError for an invalid ground truth, and GapsError (exit 3, everything written)
    when something that the source names is missing or more than `max_reject_share` of the images are unusable.
    """
    config = _with_kind(config)
    workspace, record = Workspace(config.workspace), RunRecord("ingest", config, RESULT_VERSION)
    if config.kind == "openimages" and (streamed := _stream(config, workspace, record)) is not None:
        return streamed
    forget_cells()
    found = list_source(config, workspace)
    truth, inputs = found.truth, dict(found.inputs)
    if config.ground_truth is not None:
        ids = {image_id for known in _known_ids(found, workspace, config) for image_id in known or ()}
        truth = read_ground_truth(config.ground_truth, ids)
        inputs[config.ground_truth.name] = sha256_file(config.ground_truth)
    if truth is not None:
        queries, references = _known_ids(found, workspace, config)
        truth = match_ids(truth, queries, references)
        check_ids(truth, queries, references)  # before anything is opened or written
        if config.add and workspace.ground_truth.is_file():
            check_added(truth, read_table(workspace.ground_truth))
    written = {role: _write_role(role, listing, found, config, workspace) for role, listing in found.listings.items()}
    gaps = [*found.gaps, *(gap for result in written.values() for gap in result.gaps)]
    if truth is not None:
        truth = _write_truth(truth, written, config, workspace, gaps)
    if found.pairs is not None:
        _write_pairs(found.pairs, written, config, workspace, gaps)
    shared = [note for note in found.notes if note]
    for note in shared:
        say(f"{config.source}: {note}")
    for role, result in written.items():
        counts = {"images": result.images, "rejects": result.all_rejects, "ground_truth": 0}
        if role == "query":
            counts["ground_truth"] = len(truth or ())
        if found.pairs is not None:
            counts["pairs"] = found.pairs.num_rows
        notes = [*shared, *(note for note in (found.listings[role].note, *result.notes) if note)]
        name = f"{role}.run.json"
        earlier = added_to(result.path.with_name(name)) if config.add else []
        more: dict[str, Any] = {"gaps": gaps, "notes": notes} | ({"earlier": earlier} if earlier else {})
        record.write(result.path.parent, counts=counts, inputs=inputs, name=name, **more)
        _waiting_gaps(workspace, role).unlink(missing_ok=True)
        for note in notes[len(shared) :]:
            say(f"{role}: {note}")
        say(f"ingest {role}: {number_of(result.images, 'image')}, {len(result.rejects)} rejected{_why(result)}")
    _report(written, gaps, config)
    target = next(iter(written.values())).path
    return target if config.role != "all" else target.parent


def list_source(config: IngestConfig, workspace: Workspace) -> SourceContents:
    """What a source holds, with ids and groups; opens no image except for capture times. Raises UsageError as `run`."""
    config = _with_kind(config)
    finder: Callable[[IngestConfig, Workspace], SourceContents] = importlib.import_module(
        f"ndec_builder.sources.readers.{_MODULES[config.kind]}"
    ).find
    found = finder(config, workspace)
    grouped = {role: with_groups(listing, config, workspace) for role, listing in found.listings.items()}
    return replace(found, listings=grouped)


def _with_kind(config: IngestConfig) -> IngestConfig:
    """The config with the kind of the source, checked. Raises UsageError."""
    if not str(config.source):
        raise UsageError("the source is empty; give a folder, a file, a pattern or a URI")
    if not config.kind:
        config = replace(config, kind=guess_kind(config.source))
        if config.kind == "folder" and (table := table_of_downloads(Path(config.source))) is not None:
            config = replace(config, kind="parquet", source=table)
    check_source(config)
    return config


def _stream(config: IngestConfig, workspace: Workspace, record: RunRecord) -> Path | None:
    """A bare OpenImages csv has nine million rows, which are sorted on disk. None: its images must be opened."""
    from ndec_builder.sources.readers.openimages_csv import is_bare, stream

    if not is_bare(config):
        return None
    role, path = config.role, workspace.images(config.role)
    with locked(path):
        coming = path.with_name(f"{role}-coming.parquet")
        counts, inputs = stream(config, workspace, coming)
        notes, gaps = _put_in_place(role, coming, SourceContents({}), config, workspace)
    record.write(path.parent, counts=counts, inputs=inputs, name=f"{role}.run.json", gaps=[*gaps], notes=notes)
    _waiting_gaps(workspace, role).unlink(missing_ok=True)
    for note in notes:
        say(f"{role}: {note}")
    say(f"ingest {role}: {number_of(counts['images'], 'image')} listed, none opened")
    if gaps:
        raise GapsError(". ".join(gaps))
    return path


def _known_ids(found: SourceContents, workspace: Workspace, config: IngestConfig) -> tuple[list[str], list[str] | None]:
    """The ids that a ground truth may name: (queries, references; None where no references are known yet)."""
    queries = _listed(found.listings["query"]) if "query" in found.listings else []
    if config.add and workspace.images("query").is_file():
        queries += workspace.read_images("query")["image_id"].to_pylist()
    references = _listed(found.listings["reference"]) if "reference" in found.listings else None
    if workspace.images("reference").is_file() and (references is None or config.add):
        references = (references or []) + workspace.read_images("reference")["image_id"].to_pylist()
    return queries, references


def _listed(listing: Listing) -> list[str]:
    return [*listing.images["image_id"].to_pylist(), *(row["image_id"] for row in listing.rejects)]


def _write_role(
    role: str, listing: Listing, found: SourceContents, config: IngestConfig, workspace: Workspace
) -> Written:
    with locked(workspace.images(role)):
        return _write_locked(role, listing, found, config, workspace)


def _write_locked(
    role: str, listing: Listing, found: SourceContents, config: IngestConfig, workspace: Workspace
) -> Written:
    target = workspace.images(role)
    folder = target.with_name(f".ingest-{role}")
    named = len(listing.rejects)
    tables, rejects, notes = open_listing(listing, config, workspace, found.md5, folder)
    before: list[dict[str, Any]] = []
    if config.add and target.is_file():
        new = pa.concat_tables(tables)
        stated = listing.grouped if listing.grouped is not None else pa.array([], pa.string())
        unusable = [row["uri"] for row in rejects]
        table, said = merge(workspace.read_images(role), new, role, stated, unusable)
        tables, notes = iter([table]), (*notes, said)
        before = earlier_rejects(_rejects_path(target), [*listing.images["uri"].to_pylist(), *unusable])
    coming = target.with_name(f"{role}-coming.parquet")
    images = write_images(coming, tables)
    more, gaps = _put_in_place(role, coming, found, config, workspace)
    rejects.sort(key=lambda row: (row["image_id"], row["uri"]))
    everything = sorted([*before, *rejects], key=lambda row: (row["image_id"], row["uri"]))
    write_table(_rejects_path(target), table_of(REJECTS, everything))
    close(folder)
    total = listing.images.num_rows + named
    return Written(target, images, total, rejects, len(everything), (*notes, *more), gaps)


def _put_in_place(
    role: str, coming: Path, found: SourceContents, config: IngestConfig, workspace: Workspace
) -> tuple[list[str], tuple[str, ...]]:
    """Make `coming` the table of the role; return (notes, gaps) about what is forgotten with it.

    The gaps are kept in a file until the run record has them: if the run stops before, the next one reports them.
    """
    again = found.pairs if role in ("basic", "pool") else config.ground_truth or found.truth
    with contextlib.ExitStack() as locks:
        for path in (workspace.edits, workspace.ground_truth, workspace.pairs):  # an ingest of another role writes too
            locks.enter_context(locked(path, wait=True))
        forgotten = find_forgotten(workspace, role, coming, add=config.add, written_again=again is not None)
        waiting = _waiting_gaps(workspace, role)
        gaps = list(dict.fromkeys([*(read_json(waiting) if waiting.is_file() else ()), *forgotten.gaps]))
        if gaps:
            write_json(waiting, gaps)
        for path, table in forgotten.tables.items():
            write_table(path, table)
        record_replaced(workspace, role, coming)
        coming.replace(workspace.images(role))
    sync_folder(coming.parent)
    opened_path(workspace, role).unlink(missing_ok=True)  # it describes the images that were listed before
    return forgotten.notes, tuple(gaps)


def _waiting_gaps(workspace: Workspace, role: str) -> Path:
    return workspace.images(role).with_name(f".{role}-gaps.json")


def _rejects_path(images: Path) -> Path:
    return images.with_name(f"{images.stem}-rejects.parquet")


def _write_truth(
    truth: list[Match], written: dict[str, Written], config: IngestConfig, workspace: Workspace, gaps: list[str]
) -> list[Match]:
    """Write the ground truth of the usable images, ascending."""
    bad = {role: unusable_ids(result.rejects, result.path) for role, result in written.items()}
    kept = [match for match in truth if match[0] not in bad.get("query", ())]
    whole = [match for match in kept if match[1] is None or match[1] not in bad.get("reference", ())]
    if lost := len(kept) - len(whole):
        gaps.append(
            f"{number_of(lost, 'query has', 'queries have')} no ground truth any more, because "
            "their reference is unusable"
        )
    with locked(workspace.ground_truth, wait=True):
        if config.add and workspace.ground_truth.is_file():
            old = read_table(workspace.ground_truth).to_pylist()
            whole = list({*whole, *((row["query_id"], row["reference_id"]) for row in old)})
        whole.sort(key=lambda match: (match[0], match[1] or ""))
        rows = ({"query_id": query, "reference_id": reference} for query, reference in whole)
        write_table(workspace.ground_truth, table_of(GROUND_TRUTH, rows))
    return whole


def _write_pairs(
    pairs: pa.Table, written: dict[str, Written], config: IngestConfig, workspace: Workspace, gaps: list[str]
) -> None:
    """Write the directed pairs whose images are both usable, in the order of the source."""
    unusable = (unusable_ids(written[role].rejects, written[role].path) for role in ("basic", "pool"))
    bad = pa.array(sorted(set().union(*unusable)), pa.string())
    lost = pc.or_(pc.is_in(pairs["former_id"], value_set=bad), pc.is_in(pairs["latter_id"], value_set=bad))
    if count := pc.sum(lost).as_py() or 0:
        gaps.append(f"{number_of(count, 'pair is', 'pairs are')} left out because one of their images is unusable")
    kept = pairs.filter(pc.invert(lost))
    with locked(workspace.pairs, wait=True):
        if config.add and workspace.pairs.is_file():
            old = read_table(workspace.pairs)
            there = pc.is_in(kept["pair_id"], value_set=old["pair_id"].combine_chunks())
            kept = pa.concat_tables([old, kept.filter(pc.invert(there))])
        write_table(workspace.pairs, kept)


def _why(result: Written) -> str:
    if not result.rejects:
        return ""
    table = result.path.with_name(f"{result.path.stem}-rejects.parquet")
    return f" ({counted_reasons(row['reason'] for row in result.rejects)}; all in {table})"


def _report(written: dict[str, Written], gaps: list[str], config: IngestConfig) -> None:
    """Raise GapsError when something is missing or too many images are unusable. Everything is already written."""
    sentences = list(gaps)
    for role, result in written.items():
        if len(result.rejects) > config.max_reject_share * result.total:
            sentences.append(
                f"unusable: {len(result.rejects):,} of {number_of(result.total, 'image')} in {config.source}, more "
                f"than max_reject_share {config.max_reject_share:g} allows. Top reasons: "
                f"{counted_reasons(row['reason'] for row in result.rejects)}. The "
                f"{result.total - len(result.rejects)} usable ones are in {result.path}, the rest with their reason in "
                f"{role}-rejects.parquet next to it; fix or remove the files, or raise the share"
            )
    if sentences:
        raise GapsError(". ".join(sentences))
