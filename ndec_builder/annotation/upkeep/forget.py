"""`ndec annotate forget`: a pseudonym in place of an annotator's name, in all tables and records of a workspace."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.label_studio import projects
from ndec_builder.annotation.label_studio.connection import connect_label_studio, explain_errors
from ndec_builder.annotation.label_tables import keys, no_gold
from ndec_builder.annotation.push_options import read_push_options, write_push_options
from ndec_builder.annotation.records.ledger import APPEND_ONLY, previous_file, rewrite
from ndec_builder.annotation.records.pseudonyms import new_pseudonym
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.annotation.upkeep.settings import ForgetConfig
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import locked
from ndec_builder.core.rows import as_rows
from ndec_builder.core.schemas import SPLITS
from ndec_builder.core.storage import read_json, read_table, sha256_file, write_json, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.version import __version__

RESULT_VERSION = 1
# Keys of JSON records whose values are names of annotators, and those that hold text in which a name may stand.
_NAME_KEYS = {"annotator", "annotators", "other_annotator", "others", "by", "left", "skipped"}
_TEXT_KEYS = {"why", "detail", "flags", "title"}
_TEXT_FILES = {".json", ".jsonl", ".md", ".toml", ".csv", ".html", ".txt", ".log"}
_UNCHANGED = ("manifests", "label_studio")  # published datasets have checksums; the server owns its folder


def run(config: ForgetConfig) -> Path:
    """Replace the name in every split; returns annotation/forgotten.json, which records the operation without the name.

    The labels, and whose labels belong together, stay. Logins of this annotator are removed, other people's stay.
    The projects in Label Studio are renamed first. After a kill, the same command finishes the work. Raises NdecError
    for a name that no table has. Prints how many pairs are still open, and which files still have the name.
    """
    workspace = Workspace(config.workspace)
    folder = workspace.root / "annotation"
    splits = [split for split in SPLITS if (workspace.annotation(split) / "tasks.parquet").is_file()]
    with contextlib.ExitStack() as locks:
        for split in splits:
            locks.enter_context(locked(workspace.annotation(split)))
        pending = folder / "forget.pending.json"  # the only file with the name and the pseudonym; removed at the end
        pseudonym = _pseudonym(pending, config.annotator, workspace, splits)
        logins = _own_logins(config.annotator, pseudonym, workspace, splits)
        renamed = 0 if config.offline else _rename_projects(config, workspace, pseudonym)
        rows: dict[str, int] = {}
        hashes: dict[str, str] = {}
        for split in splits:
            for path in sorted(workspace.annotation(split).glob("*.parquet")):
                if count := _rewrite_table(path, config.annotator, pseudonym, logins, hashes):
                    rows[f"{split}/{path.stem}"] = count
            options = read_push_options(workspace.annotation(split))  # a push gives the pseudonym no new pairs
            gone = tuple(sorted({*options.left, pseudonym} - {config.annotator}))
            write_push_options(workspace.annotation(split), replace(options, left=gone))
        files = _rewrite_records(workspace.root, config.annotator, pseudonym, hashes, pending)
        path = folder / "forgotten.json"
        entry: dict[str, Any] = {"pseudonym": pseudonym, "at": datetime.now(UTC).isoformat(timespec="seconds")}
        entry |= {"rows": rows, "records": files, "projects": renamed, "code_version": __version__}
        write_json(path, [*(read_json(path) if path.is_file() else []), entry])
        pending.unlink()
    say(
        f"the name is now {pseudonym} in {number_of(sum(rows.values()), 'row')} and "
        f"{number_of(files, 'record')}; {number_of(renamed, 'project was', 'projects were')} renamed in Label "
        "Studio. The account in Label Studio and backups are not touched (docs/how-to/personal-data.md)"
    )
    if waiting := sum(_open_pairs(AnnotationTables(workspace, split), pseudonym) for split in splits):
        say(
            f"{number_of(waiting, 'open pair stays', 'open pairs stay')} with {pseudonym}, in the renamed projects: "
            f"`ndec annotate leave {pseudonym}` gives them to others"
        )
    for left in _still_named(workspace.root, {config.annotator, *logins}):
        say(f"still named in {left}")
    return path


def _pseudonym(pending: Path, name: str, workspace: Workspace, splits: Collection[str]) -> str:
    """A random pseudonym, or that of an interrupted run."""
    if pending.is_file():
        known = read_json(pending)
        if known["annotator"] != name:
            raise NdecError(
                f"forgetting {known['annotator']!r} was interrupted; run `ndec annotate forget {known['annotator']}` "
                "again first"
            )
        return str(known["pseudonym"])
    names = {row for split in splits for row in _names(AnnotationTables(workspace, split))}
    if name not in names:
        raise NdecError(
            f"no table of this workspace names the annotator {name!r}; there are: {', '.join(sorted(names)) or 'none'}"
        )
    pseudonym = new_pseudonym()
    write_json(pending, {"annotator": name, "pseudonym": pseudonym})
    return pseudonym


def _open_pairs(tables: AnnotationTables, name: str) -> int:
    done = tables.labelled | tables.skipped
    return sum(key[2] == name and key not in done for key in keys(no_gold(tables.tasks)))


def _names(tables: AnnotationTables) -> set[str]:
    found = (tables.tasks, tables.labels, tables.skips, tables.set_aside, tables.incidents)
    return {name for table in found for name in table["annotator"].to_pylist() if name is not None}


def _own_logins(name: str, pseudonym: str, workspace: Workspace, splits: Collection[str]) -> set[str]:
    """Logins that only this annotator used; one that several people share names none of them."""
    users: dict[str, set[str]] = {}
    for split in splits:
        tables = AnnotationTables(workspace, split)
        for table in (tables.labels, tables.skips, tables.incidents):
            for annotator, login in keys(table, "annotator", "login"):
                users.setdefault(login, set()).add(annotator)
    return {login for login, people in users.items() if login and people <= {name, pseudonym}}


def _rename_projects(config: ForgetConfig, workspace: Workspace, pseudonym: str) -> int:
    """Rename the annotator's projects in Label Studio, with the key by which ndec finds them."""
    connection = connect_label_studio(workspace, config.url, config.token_file)
    client, count = connection.client(), 0
    with explain_errors(connection, "renaming projects"):
        for key, project in projects.find_projects(client).items():
            own, split, round_, annotator = key.split("/", 3)
            if (own, annotator) == (projects.workspace_key(workspace), config.annotator):
                projects.rename_project(client, project, workspace, split, round_, pseudonym)
                count += 1
    return count


def _rewrite_table(path: Path, name: str, pseudonym: str, logins: Collection[str], hashes: dict[str, str]) -> int:
    """Replace the name in a table; returns how many rows changed."""
    if path.name.endswith(".previous.parquet"):
        return 0  # removed together with the rewriting of its table
    table = read_table(path)
    renamed = _renamed(table, name, pseudonym, logins)
    changed = sum(a != b for a, b in zip(as_rows(table), as_rows(renamed), strict=True))
    if not changed:
        return 0
    before = sha256_file(path)
    if path.stem in APPEND_ONLY:
        rewrite(path.parent, path.stem, renamed, "an annotator's name was replaced")
    else:
        write_table(path, renamed)
    previous_file(path).unlink(missing_ok=True)
    hashes[before] = sha256_file(path)
    return changed


def _renamed(table: pa.Table, name: str, pseudonym: str, logins: Collection[str]) -> pa.Table:
    replace = _replacer(name, pseudonym)
    whose = table["annotator"].to_pylist() if "annotator" in table.column_names else [None] * table.num_rows
    for number, field in enumerate(table.schema):
        if field.name not in {"annotator", "by", "login", "why", "detail"}:
            continue
        values = table[field.name].to_pylist()
        if field.name == "login":
            pairs = zip(values, whose, strict=True)
            values = [None if owner in (name, pseudonym) or login in logins else login for login, owner in pairs]
        elif field.name in {"why", "detail"}:
            values = [replace(value) for value in values]
        else:
            values = [pseudonym if value == name or value in logins else value for value in values]
        table = table.set_column(number, field, pa.array(values, field.type))
    return table


def _replacer(name: str, pseudonym: str) -> Callable[[Any], Any]:
    """Replace the name as a word of a text."""
    word = _word(name)
    return lambda value: word.sub(pseudonym, value) if isinstance(value, str) else value


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w-])")


def _rewrite_records(root: Path, name: str, pseudonym: str, hashes: dict[str, str], pending: Path) -> int:
    """Replace the name and the hashes of rewritten tables in all JSON records; returns how many files changed."""
    replace, count = _replacer(name, pseudonym), 0

    def walk(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            names = key in _NAME_KEYS  # {"annotators": {NAME: …}}
            return {pseudonym if names and k == name else k: walk(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [walk(entry, key) for entry in value]
        if not isinstance(value, str):
            return value
        if key in _NAME_KEYS and value == name:
            return pseudonym
        return replace(value) if key in _TEXT_KEYS else hashes.get(value, value)

    for path in _files(root, {".json"}):
        if path == pending or path.relative_to(root).parts[0] in _UNCHANGED:
            continue
        try:
            before = json.loads(path.read_text("utf-8"))
        except ValueError:
            continue  # named at the end if it has the name
        after = walk(before, "")
        if after != before:
            write_json(path, after)
            count += 1
    return count


def _still_named(root: Path, names: Collection[str]) -> list[str]:
    """Text files of the workspace that still have the name or the login, with the number of places."""
    words = [_word(name) for name in names]
    found = Counter[str]()
    for path in _files(root, _TEXT_FILES):
        text = path.read_text("utf-8", errors="replace")
        if number := sum(len(word.findall(text)) for word in words):
            found[str(path.relative_to(root))] = number
    return [f"{path} ({number} ×)" for path, number in sorted(found.items())]


def _files(root: Path, suffixes: Collection[str]) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        if path.suffix in suffixes and path.is_file() and not path.is_symlink():
            yield path
