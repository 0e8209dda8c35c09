"""Licence columns from a package's copyright file (Debian's machine-readable form 1.0, or plain text)."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ndec_builder.demo.corpus.packages import Package

_URL = re.compile(r"https?://[^\s<>\"]+")
_PUBLIC_DOMAIN = "public domain dedication"


@dataclass(frozen=True)
class Stanza:
    """One `Files:` paragraph: file patterns without endings, licence, holders, first URL."""

    patterns: tuple[str, ...]
    license: str
    author: str
    url: str | None


@dataclass(frozen=True)
class Copyright:
    """A package's copyright file: stanzas in file order (the last match wins) and the URL of the source."""

    stanzas: tuple[Stanza, ...]
    source: str | None

    def columns(self, path: str) -> dict[str, str | None]:
        """Licence columns of a file, given its path in the source tree as far as it is known.

        Endings are ignored (`.jpg` in the copyright file, `.webp` in the package). A pattern without wildcards also
        matches the end of the path. If no stanza matches, the file name alone is compared: packagers move pictures.
        """
        whole = _without_ending(path)
        for fits in (_fits_path, _fits_name):
            for stanza in reversed(self.stanzas):
                if any(fits(whole, pattern) for pattern in stanza.patterns):
                    return {
                        "license": stanza.license,
                        "author": stanza.author or None,
                        "original_url": stanza.url,
                        "landing_url": stanza.url or self.source,
                    }
        return {"license": None, "landing_url": self.source}


def _fits_path(path: str, pattern: str) -> bool:
    if "*" in pattern or "?" in pattern:
        return fnmatch.fnmatchcase(path, pattern)
    return path == pattern or path.endswith(f"/{pattern}")


def _fits_name(path: str, pattern: str) -> bool:
    return path.rsplit("/", 1)[-1] == pattern.rsplit("/", 1)[-1]


def read_copyright(package: Package) -> Copyright:
    """Read a package's licence text. A package without one has no licence; nothing is guessed."""
    files = sorted(package.directory.rglob("copyright")) + sorted(package.directory.rglob("METADATA"))
    if not files:
        return Copyright((), None)
    text = files[0].read_text("utf-8", "replace")
    if files[0].name == "METADATA":
        return _wheel(text)
    return parse_copyright(text)


def parse_copyright(text: str) -> Copyright:
    """Parse a Debian copyright file. An older, plain-text file gives one stanza for all files."""
    if not text.startswith("Format:"):
        found = _URL.search(text)
        license = _PUBLIC_DOMAIN if "public domain" in text.lower() else "see the package's copyright file"
        return Copyright((Stanza(("*",), license, "", None),), found.group(0) if found else None)
    stanzas, source = [], None
    for paragraph in re.split(r"\n\s*\n", text):
        fields = _fields(paragraph)
        source = source or fields.get("source")
        if "files" in fields:
            comment = _URL.search(fields.get("comment", ""))
            patterns = tuple(_without_ending(pattern) for pattern in fields["files"].split())
            stanzas.append(
                Stanza(
                    patterns,
                    fields.get("license", "").splitlines()[0].strip() if fields.get("license") else "",
                    _holders(fields.get("copyright", "")),
                    comment.group(0) if comment else None,
                )
            )
    found = _URL.search(source or "")
    return Copyright(tuple(stanzas), found.group(0) if found else None)


def _wheel(text: str) -> Copyright:
    header = {key.lower(): value.strip() for key, value in re.findall(r"^([\w-]+): (.*)$", text, re.MULTILINE)}
    license = f"package: {header.get('license', 'not stated')}; the clip's own licence is not stated"
    return Copyright((Stanza(("*",), license, header.get("author", ""), None),), header.get("home-page"))


def _fields(paragraph: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in paragraph.splitlines():
        if line[:1] in (" ", "\t") and name:
            fields[name] += "\n" + line.strip()
        elif ":" in line and not line.startswith("#"):
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def _holders(text: str) -> str:
    """Copyright holders without years, at most three."""
    names = [
        re.sub(r"^[\s\d,.–-]+(by\s+)?|[,\s]*\d{4}([-–,]\s*\d{4})*$", "", line).strip() for line in text.splitlines()
    ]
    names = [name for name in names if name]
    return "; ".join(names[:3]) + (" et al." if len(names) > 3 else "")


def _without_ending(path: str) -> str:
    pure = PurePosixPath(path)
    return str(pure.with_suffix("")) if re.fullmatch(r"\.[A-Za-z]{3,4}", pure.suffix) else path


def stamp_title(file: Path) -> str | None:
    """Tux Paint stores the title of a stamp in the first line of the text file next to it."""
    text = file.with_suffix(".txt")
    lines = text.read_text("utf-8", "replace").splitlines() if text.is_file() else []
    return lines[0].strip() or None if lines else None
