"""A collection of hostile files, the same for a seed: pictures, tars, zips, weights, texts, links and names.

    python tests/faults/zoo.py FOLDER [--count 2000] [--seed 0]

FOLDER/pictures has as many entries as requested, each with its own name; FOLDER/archives, weights and texts have the
other files. Links must not reach FOLDER/outside.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import zoo_archives, zoo_pictures  # noqa: E402

NAMES = (
    "new\nline", "carriage\rreturn", "tab\there", 'double"quote', "single'quote", "back\\slash", "=1+1", "+cmd", "-rf",
    "@SUM(A1)", "=HYPERLINK('http:x','y')", "<script>alert(1)<", "<img src=x onerror=alert(1)>", "&amp;", "{{7*7}}",
    "$(touch ndec-was-here)", "`touch ndec-was-here`", "; touch ndec-was-here", "%00", "%2e%2e%2f", "#bytes=0-9",
    "x.tar#bytes=0-9", "x#cell=0-0", "*", "?", "[a]", "{a,b}", "~", " leading", "trailing ", ".hidden", "..double",
    "\u202eright-to-left", "\u200bzero", "\ufeffbom", "é" * 60, "e\u0301", "💥", "a" * 240, "NUL", "con",
    "\x01\x1b[31m",
    "file:x", "http:x", "memory:", "::", "simplecache::x", "CAPS",
)  # fmt: skip
RAW = (
    b"latin-\xe9",
    b"\xff\xfe",
    b"broken-\xc3",
    b"overlong-\xc0\xaf",
    b"surrogate-\xed\xa0\x80",
    b"gb-\xc4\xe3\xba\xc3",
)


@dataclass
class Zoo:
    """The folders of the collection. kinds: file name in pictures (surrogate-escaped) → kind of hostility."""

    folder: Path
    kinds: dict[str, str] = field(default_factory=dict)

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def proof(self) -> Path:
        """Created by code from the collection, if it is ever run."""
        return self.folder / "code-was-run"


def build(folder: Path, count: int, seed: int = 0, *, large: bool = True) -> Zoo:
    """Write the zoo. `count` is at least the number of special entries (about 700), else some of each kind."""
    zoo, chance = Zoo(folder), random.Random(seed)
    zoo.pictures.mkdir(parents=True)
    (folder / "outside").mkdir()
    (folder / "outside" / "secret.jpg").write_bytes(zoo_archives.picture(99))
    files = zoo_pictures.sound(seed)
    special = list(itertools.chain(_specials(files, chance, seed), zoo_pictures.bombs(large)))
    room = count - len(NAMES) - len(RAW) - LINKS
    if room < len(special):
        special = _some_of_each(special, room * 2 // 3, chance)
    each = -(-(room - len(special)) // (2 * len(files)))
    broken = [*zoo_pictures.truncated(files, chance, each), *zoo_pictures.flipped(files, chance, each)]
    for number, (kind, ending, data) in enumerate([*special, *broken[: room - len(special)]]):
        name = f"{number:05d}.{ending}"
        (zoo.pictures / f"{number // 500:02d}").mkdir(exist_ok=True)
        (zoo.pictures / f"{number // 500:02d}" / name).write_bytes(data)
        zoo.kinds[name] = kind
    _names(zoo, files["jpeg"][1])
    _links(zoo)
    for part, found in (
        ("archives", itertools.chain(zoo_archives.tars(chance), zoo_archives.zips(chance))),
        ("weights", zoo_archives.weights(zoo.proof)),
        ("texts", (("", name, text.encode()) for name, text in zoo_archives.TEXTS.items())),
    ):
        (folder / part).mkdir()
        for _, name, data in found:
            (folder / part / name).write_bytes(data)
    return zoo


def _specials(
    files: dict[str, tuple[str, bytes]], chance: random.Random, seed: int
) -> Iterator[tuple[str, str, bytes]]:
    yield from zoo_pictures.forged_sizes(files)
    yield from zoo_pictures.long_and_thin()
    yield from zoo_pictures.not_pictures(files, chance)
    yield from zoo_pictures.odd_forms(seed, chance)


def _some_of_each(
    files: list[tuple[str, str, bytes]], count: int, chance: random.Random
) -> list[tuple[str, str, bytes]]:
    """So many files, every kind and ending before any comes twice."""
    chance.shuffle(files)
    seen: dict[tuple[str, str], int] = {}
    ranked = []
    for file in files:
        seen[file[:2]] = seen.get(file[:2], 0) + 1
        ranked.append((seen[file[:2]], file))
    return [file for _, file in sorted(ranked, key=lambda entry: entry[0])[:count]]


def _names(zoo: Zoo, data: bytes) -> None:
    folder = os.fsencode(zoo.pictures / "names")
    Path(os.fsdecode(folder)).mkdir()
    for name in [*(os.fsencode(name) for name in NAMES), *RAW]:
        ending = b".JPG" if name == b"CAPS" else b".jpg"
        name = name[: 255 - len(ending)] + ending
        Path(os.fsdecode(folder + b"/" + name)).write_bytes(data)
        zoo.kinds[os.fsdecode(name)] = "odd name"
    misread = zoo.pictures / "names" / "table#cell=0" / "0"  # the path of a file, read as an address inside `table`
    misread.mkdir(parents=True)
    (misread / "cell.png").write_bytes(data)
    zoo.kinds["cell.png"] = "odd name"


LINKS = 12


def _links(zoo: Zoo) -> None:
    """Links out of the folder, into nothing, to themselves; what is no file: a pipe, a socket."""
    folder = zoo.pictures / "links"
    folder.mkdir()
    outside = zoo.folder / "outside"
    targets = {
        "out.jpg": outside / "secret.jpg", "out-relative.jpg": Path("../../outside/secret.jpg"), "folder-out": outside,
        "passwd.jpg": Path("/etc/passwd"), "zero.png": Path("/dev/zero"), "stdin.png": Path("/dev/stdin"),
        "environment.jpg": Path("/proc/self/environ"), "nothing.jpg": Path("not-there.jpg"),
        "self.jpg": Path("self.jpg"),
    }  # fmt: skip
    for name, target in targets.items():
        (folder / name).symlink_to(target)
        zoo.kinds[name] = "link out of the folder" if name not in ("nothing.jpg", "self.jpg") else "broken link"
    os.mkfifo(folder / "pipe.jpg")
    zoo.kinds["pipe.jpg"] = "no file: a pipe or a socket"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as held:  # a path that is too long for a socket
        held.bind(str(folder / "socket.jpg"))
        zoo.kinds["socket.jpg"] = "no file: a pipe or a socket"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="no file that takes seconds")
    given = parser.parse_args()
    zoo = build(given.folder, given.count, given.seed, large=not given.small)
    # names that are not Unicode contain lone surrogates, as os.fsdecode makes them
    (given.folder / "kinds.json").write_text(json.dumps(zoo.kinds), "ascii")
    print(f"{len(zoo.kinds)} entries in {zoo.pictures}")


if __name__ == "__main__":
    main()
