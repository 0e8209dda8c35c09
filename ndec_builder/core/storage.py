"""Atomic files: written to a temporary name, fsynced, renamed. Remote URIs are read through fsspec."""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
import socket
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ndec_builder.core.access.machines import owner_text
from ndec_builder.core.access.reading import check_range, read_file, read_local, read_storage, read_web
from ndec_builder.core.access.remote import AbsentError, is_remote, is_web, retried
from ndec_builder.core.addresses import Cell, inflate, parse_address
from ndec_builder.core.errors import NdecError
from ndec_builder.core.parquet_cells import CellReader, rows_where
from ndec_builder.core.schemas import SCHEMA_VERSION

_cells = CellReader()
GROUP_ROWS = 131_072  # rows
_PARTIAL = re.compile(r"-(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[^-]*\.partial")


class WriteError(NdecError):
    """A file could not be written: no space, no permission, a limit."""


@contextlib.contextmanager
def atomic_path(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it is fsynced and renamed to `path`, else removed.

    `mode`: rights of the file before the umask; 0600 for what only its owner may read. The temporary name keeps the
    suffix of `path`, because some writers pick their format by it. Raises WriteError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}-{_here()}-{os.getpid()}-{secrets.token_hex(4)}.partial{path.suffix}")
        # not mkstemp, which uses 0600: the umask of the person says who may read results
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):  # on a disk that became read-only; the next run removes it
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise write_error(path, error) from error
        raise


def write_error(path: Path, error: OSError) -> WriteError:
    """The error for a failed write of `path`: the reason and what to do."""
    advice = "fix that and run the same command again: finished work is kept"
    # numpy's tofile reports how much it wrote, without an errno
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or " written" in str(error):
        advice = "free some space and run the same command again: finished work is kept"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "get permission to write there, or use a different --workspace"
    with contextlib.suppress(OSError):
        folder = next(parent for parent in path.absolute().parents if parent.is_dir())
        advice = f"{shutil.disk_usage(folder).free / 1e9:.1f} GB are free on that disk; {advice}"
    return WriteError(f"cannot write {path}: {error.strerror or error}; {advice}")


def disk_error(error: OSError) -> NdecError | None:
    """The error for a full, read-only or failing disk, or a file of another user; None for any other reason."""
    if error.errno in (errno.EACCES, errno.EPERM) and error.filename:
        name = os.fsdecode(error.filename)
        return NdecError(f"{name} cannot be opened ({error.strerror}){owner_text(name)}")
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO):
        return None
    return write_error(Path(os.fsdecode(error.filename or ".")), error)


def remove_partials(output: Path) -> None:
    """Remove the temporary files that a killed writer of `output` (a file or a folder) left behind.

    Call it while holding the lock of `output`. Files of a process that still runs on this machine stay, because
    `resolve` writes next to the mined pairs under another lock.
    """
    found = [*output.parent.glob(f".{glob.escape(output.stem)}-*.partial*")]
    if output.is_dir():
        found += output.rglob(".*.partial*")
    for path in found:
        if _writer(path) != "running":
            path.unlink(missing_ok=True)


def remove_abandoned(folder: Path, *, below: bool = False) -> None:
    """Remove temporary files in a folder (`below`: and in those under it) whose process on this machine has exited.

    For folders that several commands write to at once: files of running commands stay.
    """
    if not folder.is_dir():
        return
    for path in folder.rglob(".*.partial*") if below else folder.glob(".*.partial*"):
        if _writer(path) == "exited":
            path.unlink(missing_ok=True)


def _writer(partial: Path) -> str:
    """What became of the process that made a temporary file: running, exited, or unknown (on another machine)."""
    found = _PARTIAL.search(partial.name)
    if not found or found["machine"] != _here():
        return "unknown"
    return "running" if _is_running(int(found["process"])) else "exited"


@functools.cache
def _here() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


def sync_folder(folder: Path) -> None:
    """Make the rename itself durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return path


def write_text(path: Path, text: str) -> Path:
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> Path:
    """Write sorted, indented JSON: the same value gives the same bytes. NaN is refused because JSON has none."""
    return write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deeply
        raise NdecError(
            f"{path} is not JSON ({error}); it may have been edited by hand: restore it or delete it"
        ) from None


def write_table(path: Path, table: pa.Table) -> Path:
    """Write one parquet file; the same table gives the same bytes (one row group size, zstd, no timestamps)."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=GROUP_ROWS)
    return path


def read_table(
    path: Path,
    columns: list[str] | None = None,
    dictionary: Sequence[str] = (),
    where: tuple[str, int] | None = None,
) -> pa.Table:
    """Read one parquet file. Raises NdecError with the path when it is missing, broken or of a newer version.

    dictionary: text columns that stay dictionary-encoded in memory · where: only rows with this number in this
    column, one row group at a time; those that have none by their statistics are not read.
    """
    if not path.is_file():
        raise NdecError(
            f"{path} does not exist; run the stage that writes it first (`ndec status` shows which are done)"
        )
    try:
        if where is None:
            table = pq.read_table(path, columns=columns, partitioning=None, read_dictionary=[*dictionary])
        else:
            table = rows_where(path, *where, [*dictionary])
    except (pa.ArrowException, OSError) as error:  # a damaged page is an OSError
        raise unreadable_table(path, error) from None
    refuse_newer(table.schema, path)
    return table.unify_dictionaries() if dictionary else table  # each row group has one of its own


def unreadable_table(path: Path, error: Exception) -> NdecError:
    return NdecError(f"{path} cannot be read as parquet ({error}); create it again or restore it")


def refuse_newer(schema: pa.Schema, path: Path) -> None:
    """Raise NdecError when a newer ndec wrote the file, instead of guessing at its columns."""
    found = (schema.metadata or {}).get(b"ndec_schema_version", SCHEMA_VERSION.encode()).decode("utf-8", "replace")
    if found.isdigit() and int(found) > int(SCHEMA_VERSION):
        raise NdecError(
            f"{path} was written by a newer version of ndec: its schema version is {found}, this ndec reads up to "
            f"{SCHEMA_VERSION}; install a newer ndec (`pip install -U ndec-builder`)"
        )


def read_rows(path: Path, start: int, stop: int) -> pa.Table:
    """Rows [start, stop) of a parquet file; only the row groups that hold them are read."""
    with pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
        ends = list(itertools.accumulate(sizes))
        wanted = [i for i, end in enumerate(ends) if end > start and end - sizes[i] < stop]
        if not wanted:  # older versions of pyarrow cannot read zero row groups
            table: pa.Table = file.schema_arrow.empty_table()
            return table
        before = ends[wanted[0]] - sizes[wanted[0]] if wanted else 0
        return file.read_row_groups(wanted).slice(start - before, stop - start)


def forget_cells() -> None:
    """Read remote parquet files again from now on, as they may have been replaced. Local ones are checked anyway."""
    _cells.clear()


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """sha256 of the canonical JSON of a value: equal settings and inputs give equal fingerprints."""
    return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode())


def read_uri(uri: str | Path) -> bytes:
    """Read a local path, any fsspec URI (s3://, gs://, …) or an image inside one (core/addresses.py).

    A failed remote read is retried (core/access/remote.py). Raises OSError if the file does not exist or is too short.
    """
    text = str(uri)
    return retried(lambda: _read_once(text), text) if is_remote(text) else _read_once(text)


def _read_once(uri: str) -> bytes:
    if "\0" in uri:
        raise AbsentError(f"{uri!r} cannot be a file name")
    address = parse_address(uri)
    if isinstance(address, Cell):
        return _cells.read(address)
    if address is not None:
        data = _read_range(address.container, address.start, address.stop)
        return inflate(data) if address.deflate else data
    if "://" not in uri:
        return read_local(uri)
    if is_web(uri):
        return read_web(uri)
    import fsspec

    def read() -> bytes:
        with fsspec.open(uri, "rb") as file:
            return read_file(file)

    return read_storage(read)


def _read_range(container: str, start: int, stop: int) -> bytes:
    """Bytes [start, stop) by one seek or one ranged request. Raises OSError when the file ends before."""
    check_range(start, stop)
    if is_web(container):
        data = read_web(container, start, stop)
    elif "://" in container:
        import fsspec

        filesystem, path = fsspec.url_to_fs(container)
        data = read_storage(lambda: filesystem.cat_file(path, start=start, end=stop))
    else:  # at most the file size: a damaged archive may claim gigabytes
        data = read_local(container, start, stop)
    if len(data) != stop - start:
        raise AbsentError(f"{container} ends at or before byte {start + len(data)}; expected bytes up to {stop}")
    return data
