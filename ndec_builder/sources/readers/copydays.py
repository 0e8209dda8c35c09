"""Kind `copydays`: originals and their copies in the folders of CopyDays. File names link copies to originals.

    original/200100.jpg   crops/10/200101.jpg   jpeg/3/200102.jpg   strong/200103.jpg   → all of 200100

An original is 2XXX00; a copy is 2XXXNN of the same XXX. Two blocks may use one name, so the id of a copy is its path.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from ndec_builder.core.decode import SUFFIXES
from ndec_builder.core.errors import UsageError
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.ground_truth import Match
from ndec_builder.sources.listing import Lister, SourceContents, name_all, stem
from ndec_builder.sources.readers.folder import check_folder, walk_files
from ndec_builder.sources.settings import IngestConfig
from ndec_builder.sources.unread import Unread

BLOCKS = ("crops", "jpeg", "jpegqual", "strong")
_NUMBER = re.compile(r"(\d+)\d\d\Z")


def find(config: IngestConfig, workspace: Workspace) -> SourceContents:
    """Originals as references, copies as queries, each with its one reference as truth and as group.

    Raises UsageError when the folder `original` or all blocks of copies are missing. Copies without an original and
    files with unexpected names are left out and named in one message.
    """
    root = Path(config.source)
    check_folder(root)
    if config.role not in ("reference", "query", "all"):
        raise UsageError(f"CopyDays has reference and query images, but none for the role {config.role!r}")
    blocks = [block for block in BLOCKS if (root / block).is_dir()]
    if not (root / "original").is_dir() or not blocks:
        raise UsageError(
            f"{root} is not laid out as CopyDays: it needs a folder original and at least one of {', '.join(BLOCKS)}; "
            f"found: {', '.join(sorted(path.name for path in root.iterdir())) or 'nothing'}"
        )
    listers = {"reference": Lister("reference", config.license), "query": Lister("query", config.license)}
    originals: dict[str, str] = {}
    odd: list[str] = []
    orphans: list[str] = []
    truth: list[Match] = []
    unread = Unread()
    for folder in ("original", *blocks):
        files = walk_files(root / folder, frozenset(SUFFIXES), unread, config.follow_links)
        for file in sorted(files, key=lambda file: file.name):
            name, path = f"{folder}/{file.name}", root / folder / file.name
            number = _NUMBER.match(stem(name))
            role = "reference" if folder == "original" else "query"
            if number is None:
                odd.append(name)
                continue
            if role == "reference":
                originals[number[1]] = image_id = stem(name)
            elif number[1] not in originals:
                orphans.append(name)
                continue
            else:
                image_id = "__".join(PurePosixPath(name).with_suffix("").parts)
                truth.append((image_id, originals[number[1]]))
            if file.problem:
                listers[role].reject(image_id, workspace.uri_of(path), file.problem)
            else:
                listers[role].add(image_id, workspace.uri_of(path), group=originals[number[1]])
    if not originals or not truth:
        raise UsageError(f"{root} holds {len(originals)} originals and {len(truth)} copies of them; nothing to compare")
    gaps = [name_all(orphans, "copy has no original", "copies have no original")] if orphans else []
    gaps += [name_all(odd, "file name is no CopyDays number", "file names are no CopyDays numbers")] if odd else []
    roles = [role for role in listers if config.role in (role, "all")]
    listings = {role: listers[role].finish() for role in roles}
    return SourceContents(listings, tuple(gaps), truth if "query" in roles else None, notes=(unread.note(),))
