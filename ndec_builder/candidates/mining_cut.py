"""The mining cut: the score from which a pair counts as close, and which vectors it may be compared with."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ndec_builder.candidates.candidate_table import CandidateContext, normalized_scores
from ndec_builder.candidates.input_hashes import hash_inputs, inputs_of
from ndec_builder.candidates.mining_search import find_pairs
from ndec_builder.candidates.role_vectors import RoleVectors
from ndec_builder.candidates.search.exact import pairs_above
from ndec_builder.candidates.search.pairs import Pairs
from ndec_builder.candidates.search.score_normalization import normalized
from ndec_builder.candidates.settings import MineConfig, recommended_top
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import fingerprint, read_json, read_table, write_json
from ndec_builder.core.workspace import Workspace

SEARCHED_CUT_FILE = "searched-cut.json"  # of a split whose pairs no search by the descriptor found


@dataclass(frozen=True)
class MiningCut:
    """The column that ranks the pairs, and the score in it from which a pair counts as close.

    top: size of the search that gave the score; 0: it is the lowest score of the mined pairs.
    """

    column: str
    score: float
    top: int = 0

    def __str__(self) -> str:
        source = f", that of a search with --top {self.top:,}, because none found the mined pairs" if self.top else ""
        return f"the mining cut {self.score:.4f}{source}"


def mining_cut(
    workspace: Workspace, split: str, sides: tuple[RoleVectors, RoleVectors], context: CandidateContext
) -> MiningCut:
    """The lowest score of the mined pairs in the column that ranked them.

    Pairs of a file (`--pairs`) or found by local features alone (`--shortlist local`) can have any scores. There it is
    the lowest score that a search of `sides` (pool, gallery) with the recommended --top and the default limits finds,
    duplicates counted. That search is done once and kept in SEARCHED_CUT_FILE until images, vectors or ranking change.
    """
    directory = workspace.candidates(split)
    column = "score_normalized" if context.rank_by == "normalized" else "score"
    config = _record(directory).get("config") or {}
    if not config.get("pairs") and config.get("shortlist") != "local":
        return MiningCut(column, min(read_table(directory / "candidates.parquet", [column])[column].to_pylist()))
    pool, gallery = sides
    top, path = recommended_top(len(pool)), directory / SEARCHED_CUT_FILE
    inputs = hash_inputs(directory, inputs_of(workspace, split, config.get("model", pool.model)), workspace.root)
    normalization = context.normalization if context.rank_by == "normalized" else None
    mark = fingerprint([inputs, top, len(pool), len(gallery), repr(normalization)])
    known = read_json(path) if path.is_file() else {}
    if known.get("fingerprint") != mark:
        why = f"no search by the descriptor found the pairs of split {split}"
        say(f"{why}: searching {number_of(len(pool), 'pool image')} for the mining cut")
        search, scratch = MineConfig(workspace.root, split, top=top, rank_by=context.rank_by), directory / "cut-search"
        pairs = find_pairs(search, pool, gallery, context, scratch, mark)
        scores = normalized_scores(pairs, pool, context) if normalization is not None else pairs.scores
        assert scores is not None  # normalised ranks have a background
        known = {"fingerprint": mark, "top": top, "cut": float(scores.min())}
        write_json(path, known)
        shutil.rmtree(scratch, ignore_errors=True)
    return MiningCut(column, known["cut"], top)


def pairs_above_cut(queries: RoleVectors, gallery: RoleVectors, context: CandidateContext, cut: MiningCut) -> Pairs:
    """All pairs at or above the mining cut."""
    background = context.background
    # with normalised ranks the cut is a normalised score; each query has its own raw cut
    offsets = np.zeros(len(queries))
    if context.rank_by == "normalized" and background is not None:
        offsets = context.normalization.offsets(queries.vectors, background.vectors.load())
    low = np.nextafter((cut.score + offsets).astype(np.float32), np.float32(-np.inf))
    pairs = pairs_above(queries.vectors, gallery.vectors.load(), low)
    reached = normalized(pairs.scores, offsets[pairs.queries]) >= np.float32(cut.score)
    return pairs.take(np.flatnonzero(reached))


def begin_result(directory: Path) -> None:
    """Note in run.json that a mining writes its result now. Its own record, written last, removes the note.

    Until then, tables may be missing, and the record and the tables may be of two minings.
    """
    write_json(directory / "run.json", _record(directory) | {"fingerprint": None, "unfinished": True})


def is_unfinished(directory: Path) -> bool:
    """Whether the last mining was stopped while it wrote its result."""
    return bool(_record(directory).get("unfinished"))


def check_mined_model(directory: Path, split: str, model: str) -> None:
    """Raise UsageError when the split was mined with another model, NdecError when a mining was stopped half-way."""
    if is_unfinished(directory):
        raise NdecError(
            f"`ndec mine --split {split}` was stopped while it wrote its result, so pairs may be missing, or of two "
            "minings: run it again"
        )
    mined_with = (_record(directory).get("config") or {}).get("model")
    if mined_with not in (None, model):
        raise UsageError(
            f"split {split} was mined with model {mined_with!r}, not {model!r}; one cut does not fit the "
            f"scores of two models. Pass --model {mined_with}"
        )


def check_mined_vectors(directory: Path, split: str, vectors: RoleVectors) -> None:
    """Raise NdecError when the split was mined with vectors that cannot be compared with these."""
    if not has_mined_vectors(directory, vectors):
        raise NdecError(
            f"the vectors of {vectors.role} were made again after split {split} was mined, with another whitening, "
            f"other weights or another precision, so the scores of the mined pairs do not fit them. Run `ndec mine "
            f"--split {split}` again; labels stay"
        )


def has_mined_vectors(directory: Path, vectors: RoleVectors) -> bool:
    """Whether scores of these vectors can be compared with those of the mined pairs.

    True for pairs that an earlier version mined, which did not record it.
    """
    known = _record(directory)
    pairs = ((known.get("space"), vectors.space), (known.get("precision"), vectors.precision))
    return all(None in pair or pair[0] == pair[1] for pair in pairs)


def _record(directory: Path) -> dict[str, Any]:
    path = directory / "run.json"
    record: dict[str, Any] = read_json(path) if path.is_file() else {}
    return record
