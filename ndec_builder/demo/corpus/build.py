"""`ndec corpus fetch`: the mini corpus or the user's own photos, with roles and known truth by construction."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ndec_builder.core.console import say
from ndec_builder.core.errors import UsageError
from ndec_builder.core.locks import locked
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.workspace import Workspace
from ndec_builder.demo.corpus.dedupe import keep_one, twins
from ndec_builder.demo.corpus.look_alike_groups import ALIKE, group_names
from ndec_builder.demo.corpus.originals import Original, Video, find_own, list_folder, list_package, own_groups
from ndec_builder.demo.corpus.packages import Fetched, default_cache, fetch_packages
from ndec_builder.demo.corpus.prepare import PreparedPicture, prepare, sample_originals
from ndec_builder.demo.corpus.role_assignment import Cast, PictureCard, Roles, assign_roles
from ndec_builder.demo.corpus.settings import CorpusConfig
from ndec_builder.demo.corpus.write_workspace import _Row, fill

RESULT_VERSION = 1
RECORD = "corpus.run.json"
SCALE = {"full": 1.0, "small": 0.25}
SHARE = {"full": 1.0, "small": 0.3}  # share of the packages' graphics that is used
MIN_SCENES = 20  # with fewer test groups of look-alikes no figure about natural hard negatives is claimed
_OWN_PHOTOS = 4_000  # at most this many of the user's photos are used, chosen by the seed


def run(config: CorpusConfig) -> Path:
    """Write images/{reference,basic,pool}.parquet, images/edits.parquet, files/<role>/*.jpg and files/background/*.jpg.

    Returns the run record, whose counts describe each split. Same pictures and seed, same bytes of all other files.
    Raises UsageError for a workspace whose images were ingested by hand, NdecError when no package could be fetched or
    there are too few pictures, and while another command writes one of these tables.
    """
    with contextlib.ExitStack() as locks:
        for role in ("reference", "basic", "pool"):
            locks.enter_context(locked(Workspace(config.workspace).images(role)))
        return _run(config)


def _run(config: CorpusConfig) -> Path:
    workspace, record = Workspace(config.workspace), RunRecord("corpus", config, RESULT_VERSION)
    target = workspace.images("reference").parent
    if workspace.images("reference").is_file() and not (target / RECORD).is_file():
        raise UsageError(
            f"{config.workspace} holds reference images that were not made by `ndec corpus fetch`; it would replace "
            "them: give an empty workspace with --workspace"
        )
    originals, videos, fetched = _originals(config, workspace)
    unusable = Counter[str]()
    pictures = prepare(originals, videos, config.workers, unusable)
    kept, groups, units = group_pictures(pictures)
    likeness = typical(kept, groups)
    cards = [
        PictureCard(p.image_id, g, u, p.photo, t) for p, g, u, t in zip(kept, groups, units, likeness, strict=True)
    ]
    roles = assign_roles(cards, config.seed, SCALE[config.size])
    group_of = {card.image_id: card.group for card in cards}
    images, edits = fill(workspace, {p.image_id: p for p in kept}, group_of, roles, config.seed, config.workers)
    counts = _counts(images, edits, roles, group_of) | {
        "originals": len(originals) + len(videos),
        "usable": len(pictures),
        "duplicates_dropped": len(pictures) - len(kept),
        "unusable": dict(sorted(unusable.items())),
        "without_role": len(kept) - len(roles.all_ids),
    }
    packages = (
        [{"name": p.name, "version": p.version, "registry": p.registry} for p in fetched.packages] if fetched else []
    )
    failures = fetched.failures if fetched else {}
    inputs = {p.name: p.sha256 for p in fetched.packages} if fetched else {}
    path = record.write(target, counts=counts, inputs=inputs, name=RECORD, packages=packages, packages_missing=failures)
    sizes = ", ".join(f"{counts[role]} {role}" for role in images)
    say(f"corpus: {sizes} images; {counts['claim']}")
    left_out = {**unusable, "shows the same as another one": counts["duplicates_dropped"],
                "not needed for any role": counts["without_role"]}  # fmt: skip
    if total := sum(left_out.values()):
        why = "; ".join(f"{count:,} × {reason}" for reason, count in left_out.items() if count)
        say(f"{total:,} of {len(pictures) + unusable.total():,} pictures are not used: {why}")
    return path


def group_pictures(pictures: Sequence[PreparedPicture]) -> tuple[list[PreparedPicture], list[str], list[str]]:
    """Drop twins and group look-alikes; return (pictures kept, ascending by id; their groups; their units).

    Of two twins the photo is kept, else the smaller id. Frames and views of one scene are never twins: the scene
    differs, not the processing. A unit must not be split between test and train: a group, or all frames of a film.
    """
    order = sorted(pictures, key=lambda p: (not p.scene, not p.photo, p.image_id))
    pairs = [(i, j) for i, j in twins(_structures(order)) if not _one_scene(order[i], order[j])]
    kept = sorted((order[i] for i in keep_one(len(order), pairs)), key=lambda p: p.image_id)
    ids = [p.image_id for p in kept]
    scenes = {p.family for p in kept if p.scene and p.family}
    groups = group_names(ids, [p.family for p in kept], twins(_structures(kept), ALIKE), scenes)
    first: dict[str, int] = {}
    same_group = [(first.setdefault(group, index), index) for index, group in enumerate(groups)]
    return kept, groups, group_names(ids, [p.unit for p in kept], same_group, set())


def typical(pictures: Sequence[PreparedPicture], groups: Sequence[str]) -> list[float]:
    """Mean cosine of each picture's colour edges with the rest of its group, 4 decimals; 0 for a group of one."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    result = [0.0] * len(pictures)
    for indices in members.values():
        rows = _structures([pictures[i] for i in indices])[:, 0]
        for index, cosines in zip(indices, rows @ rows.T, strict=True):
            result[index] = round(float(cosines.sum() - 1) / max(1, len(indices) - 1), 4)
    return result


def _one_scene(a: PreparedPicture, b: PreparedPicture) -> bool:
    return a.scene and b.scene and a.family == b.family


def _structures(pictures: Sequence[PreparedPicture]) -> np.ndarray:
    return np.stack([p.structure for p in pictures]) if pictures else np.zeros((0, 2, 1024), np.float32)


def _originals(config: CorpusConfig, workspace: Workspace) -> tuple[list[Original], list[Video], Fetched | None]:
    if config.images is not None:
        own = find_own(config.images)
        chosen = np.random.default_rng([config.seed, 4]).permutation(len(own))[:_OWN_PHOTOS]
        if len(chosen) < len(own):
            rest = len(own) - len(chosen)
            say(f"{rest:,} of {len(own):,} pictures are not used: the demo takes at most {_OWN_PHOTOS:,}")
        groups = own_groups(config.images, config.group_by, workspace)
        return list_folder([own[int(i)] for i in chosen], workspace, groups), [], None
    fetched = fetch_packages(config.cache or default_cache())
    originals: list[Original] = []
    videos: list[Video] = []
    for package in fetched.packages:
        more, films = list_package(package)
        originals += more
        videos += films
    return sample_originals(originals, SHARE[config.size], config.seed), videos, fetched


def _counts(
    images: Mapping[str, list[_Row]], edits: Sequence[_Row], roles: Roles, group_of: Mapping[str, str]
) -> dict[str, Any]:
    kinds = Counter(row["kind"] for row in edits)
    scenes = len({group_of[i] for i in roles.test.natural})
    return {
        **{role: len(rows) for role, rows in images.items()},
        "backgrounds": len(roles.backgrounds),
        "edited_copies_planted": kinds["edited_copy"],
        "reverse_crops_planted": kinds["reverse_crop"],
        "test": _cast_counts(roles.test, group_of),
        "train": _cast_counts(roles.train, group_of),
        "claim": "enough scenes" if scenes >= MIN_SCENES else "too few scenes: no figure claimed",
    }


def _cast_counts(cast: Cast, group_of: Mapping[str, str]) -> dict[str, int]:
    """Pictures of a split by part, and its groups with look-alikes by kind."""
    groups = Counter(group.split("/")[0] for group in {group_of[i] for i in cast.natural})
    return {
        "gallery": len(cast.gallery) + len(cast.crops),
        "pool_natural": len(cast.natural),
        "pool_reverse_crops": len(cast.crops),
        "pool_edited_copies": len(cast.copied),
        "pool_distractors": len(cast.distractors),
        "scene_groups": groups["scene"],
        "family_groups": groups["family"],
    }
