"""Candidates from a file of pairs instead of a search: `ndec mine --pairs FILE`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa

from ndec_builder.candidates.outside.given_labels import GIVEN_FILE, refuse_second_name, understood
from ndec_builder.candidates.outside.name_lookup import NOT_SEARCHED, NameLookup, NameMeaning, named_images
from ndec_builder.candidates.outside.pair_files import NamedPair, read_pair_file
from ndec_builder.candidates.role_vectors import RoleVectors
from ndec_builder.candidates.search.pairs import Pairs, score_pairs
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import UsageError
from ndec_builder.core.storage import write_table
from ndec_builder.core.workspace import Workspace

LEFT_OUT_FILE = "given-pairs-left-out.parquet"  # first, second, reason
NOT_SEARCHED_REASON = "an image that is not searched"


def given_pairs(workspace: Workspace, config: MineConfig, sides: tuple[RoleVectors, RoleVectors]) -> Pairs:
    """The pairs of `config.pairs` with the scores of the model, ascending by (query, reference).

    A name is an id, a uri, a path, or the end of a path, with or without its ending. A pair may be given in either
    direction; of both directions, one counts. Of names that both roles have, the first is the pool image if the columns
    say so (`query_id`, `reference_id`). Pairs that cannot be mined are counted with their reason and listed in
    LEFT_OUT_FILE. Raises UsageError when no pair is left, for a label that is none of ndec's, or for labels that
    another file or an annotator gave (`refuse_second_name`).
    """
    path = config.pairs
    assert path is not None
    pool, gallery = sides
    directory = workspace.candidates(config.split)
    named = understood(read_pair_file(path, config.labels), config)
    images = tuple(named_images(workspace, side.table, side.ids.to_pylist()) for side in sides)
    names = {name for pair in named for name in (pair.first, pair.second)}
    found, left_out = match_pairs(named, NameLookup(workspace.root, images, names))
    lost = [(pair.first, pair.second, reason) for pair, reason in left_out]
    columns = list(zip(*lost, strict=True)) or [(), (), ()]
    header = ("first", "second", "reason")
    write_table(
        directory / LEFT_OUT_FILE,
        pa.table({n: pa.array(list(c), pa.string()) for n, c in zip(header, columns, strict=True)}),
    )
    for reason, count in sorted(Counter(reason for _, reason in left_out).items()):
        example = next(pair for pair, why in left_out if why == reason)
        say(f"{path}: {number_of(count, 'pair')} left out: {reason} (first: {example.first!r}, {example.second!r})")
    if not found:
        raise UsageError(
            f"no pair of {path} is a pair of a pool and a {gallery.role} image that may be mined; see "
            f"{directory / LEFT_OUT_FILE}, and check that both roles are ingested under these names"
        )
    keys = sorted(found)
    given = {
        "query_id": pool.names(np.array([q for q, _ in keys])),
        "reference_id": gallery.names(np.array([r for _, r in keys])),
        "given_score": pa.array([found[key].score for key in keys], pa.float64()),
    }
    if config.labels:
        given["given_label"] = pa.array([found[key].label for key in keys], pa.string())
        refuse_second_name(config, workspace, pa.table(given))
    write_table(directory / GIVEN_FILE, pa.table(given))
    queries, references = (np.array(column, np.int64) for column in zip(*keys, strict=True))
    used, places = np.unique(queries, return_inverse=True)
    scores = score_pairs(pool.vectors.take(used)[:], gallery.vectors.load(), places, references)
    return Pairs(queries, references, scores)


def match_pairs(
    pairs: list[NamedPair], names: NameLookup
) -> tuple[dict[tuple[int, int], NamedPair], list[tuple[NamedPair, str]]]:
    """Return ({(pool row, gallery row): as first given}, the pairs left out with their reasons).

    A label may be in any of the rows of a pair. A pair with two different labels keeps none.
    """
    found: dict[tuple[int, int], NamedPair] = {}
    contradicted: set[tuple[int, int]] = set()
    left_out = []
    for pair in pairs:
        key = _rows(pair, names)
        if isinstance(key, str):
            left_out.append((pair, key))
            continue
        if (first_row := found.setdefault(key, pair)) is pair:
            continue
        if pair.label and first_row.label and pair.label != first_row.label:
            contradicted.add(key)
            left_out.append((pair, "labelled differently before; neither label counts"))
            continue
        left_out.append((pair, "given before, in this or the other direction"))
        if pair.label:
            found[key] = replace(first_row, label=pair.label)
    return {k: replace(pair, label=None) if k in contradicted else pair for k, pair in found.items()}, left_out


def _rows(pair: NamedPair, names: NameLookup) -> tuple[int, int] | str:
    """(pool row, gallery row) of a pair, or why it is left out."""
    if not pair.first or not pair.second:
        return "a row without two names"
    first, second = names.find(pair.first), names.find(pair.second)
    if first.reason or second.reason:
        return first.reason or second.reason
    forwards, backwards = (first.pool, second.gallery), (second.pool, first.gallery)
    same = first == second and (first.shared or None in (first.pool, first.gallery))
    if same and (pair.first == pair.second or NOT_SEARCHED not in (first.pool, first.gallery)):
        return "a pair of an image with itself" if first != NameMeaning() else NOT_SEARCHED_REASON
    ambiguous = None not in forwards and None not in backwards and not (first.shared and second.shared)
    if ambiguous and not pair.directed:
        return "names that both roles have; give full paths, or columns query_id and reference_id"
    pool, gallery = forwards if None not in forwards else backwards
    if pool is None or gallery is None:
        return NOT_SEARCHED_REASON if NameMeaning() in (first, second) else "both images have the same role"
    return NOT_SEARCHED_REASON if NOT_SEARCHED in (pool, gallery) else (pool, gallery)
