"""Hashes the files that mining reads. Hashes are stored next to the result, so a finished run is recognised at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndec_builder.candidates.role_vectors import BACKGROUND_ROLES
from ndec_builder.candidates.settings import GALLERY
from ndec_builder.core.storage import fingerprint, read_json, sha256_file, write_json
from ndec_builder.core.workspace import Workspace

CACHE = "inputs.json"  # {file: [size, modification time in ns, sha256]}; not a result file


@dataclass(frozen=True)
class RoleInputs:
    """The files that mining reads of one role, and the run.json of its embeddings."""

    files: tuple[Path, ...]
    run: Path | None = None


def inputs_of(workspace: Workspace, split: str, model: str) -> dict[str, RoleInputs]:
    """{role: inputs} of a split, for the inputs that exist."""
    found = {}
    for role in ("pool", GALLERY[split], BACKGROUND_ROLES.get(split)):
        if role is not None and workspace.images(role).is_file():
            folder = workspace.embeddings(role, model)
            parts = sorted([*folder.glob("part-*.npy"), *folder.glob("part-*.parquet")])
            run = folder / "run.json"
            found[role] = RoleInputs((workspace.images(role), *parts), run if run.is_file() else None)
    if split == "train" and workspace.images("reference").is_file():  # images with its groups or bytes are left out
        found["reference"] = RoleInputs((workspace.images("reference"),))
    return found


def hash_inputs(directory: Path, inputs: dict[str, RoleInputs], root: Path) -> dict[str, str]:
    """{role: fingerprint}. A file with the cached size and modification time is not read again."""
    path = directory / CACHE
    before = read_json(path) if path.is_file() else {}
    now: dict[str, list[int | str]] = {}
    hashes = {}
    for role, those in inputs.items():
        contents = []
        for file in those.files:
            name = file.relative_to(root).as_posix()
            stat = file.stat()
            known = before.get(name, [])
            if known[:2] != [stat.st_size, stat.st_mtime_ns]:
                known = [stat.st_size, stat.st_mtime_ns, sha256_file(file)]
            now[name] = known
            contents.append([file.name, known[2]])
        # only these entries: times and host change no result
        record = read_json(those.run) if those.run else {}
        hashes[role] = fingerprint([contents, [record.get(name) for name in ("space", "dim", "parts", "inputs")]])
    if now != before:
        write_json(path, now)
    return hashes
