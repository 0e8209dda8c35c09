"""`ndec annotate recheck`: searches each kept query (future hard-negative query) among all references once more.

Mining keeps few pairs per query, so a kept query may still be a copy of a reference that nobody saw. Its pairs at or
above the mining cut that are not candidates yet go back to annotation. A second round finds nothing new, because
decisions only shrink the set of kept queries.

With `--distractors N` it also adds the N closest pairs of pool images that were never mined: `ndec export` draws
distractors from these images. It leaves out those that reach the mining cut (`close_to_references`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.candidates.attribution import Attribution, only_clear_rows, read_attribution
from ndec_builder.candidates.candidate_table import CandidateContext, all_candidates, candidate_table
from ndec_builder.candidates.geometry.table import GEOMETRY_FILE, RECHECK_GEOMETRY_FILE, add_geometry
from ndec_builder.candidates.kept_queries import kept_queries
from ndec_builder.candidates.mining_cut import (
    MiningCut,
    check_mined_model,
    check_mined_vectors,
    has_mined_vectors,
    mining_cut,
    pairs_above_cut,
)
from ndec_builder.candidates.mining_search import find_pairs
from ndec_builder.candidates.role_vectors import RoleVectors, is_embedded, load_search_vectors
from ndec_builder.candidates.search.score_normalization import Normalization
from ndec_builder.candidates.settings import GALLERY, MineConfig, RecheckConfig
from ndec_builder.candidates.split_exclusions import (
    SKIP_COLUMNS,
    allowed_gallery,
    closed_to_training,
    skip_reasons,
    used_images,
)
from ndec_builder.candidates.twins import left_out, read_twins
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.executor.base import engine_of
from ndec_builder.core.executor.runner import on_engine
from ndec_builder.core.locks import one_writer
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import CANDIDATES, SPLITS, conform, pair_id
from ndec_builder.core.storage import fingerprint, read_json, read_table, write_json, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.pictures_over_time import PicturesOverTime, picture_column

RESULT_VERSION = 2
# the queries that were searched again, with their pictures, and what they were searched in: a fingerprint of the
# images, and that of the mining, whose cut counts
_SEARCHED = "recheck-searched.json"


@on_engine
@one_writer(lambda config: Workspace(config.workspace).candidates(config.split))
def run(config: RecheckConfig) -> Path:
    """Append new pairs of kept queries to candidates/<split>/recheck.parquet (schema CANDIDATES); return its path.

    Ranks continue after the last candidate, in the total order within a round. The counts are in recheck.run.json.
    Raises NdecError when the split is not mined or has no decisions yet, and when it was mined with other vectors;
    UsageError for another model than that of the mining, and for distractors of split train.
    """
    record = RunRecord("recheck", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    if config.distractors and config.split != "test":
        raise UsageError(f"--distractors is for split test; split {config.split} has none")
    directory = workspace.candidates(config.split)
    candidates = all_candidates(workspace, config.split)
    check_mined_model(directory, config.split, config.model)
    kept = kept_queries(candidates, read_table(workspace.annotation(config.split) / "decisions.parquet"))
    pool, gallery, context = _load_sides(workspace, config)
    check_mined_vectors(directory, config.split, gallery)
    cut = mining_cut(workspace, config.split, (_without_twins(workspace, pool), gallery), context)
    sides, next_rank = (pool, gallery), max(candidates["rank"].to_pylist(), default=0) + 1
    fresh = _new_candidates(workspace, config.split, candidates, sorted(kept.kept), sides, context, cut, next_rank)
    unmined = _closest_unmined(workspace, config, candidates, sides, context, next_rank + len(fresh))
    fresh = pa.concat_tables([fresh, unmined])
    if (directory / GEOMETRY_FILE).is_file():  # same as in mining
        fresh = add_geometry(workspace, config.split, fresh, name=RECHECK_GEOMETRY_FILE, engine=engine_of(config))
    path = directory / "recheck.parquet"
    before = read_table(path) if path.is_file() else CANDIDATES.empty_table()
    both = pa.concat_tables([CANDIDATES.empty_table(), before, fresh], promote_options="default")
    write_table(path, conform(both, CANDIDATES))
    _keep_searched(workspace, config.split, kept.kept)
    record.write(
        directory,
        name="recheck.run.json",
        counts={
            "kept_queries": len(kept.kept),
            "new_pairs": fresh["duplicate_of"].null_count,  # pairs that annotators will see
            "new_duplicates": len(fresh) - fresh["duplicate_of"].null_count,
            "pairs": len(before) + len(fresh),
            **({"unmined_images": len(unmined)} if config.distractors else {}),
        },
        cut=cut.score,
    )
    above = len(fresh) - len(unmined)
    say(f"{number_of(len(kept.kept), 'query')} searched again: {number_of(above, 'new pair')} at or above {cut}")
    if config.distractors:
        scores = unmined[cut.column].to_pylist()
        span = f", scores {max(scores):.4f} … {min(scores):.4f}" if scores else ""
        say(
            f"{number_of(len(unmined), 'unmined pool image')}: the closest pair of each goes to annotation{span}; "
            f"{sum(score >= cut.score for score in scores)} of them reach the mining cut"
        )
    return path


def close_to_references(workspace: Workspace, split: str = "test") -> Callable[[Collection[str]], set[str]] | None:
    """A function that returns which of some pool images reach the mining cut with a reference.

    None if the split is not mined, or if the vectors that it was mined with are missing, out of date or replaced by
    others that cannot be compared with its scores.
    """
    directory = workspace.candidates(split)
    if not (directory / "candidates.parquet").is_file() or not (directory / "run.json").is_file():
        return None
    model = (read_json(directory / "run.json").get("config") or {}).get("model")  # other tools may record none
    if model is None or not all(is_embedded(workspace, role, model) for role in ("pool", GALLERY[split])):
        return None
    pool, gallery, context = _load_sides(workspace, RecheckConfig(workspace.root, split, model=model))
    if not has_mined_vectors(directory, gallery):
        return None
    cut = mining_cut(workspace, split, (_without_twins(workspace, pool), gallery), context)

    def reaching(image_ids: Collection[str]) -> set[str]:
        queries = pool.only(image_ids)
        return set(queries.names(pairs_above_cut(queries, gallery, context, cut).queries)) if len(queries) else set()

    return reaching


def not_searched_again(workspace: Workspace, split: str, kept: Collection[str]) -> set[str]:
    """The kept queries that the second search has not covered, or only before their own picture, the references or the
    mining changed.

    Empty if an earlier version searched, which did not record it.
    """
    directory = workspace.candidates(split)
    if (directory / "recheck.run.json").is_file() and not (directory / _SEARCHED).is_file():
        return set()
    return set(kept) - set(_searched(workspace, split))


def _searched(workspace: Workspace, split: str) -> dict[str, str | None]:
    """The queries whose present picture was searched again in the present images, with that picture.

    Earlier versions did not record the pictures and the mining; these count as unchanged.
    """
    path = workspace.candidates(split) / _SEARCHED
    found = read_json(path) if path.is_file() else {}
    mining = _mining(workspace, split)
    if found.get("images") != _images(workspace, split) or found.get("mining", mining) != mining:
        return {}
    pictures, now = found.get("pictures", {}), PicturesOverTime(workspace, "pool").present(found["queries"])
    return {name: picture for name, picture in now.items() if pictures.get(name, picture) == picture}


def _keep_searched(workspace: Workspace, split: str, kept: Collection[str]) -> None:
    pictures = _searched(workspace, split) | PicturesOverTime(workspace, "pool").present(kept)
    facts: dict[str, Any] = {"images": _images(workspace, split), "mining": _mining(workspace, split)}
    facts |= {"queries": sorted(pictures), "pictures": dict(sorted(pictures.items()))}
    write_json(workspace.candidates(split) / _SEARCHED, facts)


def _mining(workspace: Workspace, split: str) -> str | None:
    """Fingerprint of the mining; None if another tool wrote the candidates."""
    path = workspace.candidates(split) / "run.json"
    return read_json(path).get("fingerprint") if path.is_file() else None


def _images(workspace: Workspace, split: str) -> str:
    """Fingerprint of the pictures that queries are searched in."""
    table = read_table(workspace.images(GALLERY[split]), ["image_id", "sha256", "rotation"])
    return fingerprint([table["image_id"].to_pylist(), picture_column(table).to_pylist()])


def new_pairs(workspace: Workspace, split: str = "test") -> list[str]:
    """Return the pair ids of the second search that still need a decision, in rank order."""
    path = workspace.candidates(split) / "recheck.parquet"
    if not path.is_file():
        return []
    table = read_table(path)
    decisions = workspace.annotation(split) / "decisions.parquet"
    decided: set[str] = set()
    if decisions.is_file():
        rows = read_table(decisions, ["pair_id", "decision"]).to_pylist()
        decided = {row["pair_id"] for row in rows if row["decision"] is not None}
    return [
        row["pair_id"] for row in table.to_pylist() if row["duplicate_of"] is None and row["pair_id"] not in decided
    ]


def _load_sides(workspace: Workspace, config: RecheckConfig) -> tuple[RoleVectors, RoleVectors, CandidateContext]:
    """The pool, the images that it is searched in (those of the mining), and the context of the mining."""
    pool, gallery, background = load_search_vectors(workspace, config.split, config.model)
    gallery, reasons = allowed_gallery(gallery, *closed_to_training(workspace, config.split))
    gallery = gallery.without(left_out(read_twins(workspace, gallery.role), reasons))
    return pool, gallery, _mining_context(workspace, config, (pool, gallery), background)


def _without_twins(workspace: Workspace, images: RoleVectors) -> RoleVectors:
    return images.without(read_twins(workspace, images.role))


def _new_candidates(
    workspace: Workspace,
    split: str,
    candidates: pa.Table,
    query_ids: list[str],
    sides: tuple[RoleVectors, RoleVectors],
    context: CandidateContext,
    cut: MiningCut,
    first_rank: int,
) -> pa.Table:
    """The candidates to add: pairs of the kept queries at or above the cut that are not candidates yet."""
    if not query_ids:
        return CANDIDATES.empty_table()
    pool, gallery = sides
    gone = set(query_ids) - set(pool.ids.filter(pc.is_in(pool.ids, value_set=pa.array(query_ids))).to_pylist())
    if gone:
        raise NdecError(
            f"{len(gone)} mined pool images, {min(gone)!r} first, are no longer in the pool embeddings; "
            "restore the pool, or mine and annotate again"
        )
    queries = pool.only(query_ids)
    pairs = pairs_above_cut(queries, gallery, context, cut)
    names = zip(queries.names(pairs.queries), gallery.names(pairs.references), strict=True)
    known = set(candidates["pair_id"].to_pylist())
    unseen = [position for position, (q, r) in enumerate(names) if pair_id(split, q, r) not in known]
    pairs = pairs.take(np.array(unseen, dtype=np.int64))
    return candidate_table(workspace, split, pairs, (queries, gallery), context, first_rank)


def _closest_unmined(
    workspace: Workspace,
    config: RecheckConfig,
    candidates: pa.Table,
    sides: tuple[RoleVectors, RoleVectors],
    context: CandidateContext,
    first_rank: int,
) -> pa.Table:
    """The closest pair of each of `config.distractors` pool images that no pair of either split has, closest first."""
    if not config.distractors:
        return CANDIDATES.empty_table()
    pool, gallery = sides
    closed, _ = closed_to_training(workspace, "train")  # groups of references: none of them may be a distractor
    barred = skip_reasons(read_table(pool.table, SKIP_COLUMNS), (), closed)
    used = set().union(*(used_images(workspace, split) for split in SPLITS))
    pool = _without_twins(workspace, pool).without({*candidates["query_id"].to_pylist(), *used, *barred})
    if not len(pool):
        return CANDIDATES.empty_table()
    search = MineConfig(
        workspace.root,
        config.split,
        top=config.distractors,
        max_per_query=1,
        max_per_reference=0,
        rank_by=context.rank_by,
    )
    scratch = workspace.candidates(config.split) / "recheck-search"
    shutil.rmtree(scratch, ignore_errors=True)
    pairs = find_pairs(search, pool, gallery, context, scratch, "recheck")
    shutil.rmtree(scratch, ignore_errors=True)
    return candidate_table(workspace, config.split, pairs, (pool, gallery), context, first_rank)


def _mining_context(
    workspace: Workspace, config: RecheckConfig, sides: tuple[RoleVectors, RoleVectors], background: RoleVectors | None
) -> CandidateContext:
    """The context of the mining: ranking, normalisation, and its attribution table if that still exists."""
    mined = read_json(workspace.candidates(config.split) / "run.json")["config"]
    attribution: Attribution = {}
    if path := mined.get("attribution"):
        if Path(path).is_file():
            attribution = only_clear_rows(Path(path), read_attribution(Path(path)), sides)
        else:
            say(f"the attribution table of the mining, {path}, is gone: what it said is unknown for new pairs")
    return CandidateContext(
        background,
        Normalization(
            mined.get("normalization_factor", MineConfig.normalization_factor),
            mined.get("normalization_neighbours", MineConfig.normalization_neighbours),
            mined.get("normalization_mode", MineConfig.normalization_mode),
        ),
        mined.get("rank_by", MineConfig.rank_by),
        attribution,
        engine_of(config),
    )
