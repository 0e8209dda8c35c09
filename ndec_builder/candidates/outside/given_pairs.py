"""Candidates from a file of pairs instead of a search: `ndec mine --pairs FILE`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from ndec_builder.candidates.outside.given_labels import GIVEN_FILE, understood
from ndec_builder.candidates.outside.pair_files import NamedPair, read_pair_file
from ndec_builder.candidates.role_vectors import RoleVectors
from ndec_builder.candidates.search.pairs import Pairs, score_pairs
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import UsageError
from ndec_builder.core.storage import read_table, write_table

LEFT_OUT_FILE = "given-pairs-left-out.parquet"  # first, second, reason


def given_pairs(config: MineConfig, sides: tuple[RoleVectors, RoleVectors], directory: Path) -> Pairs:
    """The pairs of `config.pairs` with the scores of the model, ascending by (query, reference).

    A name is an id, a uri, a file name, or a file name without its ending. A pair may be given in either direction; of
    both directions, one counts. Pairs that cannot be mined are counted with their reason and listed in LEFT_OUT_FILE.
    Raises UsageError when no pair is left, or for a label that is none of ndec's.
    """
    path = config.pairs
    assert path is not None
    pool, gallery = sides
    named = understood(read_pair_file(path, config.labels), config)
    found, left_out = match_pairs(named, *(_names(side) for side in sides))
    lost = [(pair.first, pair.second, reason) for pair, reason in left_out]
    columns = list(zip(*lost, strict=True)) or [(), (), ()]
    names = ("first", "second", "reason")
    write_table(
        directory / LEFT_OUT_FILE,
        pa.table({n: pa.array(list(c), pa.string()) for n, c in zip(names, columns, strict=True)}),
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
    write_table(directory / GIVEN_FILE, pa.table(given))
    queries, references = (np.array(column, np.int64) for column in zip(*keys, strict=True))
    used, places = np.unique(queries, return_inverse=True)
    scores = score_pairs(pool.vectors.take(used)[:], gallery.vectors.load(), places, references)
    return Pairs(queries, references, scores)


def match_pairs(
    pairs: list[NamedPair], pool: Mapping[str, int], gallery: Mapping[str, int]
) -> tuple[dict[tuple[int, int], NamedPair], list[tuple[NamedPair, str]]]:
    """Return ({(pool row, gallery row): as first given}, the pairs left out with their reasons).

    A label may be in any of the rows of a pair. A pair with two different labels keeps none.
    """
    found: dict[tuple[int, int], NamedPair] = {}
    contradicted: set[tuple[int, int]] = set()
    left_out = []
    for pair in pairs:
        if pair.first == pair.second:
            left_out.append((pair, "a pair of an image with itself"))
            continue
        first, second = ((_row(name, pool), _row(name, gallery)) for name in (pair.first, pair.second))
        if first[0] is not None and second[1] is not None:
            key = (first[0], second[1])
        elif second[0] is not None and first[1] is not None:
            key = (second[0], first[1])
        else:
            known = [row for row in (*first, *second) if row is not None]
            reason = "both images have the same role" if len(known) == 2 else "an image that is not searched"
            left_out.append((pair, reason))
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


def _row(name: str, rows: Mapping[str, int]) -> int | None:
    file = PurePosixPath(name)
    return next((rows[key] for key in (name, file.name, file.stem) if key in rows), None)


def _names(side: RoleVectors) -> dict[str, int]:
    """Every name of an image → its row. File names that two images share name neither."""
    rows = {image_id: row for row, image_id in enumerate(side.ids.to_pylist())}
    table = read_table(side.table, ["image_id", "uri"])
    uris = {
        uri: rows[i] for i, uri in zip(*(table[c].to_pylist() for c in ("image_id", "uri")), strict=True) if i in rows
    }
    files = Counter(PurePosixPath(uri).name for uri in uris)
    named = {PurePosixPath(uri).name: row for uri, row in uris.items() if files[PurePosixPath(uri).name] == 1}
    return named | uris | rows
