"""`ndec ingest ROLE SOURCE`: list the images of a source in images/<role>.parquet."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.locks import locked
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import GROUND_TRUTH, IMAGES, REJECTS, ROLES, table_of
from ndec_builder.core.storage import read_table, sha256_file, sync_folder, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.detect_kind import guess_kind, table_of_downloads
from ndec_builder.sources.ground_truth import Match, check_ids, match_ids, read_ground_truth
from ndec_builder.sources.inspect_images import RESULT_VERSION, close, open_listing, write_images
from ndec_builder.sources.late_inspection import opened_path
from ndec_builder.sources.listing import Listing, SourceContents, top_reasons
from ndec_builder.sources.places import with_groups
from ndec_builder.sources.replaced import record_replaced
from ndec_builder.sources.settings import FIXED_IDS, MANY_ROLES, OWN_GROUPS, SOURCE_KINDS, IngestConfig

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
    notes: tuple[str, ...] = ()


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
    written = {role: _write_role(role, listing, found, config, workspace) for role, listing in found.listings.items()}
    gaps = list(found.gaps)
    if truth is not None:
        truth = _write_truth(truth, written, config, workspace, gaps)
    if found.pairs is not None:
        _write_pairs(found.pairs, written, config, workspace, gaps)
    shared = [note for note in found.notes if note]
    for note in shared:
        say(f"{config.source}: {note}")
    for role, result in written.items():
        counts = {"images": result.images, "rejects": len(result.rejects), "ground_truth": 0}
        if role == "query":
            counts["ground_truth"] = len(truth or ())
        if found.pairs is not None:
            counts["pairs"] = found.pairs.num_rows
        notes = [*shared, *(note for note in (found.listings[role].note, *result.notes) if note)]
        record.write(result.path.parent, counts=counts, inputs=inputs, name=f"{role}.run.json", gaps=gaps, notes=notes)
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
    _check(config)
    return config


def _check(config: IngestConfig) -> None:
    if config.role == "all" and config.kind not in MANY_ROLES:
        raise UsageError(
            f"role 'all' is for sources that know the roles themselves ({', '.join(MANY_ROLES)}), not for kind "
            f"{config.kind!r}; name one of {', '.join(ROLES)}"
        )
    if config.kind not in _MODULES:
        raise UsageError(
            f"{config.source} is {SOURCE_KINDS[config.kind]}, not images: use `ndec ingest` on the command line"
        )
    if config.id and config.kind in FIXED_IDS:
        raise UsageError(f"--id does not apply to kind {config.kind!r}: its files define the ids of their images")
    allowed = ("auto", *OWN_GROUPS.get(config.kind, (config.group_by,)))
    if config.group_by not in allowed:
        raise UsageError(
            f"group_by is {config.group_by!r}, but the files of kind {config.kind!r} define the groups; it must be one "
            f"of {', '.join(allowed)}"
        )
    for option, kind in (("ids", "disc21"), ("metadata", "openimages"), ("images", "openimages")):
        if getattr(config, option) is not None and config.kind != kind:
            raise UsageError(
                f"--{option} belongs to kind {kind!r}; {config.source} is read as {config.kind!r} (--kind)"
            )


def _stream(config: IngestConfig, workspace: Workspace, record: RunRecord) -> Path | None:
    """A bare OpenImages csv has nine million rows, which are sorted on disk. None: its images must be opened."""
    from ndec_builder.sources.readers.openimages_csv import is_bare, stream

    if not is_bare(config):
        return None
    path, counts, inputs = stream(config, workspace)
    opened_path(workspace, config.role).unlink(missing_ok=True)
    record.write(path.parent, counts=counts, inputs=inputs, name=f"{config.role}.run.json", gaps=[])
    say(f"ingest {config.role}: {number_of(counts['images'], 'image')} listed, none opened")
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
    if config.add and target.is_file():
        tables = iter([merge(workspace.read_images(role), pa.concat_tables(tables), role)])
    coming = target.with_name(f"{role}-coming.parquet")
    images = write_images(coming, tables)
    record_replaced(workspace, role, coming)
    coming.replace(target)
    sync_folder(target.parent)
    rejects.sort(key=lambda row: (row["image_id"], row["uri"]))
    write_table(target.with_name(f"{role}-rejects.parquet"), table_of(REJECTS, rejects))
    opened_path(workspace, role).unlink(missing_ok=True)  # it describes the images that were listed before
    close(folder)
    return Written(target, images, listing.images.num_rows + named, rejects, notes)


def merge(old: pa.Table, new: pa.Table, role: str) -> pa.Table:
    """Merge both tables, ascending by id. An image that is in both with the same bytes keeps its old row.

    Raises NdecError naming ids that would stand for two different pictures.
    """
    both = new.filter(pc.is_in(new["image_id"], value_set=old["image_id"].combine_chunks()))
    if both.num_rows:
        before = old.take(pc.index_in(both["image_id"], value_set=old["image_id"].combine_chunks()))
        same_file = pc.fill_null(pc.equal(before["sha256"], both["sha256"]), False)
        same = pc.or_(same_file, pc.equal(before["uri"], both["uri"]))
        if differing := both.filter(pc.invert(same))["image_id"].to_pylist():
            raise NdecError(
                f"{len(differing)} ids would stand for two pictures of the role {role}, e.g. {differing[0]!r}: "
                "the role has images of that name with other bytes. Rename the files, give --id path, or leave out "
                "--add to replace the role"
            )
        new = new.filter(pc.invert(pc.is_in(new["image_id"], value_set=both["image_id"].combine_chunks())))
    table = pa.concat_tables([old, new])
    table = table.take(pc.sort_indices(table, [("image_id", "ascending")]))
    return table.cast(IMAGES)


def _write_truth(
    truth: list[Match], written: dict[str, Written], config: IngestConfig, workspace: Workspace, gaps: list[str]
) -> list[Match]:
    """Write the ground truth of the usable images, ascending."""
    bad = {role: {row["image_id"] for row in result.rejects} for role, result in written.items()}
    kept = [match for match in truth if match[0] not in bad.get("query", ())]
    whole = [match for match in kept if match[1] is None or match[1] not in bad.get("reference", ())]
    if lost := len(kept) - len(whole):
        gaps.append(
            f"{number_of(lost, 'query has', 'queries have')} no ground truth any more, because "
            "their reference is unusable"
        )
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
    bad = pa.array(sorted({r["image_id"] for role in ("basic", "pool") for r in written[role].rejects}), pa.string())
    lost = pc.or_(pc.is_in(pairs["former_id"], value_set=bad), pc.is_in(pairs["latter_id"], value_set=bad))
    if count := pc.sum(lost).as_py() or 0:
        gaps.append(f"{number_of(count, 'pair is', 'pairs are')} left out because one of their images is unusable")
    kept = pairs.filter(pc.invert(lost))
    if config.add and workspace.pairs.is_file():
        old = read_table(workspace.pairs)
        there = pc.is_in(kept["pair_id"], value_set=old["pair_id"].combine_chunks())
        kept = pa.concat_tables([old, kept.filter(pc.invert(there))])
    write_table(workspace.pairs, kept)


def _why(result: Written) -> str:
    if not result.rejects:
        return ""
    table = result.path.with_name(f"{result.path.stem}-rejects.parquet")
    return f" ({top_reasons(result.rejects)}; all in {table})"


def _report(written: dict[str, Written], gaps: list[str], config: IngestConfig) -> None:
    """Raise GapsError when something is missing or too many images are unusable. Everything is already written."""
    sentences = list(gaps)
    for role, result in written.items():
        if len(result.rejects) > config.max_reject_share * result.total:
            sentences.append(
                f"unusable: {len(result.rejects):,} of {number_of(result.total, 'image')} in {config.source}, more "
                f"than max_reject_share {config.max_reject_share:g} allows. Top reasons: "
                f"{top_reasons(result.rejects)}. The "
                f"{result.total - len(result.rejects)} usable ones are in {result.path}, the rest with their reason in "
                f"{role}-rejects.parquet next to it; fix or remove the files, or raise the share"
            )
    if sentences:
        raise GapsError(". ".join(sentences))
