"""Geometry of pairs, measured once per workspace and cached by the contents and rotations of the two images."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from ndec_builder.candidates.geometry.fitting import single_threaded
from ndec_builder.candidates.geometry.local_codes import LocatedImage
from ndec_builder.core.decode import DecodeError
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.plan import Plan, Shard, check_files, open_plan
from ndec_builder.core.executor.runner import Outcome, run_shards
from ndec_builder.core.executor.shard_items import stepping
from ndec_builder.core.locks import locked
from ndec_builder.core.storage import atomic_path, fingerprint
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset, pictures_of, rotations_of
from ndec_builder.training.fused.measure import PICTURE_SIDE, prepared_reference
from ndec_builder.training.fused.pair_signals import PAIR_SIGNALS, PairPicture, pair_vector, prepare_picture
from ndec_builder.training.views import load_picture

GEOMETRY_VERSION = 5  # raised by hand when the signals of a pair change
SHARD_PAIRS = 1024


@dataclass(frozen=True)
class SignalsShard:
    """Geometry of pairs [start, stop) of a list that is sorted by query; picklable."""

    folder: Path  # absolute, of the plan
    pairs: Sequence[tuple[LocatedImage, LocatedImage]]
    keys: np.ndarray  # (n, 32) uint8

    def __call__(self, shard: Shard) -> Outcome:
        rows = np.full((shard.stop - shard.start, len(PAIR_SIGNALS)), np.nan)
        with single_threaded():
            for place, (query, reference) in enumerate(stepping(self.pairs[shard.start : shard.stop])):
                try:
                    rows[place] = pair_vector(_prepared_query(*query[1:]), prepared_reference(*reference[1:]))
                except (OSError, DecodeError):  # unreadable, or changed since it was embedded; tried again by `_read`
                    continue
        name = f"{shard.name}.npz"
        with atomic_path(self.folder / name) as temporary:
            np.savez(temporary, keys=self.keys[shard.start : shard.stop], signals=rows)
        return Outcome((name,), {"pairs": len(rows)})


@lru_cache(maxsize=8)  # pairs come sorted by query
def _prepared_query(uri: str, rotation: int, sha256: str | None) -> PairPicture:
    return prepare_picture(np.asarray(load_picture(uri, PICTURE_SIDE, rotation, sha256).convert("RGB")))


def pair_signals(
    workspace: Workspace, dataset: Dataset, query: np.ndarray, reference: np.ndarray, engine: Engine
) -> np.ndarray:
    """(n, 30) float64 signals of pairs, sorted by query. Measures only pairs that are not in the cache.

    Searches with different k, models or score normalisation share many pairs. A second benchmark that lacks pairs
    waits until the first one has measured its own.
    """
    sides = [images_of(dataset, table) for table in (dataset.queries, dataset.references)]
    pairs = [(sides[0][q], sides[1][r]) for q, r in zip(query.tolist(), reference.tolist(), strict=True)]
    keys = [_key(*pair) for pair in pairs]
    folder = workspace.root / "cache" / "geometry"
    known = signals_by_key(folder)
    if any(key not in known or np.isnan(known[key]).all() for key in keys):
        with locked(folder, wait=True):
            known = signals_by_key(folder, retry=True)
            missing = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in known}
            if missing:
                _measure(folder, list(missing.values()), list(missing), engine)
                known = signals_by_key(folder)
    return np.array([known[key] for key in keys]).reshape(len(keys), len(PAIR_SIGNALS))


def _measure(folder: Path, pairs: list[tuple[LocatedImage, LocatedImage]], keys: list[bytes], engine: Engine) -> None:
    """Measure pairs in shards. Finished shards survive a kill, so the next run measures the rest."""
    plan = Plan(len(pairs), SHARD_PAIRS, fingerprint([GEOMETRY_VERSION, [key.hex() for key in keys]]))
    shards = open_plan(folder / plan.fingerprint[:16], plan).absolute()
    work = SignalsShard(shards, pairs, np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32))
    effort = pictures_prepared(pairs, engine.workers or os.cpu_count() or 1)
    results = run_shards(shards, plan, work, engine, what="fitting pairs", unit="pairs", effort=effort)
    for shard, done in zip(plan.shards, results, strict=True):
        check_files(shards, shard, done)


def pictures_prepared(pairs: Sequence[tuple[LocatedImage, LocatedImage]], workers: int) -> Callable[[float], float]:
    """How many pictures are prepared for the first n pairs: nearly all of the work.

    Each query is prepared once, because pairs come sorted by query. Each worker prepares a reference the first time
    that it meets it, so the first pairs take several times as long as the last ones.
    """
    queries, references = ({pair[side]: place for place, pair in reversed([*enumerate(pairs)])} for side in (0, 1))
    first_query, first_reference = (np.sort(list(places.values())) for places in (queries, references))

    def prepared(count: float) -> float:
        mine = np.searchsorted(first_reference, count / workers)
        return float(np.searchsorted(first_query, count) + workers * mine)

    return prepared


def signals_by_key(folder: Path, retry: bool = False) -> dict[bytes, np.ndarray]:
    """Key → signals of all measured pairs. Deletes damaged files, so that a bad cache never stops a benchmark.

    retry: also deletes files with a pair whose image could not be read, so that its shard is measured again.
    """
    known: dict[bytes, np.ndarray] = {}
    for path in sorted(folder.rglob("*.npz")):
        try:
            with np.load(path, allow_pickle=False) as file:
                keys, signals = file["keys"], file["signals"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            path.unlink(missing_ok=True)  # so that its shard does not count as done
            continue
        if keys.shape == (len(signals), 32) and signals.shape[1:] == (len(PAIR_SIGNALS),):
            if retry and np.isnan(signals).all(axis=1).any():
                path.unlink(missing_ok=True)
                continue
            known |= zip((key.tobytes() for key in keys), signals, strict=True)
    return known


def _key(query: LocatedImage, reference: LocatedImage) -> bytes:
    """Hash of everything that the signals of a pair depend on, 32 bytes."""
    named = [GEOMETRY_VERSION, PICTURE_SIDE, query[0], query[2], reference[0], reference[2]]
    return hashlib.sha256("\n".join(map(str, named)).encode()).digest()


def images_of(dataset: Dataset, table: pa.Table) -> list[LocatedImage]:
    contents, uris = pictures_of(table, dataset.resolve), map(dataset.resolve, table["uri"].to_pylist())
    return list(zip(contents, uris, rotations_of(table), table["sha256"].to_pylist(), strict=True))
