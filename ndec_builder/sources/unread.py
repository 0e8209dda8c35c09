"""Files that a source holds but ndec does not read, counted by ending so that no picture is missed silently."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

from ndec_builder.core.decode import SUFFIXES
from ndec_builder.core.pictures.formats import EXTRA_SUFFIXES, INSTALL

# thumbnails of Synology and Linux, resource forks of macOS, the store of git-annex, copies of notebooks
_COMPANION_FOLDERS = {"@eaDir", ".thumbnails", "__MACOSX", ".AppleDouble", ".git", ".ipynb_checkpoints"}
_APPLE_DOUBLE = b"\x00\x05\x16\x07"


def is_companion(name: str, start: bytes | None = None) -> bool:
    """Whether a program made a file next to a picture: its thumbnail, resource fork or stored copy.

    `start`: the first bytes, where they are known. A picture that a person named `._x.jpg` is a picture.
    """
    folders, _, file = name.rpartition("/")
    if folders and not _COMPANION_FOLDERS.isdisjoint(folders.split("/")):
        return True
    return file.startswith("._") and (start is None or start.startswith(_APPLE_DOUBLE))


class Unread:
    """Counts what is not read. `note` puts it into one sentence."""

    def __init__(self) -> None:
        self.endings: Counter[str] = Counter()
        self.companions: Counter[str] = Counter()

    def add(self, name: str) -> None:
        """Count a file by its ending."""
        self.endings[PurePosixPath(name).suffix.lower() or "without ending"] += 1

    def add_companion(self, name: str) -> None:
        path = PurePosixPath(name)
        folder = next((part for part in path.parts[:-1] if part in _COMPANION_FOLDERS), None)
        self.companions[f"in {folder}" if folder else "named ._*"] += 1

    def update(self, other: Unread) -> None:
        """Add the counts of a part of the source."""
        self.endings.update(other.endings)
        self.companions.update(other.companions)

    def note(self) -> str:
        """What was not read, or an empty text."""
        parts = []
        if self.endings:
            parts.append(
                f"{_counted(self.endings)} not read: ndec reads {', '.join(sorted(SUFFIXES))}; convert pictures of "
                "other formats"
            )
            if missing := sorted(self.endings.keys() & (EXTRA_SUFFIXES - SUFFIXES)):
                parts.append(f"to read {', '.join(missing)}, {INSTALL}")
        if self.companions:
            parts.append(f"{_counted(self.companions)} skipped: programs make these files next to pictures")
        return ". ".join(parts)


def _counted(counts: Counter[str]) -> str:
    found = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = f" and {sum(count for _, count in found[12:]):,} more" if len(found) > 12 else ""
    verb = "is" if counts.total() == 1 else "are"
    return f"{', '.join(f'{count:,} {name}' for name, count in found[:12])}{more} {verb}"
