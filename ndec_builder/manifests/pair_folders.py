"""Which release folder each training pair came from."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from ndec_builder.core.addresses import container
from ndec_builder.core.errors import NdecError
from ndec_builder.manifests.codes import COPY

FOLDERS = "pair_folders.csv"  # next to manifest.json, when pairs came from a release
FOLDER_HEADER = "pair_id,folder"
FOLDER = "[0-9]{5,}"


def folders_csv(ids: list[str], uris: list[tuple[str, str]]) -> bytes:
    """`pair_id,folder` of pairs that came from a release, in its order. uris: of (latter, former) per pair.

    An image is stored in the folder of its first pair, so a pair's folder is the first one that no earlier pair took.
    If that leaves a pair without a folder, all pairs are numbered by position. This reproduces the folders of a
    release, also from packed images.
    """
    names: list[str] = []
    taken: set[str] = set()
    for pair in uris:
        parents = (PurePosixPath(container(uri)).parent.name for uri in pair)
        names.append(next((name for name in parents if re.fullmatch(FOLDER, name) and name not in taken), ""))
        taken.add(names[-1])
    if "" in taken:
        names = [f"{place:05d}" for place in range(len(ids))]
    rows = "".join(f"{pair},{name}\n" for pair, name in sorted(zip(ids, names, strict=True)))
    return f"{FOLDER_HEADER}\n{rows}".encode()


def read_folders(path: Path) -> dict[str, str]:
    """{pair_id: folder}; empty without the file. Raises NdecError with the line for anything but id and five digits."""
    if not path.is_file():
        return {}
    folders = {}
    for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
        if number == 1 and line == FOLDER_HEADER:
            continue
        pair, _, folder = line.partition(",")
        if number == 1 or not re.fullmatch(FOLDER, folder) or pair in folders:
            raise NdecError(f"{path}, line {number}: {line[:80]!r} is not `pair_id,folder` with five digits; {COPY}")
        folders[pair] = folder
    return folders
