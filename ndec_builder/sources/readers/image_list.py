"""Kind `list`: a text file with one path or URI per line. Paths are relative to the folder of the list."""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath

from ndec_builder.core.access.hosts import private_address
from ndec_builder.core.access.references import NOT_PLAIN
from ndec_builder.core.addresses import container
from ndec_builder.core.console import number_of
from ndec_builder.core.errors import UsageError
from ndec_builder.core.storage import sha256_file
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.containers import references_of
from ndec_builder.sources.image_ids import choose_ids
from ndec_builder.sources.listing import Lister, SourceContents, name_all, stem, without_ending
from ndec_builder.sources.settings import IngestConfig


def find(config: IngestConfig, workspace: Workspace) -> SourceContents:
    """Missing local files become rejects and are named in the gaps; remote files are not checked.

    Raises UsageError for a list that is missing, empty or not text, and when all its files are missing.
    """
    path = Path(config.source)
    lines = read_lines(path, "image list")
    lister = Lister(config.role, config.license)
    missing, allowed = [], references_of(config).allow
    distinct = list(dict.fromkeys(map(_plain, lines)))
    for line in distinct:
        address = line[len(container(line)) :]
        image_id, longer = choose_ids(config.id, stem(line), (without_ending(line), line))
        place = None if "://" in line or line.startswith("/") else container(line)
        if (problem := private_address(line)) and not any(a.private and a.covers(line) for a in allowed):
            lister.reject(image_id, line, problem, longer=longer)
            continue
        scheme, separator, rest = container(line).partition("://")
        if separator and scheme.lower() not in ("file", "local"):
            lister.add(image_id, line, longer=longer, place=place)
            continue
        file = path.parent / (rest if separator else container(line))
        uri = workspace.uri_of(file) + address
        try:
            status = file.stat()
        except (OSError, ValueError):
            missing.append(line)
            lister.reject(image_id, uri, "no such file", longer=longer)
            continue
        if not stat.S_ISREG(status.st_mode):
            lister.reject(image_id, uri, NOT_PLAIN, longer=longer)
            continue
        lister.add(image_id, uri, longer=longer, place=place)
    if len(missing) == len(distinct):
        raise UsageError(
            f"of {number_of(len(missing), 'file')} that {path} names, none exists; relative paths start at "
            f"{path.parent}. " + name_all(missing, "missing", "missing")
        )
    gaps = (f"{name_all(missing, 'file of the list is missing', 'files of the list are missing')}",) if missing else ()
    more = number_of(len(lines) - len(distinct), "line of the list repeats", "lines of the list repeat")
    notes = (f"{more} an earlier one: left out",) if len(lines) > len(distinct) else ()
    return SourceContents({config.role: lister.finish()}, gaps, inputs={path.name: sha256_file(path)}, notes=notes)


def _plain(line: str) -> str:
    """A line in one form: `./a//x.jpg` is `a/x.jpg`."""
    file = container(line)
    return line if "://" in line else str(PurePosixPath(file)) + line[len(file) :]


def read_lines(path: Path, what: str) -> list[str]:
    """Non-blank lines, stripped. Raises UsageError for a file that is missing, empty or not UTF-8 text."""
    if not path.is_file():
        raise UsageError(f"the {what} {path} is not a file; give a text file with one entry per line")
    try:
        lines = [line.strip() for line in path.read_bytes().decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise UsageError(f"the {what} {path} is not UTF-8 text; save it as plain text") from None
    if not any(lines):
        raise UsageError(f"the {what} {path} is empty; it needs one entry per line")
    return [line for line in lines if line]
