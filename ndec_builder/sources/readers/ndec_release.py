"""Kind `ndec`: the released benchmark: negative_pair/<5 digits>, query_images_h5, public_ground_truth_h5.csv.

A folder of negative_pair holds two images: T###### and another one. The T image is the former (l_F), the second one
the latter (l_L). The release does not state this; it follows from the paper. `--reverse-pairs` swaps all pairs.
"""

from __future__ import annotations

import collections
import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from ndec_builder.core.decode import SUFFIXES
from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.schemas import PAIRS, pair_id
from ndec_builder.core.storage import sha256_file
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.ground_truth import Match, read_ground_truth
from ndec_builder.sources.listing import Lister, SourceContents, name_all, stem
from ndec_builder.sources.readers.folder import File, walk_files
from ndec_builder.sources.settings import IngestConfig
from ndec_builder.sources.unread import Unread

PAIR_FOLDER, QUERY_FOLDER, TRUTH_FILE = "negative_pair", "query_images_h5", "public_ground_truth_h5.csv"
_NUMBER = re.compile(r"\d{5,}\Z")
_TRAINING = re.compile(r"T\d{6}\Z")
_IMAGES = frozenset(SUFFIXES)


def find(config: IngestConfig, workspace: Workspace) -> SourceContents:
    """Queries with their truth, formers as basic and latters as pool images, and the directed pairs in folder order.

    With a single role only its images. Raises UsageError when no part of the release exists. Anything else that is
    missing or unexpected is left out and named in one message.
    """
    root = Path(config.source)
    gaps: list[str] = []
    _check_parts(root, config, gaps)
    listings: dict[str, Any] = {}
    truth: list[Match] | None = None
    pairs: pa.Table | None = None
    inputs = {}
    unread = Unread()
    if config.role in ("query", "all") and (root / QUERY_FOLDER).is_dir():
        lister = Lister("query", config.license)
        for file in walk_files(root / QUERY_FOLDER, _IMAGES, unread, config.follow_links):
            _add(lister, workspace, root / QUERY_FOLDER / file.name, file)
        listings["query"] = lister.finish()
        if config.ground_truth is None and (root / TRUTH_FILE).is_file():
            truth, there = read_ground_truth(root / TRUTH_FILE), set(listings["query"].images["image_id"].to_pylist())
            inputs[TRUTH_FILE] = sha256_file(root / TRUTH_FILE)
            there |= {row["image_id"] for row in listings["query"].rejects}
            if lost := {query for query, _ in truth} - there:
                gaps.append(
                    name_all(
                        lost,
                        f"query of {TRUTH_FILE} has no image in {QUERY_FOLDER}",
                        f"queries of {TRUTH_FILE} have no image in {QUERY_FOLDER}",
                    )
                )
                truth = [match for match in truth if match[0] in there]
    if config.role in ("basic", "pool", "all") and (root / PAIR_FOLDER).is_dir():
        ids, listers = _read_pairs(root / PAIR_FOLDER, config, workspace, gaps, unread)
        listings |= {role: lister.finish() for role, lister in listers.items() if config.role in (role, "all")}
        pairs = _pair_table(ids) if config.role == "all" else None
    if not any(listing.images.num_rows for listing in listings.values()):
        raise GapsError(f"nothing of the NDEC release can be used in {root}: {'; '.join(gaps) or 'no images'}")
    return SourceContents(listings, tuple(gaps), truth, pairs, inputs=inputs, notes=(unread.note(),))


def _check_parts(root: Path, config: IngestConfig, gaps: list[str]) -> None:
    parts = {PAIR_FOLDER: ("basic", "pool", "all"), QUERY_FOLDER: ("query", "all"), TRUTH_FILE: ("query", "all")}
    needed = [part for part, roles in parts.items() if config.role in roles]
    if not needed:
        raise UsageError(
            "the NDEC release has no references, they are part of DISC21: `ndec ingest reference DISC21_FOLDER`"
        )
    missing = [part for part in needed if not (root / part).exists()]
    if config.ground_truth is not None and TRUTH_FILE in missing:
        missing.remove(TRUTH_FILE)
    if len(missing) == len(needed):
        raise UsageError(
            f"{root} is not an NDEC release for the role {config.role!r}: it has no {', no '.join(missing)}"
        )
    if missing:
        gaps.append(f"{root} lacks {', '.join(missing)}")


def _read_pairs(
    folder: Path, config: IngestConfig, workspace: Workspace, gaps: list[str], unread: Unread
) -> tuple[list[tuple[str, str]], dict[str, Lister]]:
    """Return the (former, latter) ids in folder order, and the listers of basic and pool."""
    members: dict[str, list[File]] = collections.defaultdict(list)
    for file in walk_files(folder, _IMAGES, unread, config.follow_links):
        members[str(PurePosixPath(file.name).parent)].append(file)
    empty = [path.name for path in folder.iterdir() if path.is_dir() and path.name not in members]
    odd = [f"{name} (no image)" for name in empty]
    listers = {role: Lister(role, config.license) for role in ("basic", "pool")}
    known: dict[tuple[str, str], Path] = {}
    pairs: dict[tuple[str, str], str] = {}
    twice = []
    for name in sorted(members, key=lambda name: (len(name), name)):
        files = sorted(members[name], key=lambda file: file.name)
        training = [bool(_TRAINING.match(stem(file.name))) for file in files]
        if not _NUMBER.match(name) or len(files) != 2 or sum(training) != 1 or any(f.problem for f in files):
            odd.append(f"{name} ({', '.join(PurePosixPath(f.name).name for f in files)})")
            continue
        former, latter = sorted(files, key=lambda file: bool(_TRAINING.match(stem(file.name))) == config.reverse_pairs)
        pair = stem(former.name), stem(latter.name)
        if pair in pairs:
            twice.append(f"{name} (as {pairs[pair]}: {pair[0]}, {pair[1]})")
            continue
        pairs[pair] = name
        for role, file in (("basic", former), ("pool", latter)):
            path = folder / file.name
            before = known.setdefault((role, stem(file.name)), path)
            if before == path:
                _add(listers[role], workspace, path, file)
            elif not _same_bytes(before, path):
                raise NdecError(
                    f"{before} and {path} are different pictures with one id; an id is the file name without its "
                    "ending: rename one of the two"
                )
    if odd:
        gaps.append(
            name_all(
                odd,
                f"folder of {PAIR_FOLDER} does not hold one T image and one other image and is left out",
                f"folders of {PAIR_FOLDER} do not hold one T image and one other image and are left out",
            )
        )
    if twice:
        gaps.append(name_all(twice, "pair appears twice and is used once", "pairs appear twice and are used once"))
    return list(pairs), listers


def _add(lister: Lister, workspace: Workspace, path: Path, file: File) -> None:
    if file.problem:
        lister.reject(path.stem, workspace.uri_of(path), file.problem)
    else:
        lister.add(path.stem, workspace.uri_of(path), group=path.stem)


def _same_bytes(first: Path, second: Path) -> bool:
    if first.stat().st_size != second.stat().st_size:
        return False
    return hashlib.sha256(first.read_bytes()).digest() == hashlib.sha256(second.read_bytes()).digest()


def _pair_table(ids: list[tuple[str, str]]) -> pa.Table:
    return pa.table(
        [
            pa.array([pair_id("train", latter, former) for former, latter in ids], pa.string()),
            pa.array([former for former, _ in ids], pa.string()),
            pa.array([latter for _, latter in ids], pa.string()),
        ],
        schema=PAIRS,
    )
