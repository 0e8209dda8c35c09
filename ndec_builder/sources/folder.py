"""`ndec ingest ROLE FOLDER`: every image below a folder becomes a row of images/<role>.parquet."""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ndec_builder.core.console import say, track
from ndec_builder.core.decode import SUFFIXES, DecodeError, decode, read_header
from ndec_builder.core.errors import GapsError, UsageError
from ndec_builder.core.runs import RunRecord
from ndec_builder.core.schemas import GROUND_TRUTH, IMAGES, REJECTS, ROLES, table_of
from ndec_builder.core.storage import sha256_bytes, sha256_file, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.ground_truth import check_ids, read_ground_truth
from ndec_builder.sources.settings import IngestConfig

RESULT_VERSION = 1
_AHEAD = 4  # files in flight per thread: keeps the threads busy and the memory flat


def run(config: IngestConfig) -> Path:
    """Write images/<role>.parquet (schema IMAGES, ascending image_id), <role>-rejects.parquet and <role>.run.json.

    An image id is the file name without its ending. With a ground truth, images/ground_truth.parquet is written too.
    Raises UsageError for a folder that is missing, empty or holds an id twice, NdecError for an unsound ground truth,
    and GapsError (exit 3, files written) when more than `max_reject_share` of the images are unusable.
    """
    if config.role not in ROLES:
        raise UsageError(f"role {config.role!r} is unknown; it is one of {', '.join(ROLES)}")
    workspace, record = Workspace(config.workspace), RunRecord("ingest", config, RESULT_VERSION)
    paths, outside = find_images(config.source)
    matches = read_ground_truth(config.ground_truth) if config.ground_truth else None
    images: list[dict[str, Any]] = []
    rejects = [_reject(workspace, path, "a symbolic link that leads out of the folder") for path in outside]
    for path, result in track(_read_all(paths, config), len(paths), f"ingest {config.role}"):
        if isinstance(result, str):
            rejects.append(_reject(workspace, path, result))
        else:
            images.append(_row(workspace, path, result, config))
    if matches is not None:
        references = workspace.images("reference")
        known = workspace.read_images("reference")["image_id"].to_pylist() if references.is_file() else None
        rejected = {row["image_id"] for row in rejects}
        check_ids(matches, [row["image_id"] for row in images] + sorted(rejected), known)
        matches = [match for match in matches if match[0] not in rejected]
    target = write_table(workspace.images(config.role), table_of(IMAGES, sorted(images, key=lambda r: r["image_id"])))
    rejects.sort(key=lambda row: (row["image_id"], row["uri"]))
    write_table(target.with_name(f"{config.role}-rejects.parquet"), table_of(REJECTS, rejects))
    inputs = {}
    if matches is not None and config.ground_truth is not None:
        ordered = sorted(matches, key=lambda match: (match[0], match[1] or ""))
        truth = [{"query_id": query, "reference_id": reference} for query, reference in ordered]
        write_table(workspace.ground_truth, table_of(GROUND_TRUTH, truth))
        inputs[config.ground_truth.name] = sha256_file(config.ground_truth)
    counts = {"images": len(images), "rejects": len(rejects), "ground_truth": len(matches or ())}
    record.write(target.parent, counts=counts, inputs=inputs, name=f"{config.role}.run.json")
    say(f"ingest {config.role}: {len(images)} images, {len(rejects)} rejected")
    _check_share(rejects, len(images), config, target)
    return target


def find_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return (files with an image ending below `folder`, ascending by id; symbolic links that lead out of it).

    Raises UsageError when the folder is missing, is a file, holds no image, or two files would get one image id.
    """
    if not folder.exists():
        raise UsageError(f"the folder {folder} does not exist; give a folder with images")
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a folder; put the image into a folder and give that")
    root = folder.resolve()
    inside: list[Path] = []
    outside: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders.sort()
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        outside += [Path(parent) / n for n in links if not (Path(parent) / n).resolve().is_relative_to(root)]
        for name in names:
            path = Path(parent) / name
            if path.suffix.lower() in SUFFIXES:
                (inside if path.resolve().is_relative_to(root) else outside).append(path)
    if not inside:
        raise UsageError(f"no image in {folder}: nothing in it ends in {', '.join(sorted(SUFFIXES))}")
    inside.sort(key=lambda path: (path.stem, path.as_posix()))
    for first, second in itertools.pairwise(inside):
        if first.stem == second.stem:
            same = [path.stem for path, count in _counted(inside) if count > 1]
            raise UsageError(
                f"{first} and {second} would both be image {first.stem!r}, since an image id is the file name without "
                f"its ending ({len(same)} ids come more than once); rename one of the two, or remove it"
            )
    return inside, sorted(outside)


def _counted(paths: list[Path]) -> list[tuple[Path, int]]:
    counts = collections.Counter(path.stem for path in paths)
    return [(Path(stem), count) for stem, count in counts.items()]


def _read_all(paths: list[Path], config: IngestConfig) -> Iterator[tuple[Path, dict[str, Any] | str]]:
    """Yield each path with what was read, in the given order, with a bounded number of files in flight."""
    workers = config.workers or os.cpu_count() or 1
    queue: collections.deque[tuple[Path, concurrent.futures.Future[dict[str, Any] | str]]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:  # Pillow decodes outside the interpreter lock
        for path in paths:
            queue.append((path, pool.submit(_read, path, config.max_pixels)))
            if len(queue) >= workers * _AHEAD:
                first, future = queue.popleft()
                yield first, future.result()
        for first, future in queue:
            yield first, future.result()


def _read(path: Path, max_pixels: int) -> dict[str, Any] | str:
    """What the table needs of one file, or the reason why it is unusable. Decodes, to find truncated files."""
    if _printable(path.name) != path.name:
        return "the file name is not UTF-8; rename the file"
    try:
        data = path.read_bytes()
        header = read_header(data, max_pixels)
        decode(data, max_pixels=max_pixels)
    except DecodeError as error:
        return str(error)
    except OSError as error:
        return f"cannot read: {error.strerror}"
    return {"sha256": sha256_bytes(data), "width": header.width, "height": header.height, "format": header.format}


def _row(workspace: Workspace, path: Path, read: dict[str, Any], config: IngestConfig) -> dict[str, Any]:
    return {
        "image_id": path.stem,
        "role": config.role,
        "uri": workspace.uri_of(path),
        "rotation": 0,
        "license": config.license or None,
        "group": path.parent.name if config.group_by == "folder" else path.stem,
        **read,
    }


def _reject(workspace: Workspace, path: Path, reason: str) -> dict[str, Any]:
    return {"image_id": _printable(path.stem), "uri": _printable(workspace.uri_of(path)), "reason": reason}


def _printable(name: str) -> str:
    """A file name as valid Unicode: bytes that are no UTF-8 cannot stand in a table."""
    return os.fsencode(name).decode("utf-8", "replace")


def _check_share(rejects: list[dict[str, Any]], images: int, config: IngestConfig, target: Path) -> None:
    total = images + len(rejects)
    if len(rejects) <= config.max_reject_share * total:
        return
    reasons = collections.Counter(row["reason"] for row in rejects).most_common(3)
    top = "; ".join(f"{count} × {reason}" for reason, count in reasons)
    raise GapsError(
        f"{len(rejects)} of {total} images in {config.source} are unusable, more than max_reject_share "
        f"{config.max_reject_share:g} allows. Top reasons: {top}. The {images} good ones are in {target}, the others "
        f"with their reason in {config.role}-rejects.parquet beside it; mend or remove the files, or raise the share"
    )
