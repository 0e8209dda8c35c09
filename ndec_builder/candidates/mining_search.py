"""The search of `ndec mine`, ranked by raw or by normalised scores, until there are enough pairs for people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.candidates.candidate_table import CandidateContext, candidate_table
from ndec_builder.candidates.geometry.local_finds import local_finds
from ndec_builder.candidates.geometry.table import LOCAL_GEOMETRY_FILE, RECHECK_GEOMETRY_FILE, add_geometry
from ndec_builder.candidates.outside.given_pairs import given_pairs
from ndec_builder.candidates.role_vectors import RoleVectors
from ndec_builder.candidates.search.checkpoint import Checkpoint
from ndec_builder.candidates.search.exact import top_pairs
from ndec_builder.candidates.search.first_pass import choose
from ndec_builder.candidates.search.pairs import Pairs, score_pairs
from ndec_builder.candidates.search.ranges import RangedSearch, Shift
from ndec_builder.candidates.search.selection import Caps
from ndec_builder.candidates.search.shared_vectors import SharedSearch, share_vectors
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import CANDIDATES
from ndec_builder.core.storage import fingerprint, read_table, write_table
from ndec_builder.core.workspace import Workspace


def find_candidates(
    workspace: Workspace,
    config: MineConfig,
    sides: tuple[RoleVectors, RoleVectors],
    context: CandidateContext,
    scratch: Path,
    mark: str,
) -> pa.Table:
    """The shortest start of the ranking that holds `config.top` pairs for people; duplicates are not counted.

    Returns candidates (schema CANDIDATES); fewer for people when no more pairs exist. A larger search extends a smaller
    one, so the result does not depend on the number of rounds. Tables of finished rounds are kept under `scratch` for
    this `mark`: a killed run continues from them. The caller removes `scratch` after writing the result.

    With `config.pairs`, returns all pairs of that file instead, and with the shortlist `local` the `local_candidates`.
    """
    if config.pairs is not None:
        given = given_pairs(workspace, config, sides)
        return candidate_table(workspace, config.split, given, sides, context)
    if config.shortlist == "local":
        table = local_candidates(workspace, config, sides, context, CANDIDATES.empty_table())
        if not len(table):
            raise NdecError("no pair that shares local features fits by a homography; mine with --shortlist global")
        return table
    table = CANDIDATES.empty_table()
    wanted = config.top + config.top // 8 + 8  # with usual numbers of duplicates one round is enough
    while True:
        path = scratch / f"{mark[:16]}-{wanted}.parquet"
        if path.is_file():
            table = read_table(path)
        else:
            found = find_pairs(replace(config, top=wanted), *sides, context, scratch, fingerprint([mark, wanted]))
            fresh = found.take(np.arange(len(table), len(found)))
            more = candidate_table(workspace, config.split, fresh, sides, context, len(table) + 1)
            table = pa.concat_tables([table, more])
            write_table(path, table)
        people = table["duplicate_of"].null_count
        missing = config.top - people
        if missing <= 0 or len(table) < wanted:
            return _shortest_start(table, config.top)
        duplicates = len(table) - people
        wanted = len(table) + missing + min(len(table), missing * duplicates // max(people, 1) + 8)


def local_candidates(
    workspace: Workspace,
    config: MineConfig,
    sides: tuple[RoleVectors, RoleVectors],
    context: CandidateContext,
    mined: pa.Table,
) -> pa.Table:
    """Pairs that share local features and are not `mined`; ranks continue after them (schema CANDIDATES).

    Only pairs that fit by a homography, and duplicates: suspected copies. Their geometry is written to
    LOCAL_GEOMETRY_FILE.
    """
    known = zip(mined["query_id"].to_pylist(), mined["reference_id"].to_pylist(), strict=True)
    found = local_finds(workspace, config, sides, list(known), context.engine)
    table = candidate_table(workspace, config.split, found, sides, context)
    table = add_geometry(workspace, config.split, table, name=LOCAL_GEOMETRY_FILE, engine=context.engine)
    fits = pc.fill_null(pc.greater(table["inliers"], 0), False)
    table = table.filter(pc.or_(fits, pc.is_valid(table["duplicate_of"])))
    ranks = pa.array(np.arange(len(mined) + 1, len(mined) + len(table) + 1), pa.int32())
    say(
        f"local features: {number_of(len(table), 'more pair')} of {number_of(len(found), 'pair')} with the most shared "
        "keypoints fit by a homography"
    )
    return table.set_column(CANDIDATES.get_field_index("rank"), CANDIDATES.field("rank"), ranks)


def renew_rechecked(
    workspace: Workspace,
    config: MineConfig,
    mined: pa.Table,
    embedded: tuple[RoleVectors, RoleVectors],
    context: CandidateContext,
) -> None:
    """Give the pairs of an earlier `ndec annotate recheck` the scores of this mining, and ranks after it.

    Pairs that are among the mined ones now are taken out, and so are those of images that are no longer embedded (a
    line says how many). `embedded`: pool and gallery, before anything is left out.
    """
    path = workspace.candidates(config.split) / "recheck.parquet"
    if not path.is_file():
        return
    names = read_table(path, ["pair_id", "query_id", "reference_id"])
    names = names.filter(pc.invert(pc.is_in(names["pair_id"], value_set=mined["pair_id"].combine_chunks())))
    rows = [
        pc.fill_null(pc.index_in(names[column], value_set=side.ids), -1).to_numpy()
        for column, side in zip(("query_id", "reference_id"), embedded, strict=True)
    ]
    there = (rows[0] >= 0) & (rows[1] >= 0)
    queries, references = (column[there].astype(np.int64) for column in rows)
    pairs = Pairs(queries, references, np.empty(len(queries), np.float32))
    pairs = Pairs(queries, references, _raw(*embedded, pairs, config.block))
    first_rank = max(mined["rank"].to_pylist(), default=0) + 1
    table = candidate_table(workspace, config.split, pairs, embedded, context, first_rank)
    if config.geometry and len(table):
        table = add_geometry(workspace, config.split, table, name=RECHECK_GEOMETRY_FILE, engine=context.engine)
    write_table(path, table)
    if gone := int((~there).sum()):
        say(f"{number_of(gone, 'pair')} of an earlier recheck left out: the images are no longer embedded")


def _shortest_start(table: pa.Table, top: int) -> pa.Table:
    """The rows up to the one with the `top`-th pair for people; all rows if there are not as many."""
    places = np.flatnonzero(pc.is_null(table["duplicate_of"]).to_numpy(zero_copy_only=False))
    return table.slice(0, places[top - 1] + 1) if len(places) >= top else table


def find_pairs(
    config: MineConfig,
    pool: RoleVectors,
    gallery: RoleVectors,
    context: CandidateContext,
    scratch: Path,
    mark: str,
) -> Pairs:
    """Return the top pairs with raw scores, in rank order. The gallery is in memory, the pool is read in blocks.

    Progress is saved under `scratch` for this `mark`; the caller removes it after writing the result.
    """
    if pool.vectors.dim != gallery.vectors.dim:
        raise NdecError(
            f"expected {gallery.vectors.dim}-d vectors as in the {gallery.role} embeddings, got {pool.vectors.dim}-d "
            f"in the pool embeddings; embed both with the same --model"
        )
    caps = Caps(config.top, config.max_per_query, config.max_per_reference)
    if context.engine.name == "ray":
        pairs = _in_ranges(config, caps, pool, gallery, context, scratch, mark)
        return Pairs(pairs.queries, pairs.references, _raw(pool, gallery, pairs, config.block))
    offsets = None
    if config.rank_by == "normalized" and context.background is not None:
        kept = Checkpoint(scratch / "background.npz", mark)
        if (state := kept.load()) is not None:
            offsets = state["offsets"]
        else:
            offsets = context.normalization.offsets(pool.vectors, context.background.vectors.load(), config.search)
            kept.save(offsets=offsets)
    references = gallery.vectors.load()
    engine = choose(config.search, pool.vectors.shape, references)
    pairs = top_pairs(
        range(len(pool)),  # rows are in the order of the ids
        pool.vectors,
        range(len(gallery)),
        references,
        top=caps.top,
        max_per_query=caps.max_per_query,
        max_per_reference=caps.max_per_reference,
        block=config.block,
        engine=engine,
        offsets=offsets,
        checkpoint=Checkpoint(scratch / "search.npz", mark),
    )
    if offsets is not None:
        pairs = Pairs(pairs.queries, pairs.references, _raw(pool, gallery, pairs, config.block))
    return pairs


def _in_ranges(
    config: MineConfig,
    caps: Caps,
    pool: RoleVectors,
    gallery: RoleVectors,
    context: CandidateContext,
    scratch: Path,
    mark: str,
) -> Pairs:
    """The same search as tasks of a cluster; scores are normalised if `config` ranks by them."""
    folder = (scratch / mark[:16]).absolute()
    shared = SharedSearch(
        share_vectors(pool.vectors, folder, "pool"),
        share_vectors(gallery.vectors, folder, gallery.role),
        config.search,
        config.block,
    )
    shift = None
    if config.rank_by == "normalized" and context.background is not None:
        shift = Shift(context.normalization, share_vectors(context.background.vectors, folder, "background"))
    # one task per machine, with all cores: each process holds all references
    engine = replace(context.engine, threads=0, workers=0)
    return RangedSearch(shared, caps, engine, folder, mark, shift).run()


def _raw(pool: RoleVectors, gallery: RoleVectors, pairs: Pairs, block: int) -> np.ndarray:
    """The scores (n,) float32 of pairs before normalisation."""
    scores = np.empty(len(pairs), dtype=np.float32)
    for start in range(0, len(pairs), block):
        part = slice(start, start + block)
        queries, references = pool.vectors[pairs.queries[part]], gallery.vectors[pairs.references[part]]
        rows = np.arange(len(queries))
        scores[part] = score_pairs(queries, references, rows, rows)
    return scores
