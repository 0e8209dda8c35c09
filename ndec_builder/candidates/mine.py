"""`ndec mine`: the global top pairs of pool × reference (split test) or pool × basic (split train), for annotators.

`basic` is the role of training images; the name is the paper's.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.candidates.attribution import check_attribution, only_clear_rows, read_attribution
from ndec_builder.candidates.candidate_table import CandidateContext
from ndec_builder.candidates.contact_sheet import write_mined_sheet
from ndec_builder.candidates.geometry.table import GEOMETRY_FILE, LOCAL_GEOMETRY_FILE, add_geometry, report_unreadable
from ndec_builder.candidates.input_hashes import CACHE, hash_inputs, inputs_of
from ndec_builder.candidates.kept_queries import remember_mined
from ndec_builder.candidates.mining_cut import begin_result
from ndec_builder.candidates.mining_search import find_candidates, local_candidates, renew_rechecked
from ndec_builder.candidates.outside.given_labels import GIVEN_FILE, given_labels, labels_mark, remember_given
from ndec_builder.candidates.outside.given_pairs import LEFT_OUT_FILE
from ndec_builder.candidates.role_vectors import (
    RoleVectors,
    load_search_vectors,
    refuse_missing_background,
    report_other_model,
    report_other_settings,
)
from ndec_builder.candidates.search.score_normalization import Normalization
from ndec_builder.candidates.settings import GALLERY, MineConfig, recommended_top
from ndec_builder.candidates.split_exclusions import (
    OtherSplit,
    allowed_gallery,
    allowed_pool,
    closed_to_training,
    count_reasons,
    split_mined_first,
)
from ndec_builder.candidates.twins import can_compare_more, find_twins, forget_not_compared, left_out, report_twin_limit
from ndec_builder.core.config import build, read_settings, result_fields
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.executor.base import engine_of
from ndec_builder.core.executor.runner import on_engine
from ndec_builder.core.locks import one_writer
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.storage import fingerprint, read_json, read_table, sha256_file, write_json, write_table
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 5  # 3: same_photo, same_author, 4: twins, duplicates at full detail, 5: top without duplicates
_SCRATCH = "search"
LOCAL_FILE = "local.parquet"  # of `--shortlist both`, next to candidates.parquet; the mining cut leaves it out
TWIN = "same picture as another image of the role"


@on_engine
@one_writer(lambda config: Workspace(config.workspace).candidates(config.split))
def run(config: MineConfig) -> Path:
    """Mine one split; return candidates/<split>/ with candidates.parquet, contact_sheet.html and run.json.

    Ingests and embeds the folders in the config first. Does no work if inputs and settings are unchanged. Raises
    NdecError for a role without images or embeddings that cannot be compared.
    """
    normalization = Normalization(
        config.normalization_factor, config.normalization_neighbours, config.normalization_mode
    )
    record = RunRecord("mine", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.candidates(config.split)
    report_other_model(workspace, config.model, config.embed_settings)
    _ingest(config)
    first = split_mined_first(workspace, config.split)
    done = (directory / "run.json").is_file() and _is_done(directory, _mark(config, workspace, first)[0])
    if done and not can_compare_more(workspace, config.split):
        shutil.rmtree(directory / _SCRATCH, ignore_errors=True)  # of a run that was killed after writing its result
        _change_sheet(config, workspace)
        _add_space(config, workspace)
        report_other_settings(workspace, config.split, config.model, config.embed_settings)
        say(f"{directory}: already mined with these settings and inputs; nothing to do")
        report_unreadable(workspace, config.split)
        return directory
    attribution = read_attribution(config.attribution) if config.attribution else {}
    pool, gallery, background = load_search_vectors(workspace, config.split, config.model, config.embed_settings)
    report_other_settings(workspace, config.split, config.model, config.embed_settings)
    if config.rank_by == "normalized" and background is None:
        refuse_missing_background(config.split, config.model)
    mark, inputs = _mark(config, workspace, first)  # now the embeddings exist
    embedded = pool, gallery
    sizes = {side.role: len(side) for side in embedded}
    engine = engine_of(config)
    forget_not_compared(workspace, config.split)
    twins = {side.role: find_twins(workspace, side, engine) for side in embedded}
    closed, closed_hashes = closed_to_training(workspace, config.split)
    gallery, gallery_reasons = allowed_gallery(gallery, closed, closed_hashes)
    pool, pool_reasons = allowed_pool(workspace, config.split, pool, first, closed, engine)
    pool, pool_twins = _without_twins(pool, twins["pool"], pool_reasons)
    gallery, gallery_twins = _without_twins(gallery, twins[gallery.role], gallery_reasons)
    skipped = {"pool": count_reasons(pool_reasons), gallery.role: count_reasons(gallery_reasons)}
    attribution = only_clear_rows(config.attribution, attribution, embedded)
    check_attribution(config.attribution, attribution, (pool, gallery))
    context = CandidateContext(background, normalization, config.rank_by, attribution, engine)
    scratch = directory / _SCRATCH
    recommended = recommended_top(len(pool))
    if not config.top and config.pairs is None:
        say(f"--top {recommended:,} is used, the number recommended for {number_of(len(pool), 'pool image')}")
    config = replace(config, top=config.top or recommended)
    table = find_candidates(workspace, config, (pool, gallery), context, scratch, mark)
    if config.pairs is None:
        _report_limits(config, table, pool, gallery)
    begin_result(directory)  # geometry is part of it
    for name in (
        GEOMETRY_FILE,
        LOCAL_GEOMETRY_FILE,
        *((GIVEN_FILE, LEFT_OUT_FILE) if config.pairs is None else ()),
    ):
        (directory / name).unlink(missing_ok=True)  # from an earlier run
    if config.geometry:
        table = add_geometry(workspace, config.split, table, name=GEOMETRY_FILE, engine=engine)
    local = table.slice(0, 0)
    if config.shortlist == "both":
        local = local_candidates(workspace, config, (pool, gallery), context, table)
        say("people label them too; until then, their pool images are neither hard negatives nor distractors")
    remember_mined(directory, pa.concat_tables([table, local]))
    write_table(directory / "candidates.parquet", table)
    if config.shortlist == "both":
        write_table(directory / LOCAL_FILE, local)
    else:
        (directory / LOCAL_FILE).unlink(missing_ok=True)  # now that its images are remembered
    renew_rechecked(workspace, config, pa.concat_tables([table, local]), embedded, context)
    remember_given(config, directory, table)
    write_mined_sheet(workspace, config.split, pa.concat_tables([table, local]), (pool, gallery), config.pictures)
    scores = table["score"].to_pylist()
    record.write(
        directory,
        counts={
            "pairs": len(scores),
            "for_people": table["duplicate_of"].null_count,
            "asked": config.top,
            "pool": len(pool),
            gallery.role: len(gallery),
            "duplicates": len(scores) - table["duplicate_of"].null_count,
            "same_photo": _count(table, "same_photo"),
            "same_author": _count(table, "same_author"),
            "fitted": sum((inliers or 0) > 0 for inliers in table["inliers"].to_pylist()),
            "queries": len(set(table["query_id"].to_pylist())),
            **{f"{role}_skipped": reasons for role, reasons in skipped.items()},
            "pool_twins": pool_twins,
            f"{gallery.role}_twins": gallery_twins,
            **({"local_pairs": len(local)} if config.shortlist == "both" else {}),
        },
        inputs=inputs,
        images={name: known[2] for name, known in read_json(directory / CACHE).items() if name.startswith("images/")},
        weights=read_json(workspace.embeddings("pool", config.model) / "run.json").get("weights", {}),
        fingerprint=mark,
        skipped={"split": first.split, "fingerprint": first.fingerprint} if first else None,
        space=gallery.space,
        precision=gallery.precision,
        cut=min(scores),
        mean_score=sum(scores) / len(scores),
        background=background.role if background else None,
    )
    shutil.rmtree(scratch, ignore_errors=True)
    twins_left_out = {"pool": pool_twins, gallery.role: gallery_twins}
    skipped = {role: reasons | {TWIN: twins_left_out[role]} for role, reasons in skipped.items()}
    _report_result(directory, table, skipped, sizes)
    return directory


def _without_twins(images: RoleVectors, twins: dict[str, str], reasons: dict[str, str]) -> tuple[RoleVectors, int]:
    """Leave out twins, and representatives whose group has an image that may not be mined. Returns what is left out.

    Raises NdecError when nothing is left.
    """
    left = images.without(left_out(twins, reasons))
    count = len(images) - len(left)
    report_twin_limit(images.role, len(images))
    if not len(left):
        raise NdecError(f"every {images.role} image shows the picture of an image that may not be mined; ingest others")
    return left, count


def _mark(config: MineConfig, workspace: Workspace, first: OtherSplit | None) -> tuple[str, dict[str, str]]:
    """Fingerprint of everything the result depends on, and the fingerprint of each input."""
    inputs = hash_inputs(
        workspace.candidates(config.split), inputs_of(workspace, config.split, config.model), workspace.root
    )
    if config.attribution is not None:
        if not config.attribution.is_file():
            raise UsageError(f"the attribution table {config.attribution} does not exist")
        inputs["attribution"] = sha256_file(config.attribution)
    if config.pairs is not None and config.pairs.is_file():
        inputs |= {"pairs": sha256_file(config.pairs)} | labels_mark(config)
    settings = result_fields(config) | {"split": config.split}
    if config.shortlist == "global":
        del settings["shortlist"]  # pairs mined before there was another one keep their fingerprint
    parts = {
        "settings": settings,
        "approximate": None,  # kept so that pairs mined with version 0.1.0 keep their fingerprint
        "version": RESULT_VERSION,
        "inputs": inputs,
        "skip": first.fingerprint if first else None,
    }
    return fingerprint(parts), inputs


def _ingest(config: MineConfig) -> None:
    """Ingest the folders with [ingest] of ndec.toml and the groups that this command asks for."""
    if config.pool is None and config.references is None:
        if config.group_by is not None or config.shared_groups:
            raise UsageError(
                "--group-by and --shared-groups belong to --pool and --references; for images that are ingested "
                "already, ingest them again with --group-by"
            )
        return
    from ndec_builder.sources.containers import is_uri
    from ndec_builder.sources.detect_kind import guess_kind
    from ndec_builder.sources.ingest import run as ingest
    from ndec_builder.sources.readers.folder import check_folder
    from ndec_builder.sources.settings import IngestConfig

    for folder in (config.pool, config.references):
        if folder is not None and not is_uri(folder) and guess_kind(folder) == "folder":
            check_folder(Path(folder))  # report a wrong name now, not after an hour of work on the other folder
    settings = read_settings(config.embed_settings or config.workspace / "ndec.toml")
    both = (("pool", config.pool, config.references), (GALLERY[config.split], config.references, config.pool))
    for role, folder, other in both:
        if folder is not None:
            if config.shared_groups and (other is None or is_uri(folder) or is_uri(other)):
                raise UsageError("--shared-groups joins two local folders: give both --pool and --references")
            joined = (Path(str(other)),) if config.shared_groups else ()
            flags = {"role": role, "source": folder, "group_by": config.group_by, "group_with": joined}
            ingest(build(IngestConfig, "ingest", settings, workspace=config.workspace, **flags))


def _is_done(directory: Path, mark: str) -> bool:
    files = [directory / name for name in ("run.json", "candidates.parquet", "contact_sheet.html")]
    if not all(path.is_file() for path in files) or read_json(files[0]).get("fingerprint") != mark:
        return False
    read_table(files[1], ["pair_id"])  # a broken file must not look finished
    return True


def _report_limits(config: MineConfig, table: pa.Table, pool: RoleVectors, gallery: RoleVectors) -> None:
    people = table["duplicate_of"].null_count
    if people < config.top:
        say(
            f"asked for {number_of(config.top, 'pair')} for people; only {people:,} found under --max-per-query "
            f"{config.max_per_query} and --max-per-reference {config.max_per_reference}, with {len(pool):,} pool and "
            f"{len(gallery):,} {gallery.role} images; {len(table) - people:,} of the pairs found are duplicates"
        )
    if len(table) and len(set(table["query_id"].to_pylist())) == len(pool):
        say(
            "every pool image is in a pair: the last pairs have nothing in common, and no image is left for "
            f"distractors; for this pool --top {recommended_top(len(pool))} is recommended"
        )


def _report_result(directory: Path, table: pa.Table, skipped: dict[str, dict[str, int]], sizes: dict[str, int]) -> None:
    """What was found and what was left out, in a few lines."""
    shown = table.filter(pc.is_null(table["duplicate_of"]))
    people = shown["score"].to_pylist()
    span = f", scores {min(1.0, max(people)):.4f} … {min(people):.4f}" if people else ""
    given = len(set(given_labels(directory)["pair_id"].to_pylist()) & set(shown["pair_id"].to_pylist()))
    judged = f", {given:,} of them with a label from a file" if given else ""
    say(f"{directory}: {number_of(len(people), 'pair')} for people to label{judged}{span}")
    if aside := len(table) - len(people):
        what = number_of(aside, "pair set aside as a duplicate of its", "pairs set aside as duplicates of their")
        them = "it" if aside == 1 else "them"
        say(f"{what} reference: nobody labels {them}; the contact sheet has {them} at its end")
    for role, reasons in skipped.items():
        if total := sum(reasons.values()):
            why = "; ".join(f"{count:,} × {reason}" for reason, count in reasons.items() if count)
            say(f"{total:,} of {sizes[role]:,} {role} images not searched: {why}")


def _count(table: pa.Table, column: str) -> int:
    return sum(bool(value) for value in table[column].to_pylist())


def _change_sheet(config: MineConfig, workspace: Workspace) -> None:
    """Write the sheet of a finished result again if it has pictures and should not, or the reverse."""
    directory = workspace.candidates(config.split)
    known = read_json(directory / "run.json")
    if known["config"].get("pictures", True) != config.pictures:
        pool, gallery, _ = load_search_vectors(workspace, config.split, config.model, config.embed_settings)
        tables = [directory / name for name in ("candidates.parquet", LOCAL_FILE)]
        table = pa.concat_tables([read_table(path) for path in tables if path.is_file()])
        write_mined_sheet(workspace, config.split, table, (pool, gallery), config.pictures)
        write_json(directory / "run.json", known | {"config": known["config"] | {"pictures": config.pictures}})


def _add_space(config: MineConfig, workspace: Workspace) -> None:
    """Record the vectors of a finished result of an earlier version: its fingerprint says that they are today's."""
    path = workspace.candidates(config.split) / "run.json"
    vectors = read_json(workspace.embeddings(GALLERY[config.split], config.model) / "run.json")
    if "space" not in (known := read_json(path)):
        write_json(path, known | {name: vectors.get(name) for name in ("space", "precision")})
