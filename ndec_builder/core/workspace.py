"""Where files are stored: those of a benchmark, in one directory, and those that come with ndec."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import IMAGES
from ndec_builder.core.storage import read_table
from ndec_builder.core.vocabulary import ROLES, SPLITS


def given_as_uri(path: Path) -> bool:
    """Whether a path was given as an address, such as s3://bucket/x; a folder with such a name counts as a folder."""
    found = re.match(r"[A-Za-z][A-Za-z0-9+.-]+:(?=/)", str(path))
    return bool(found and not Path(found[0]).exists())


@dataclass(frozen=True)
class Workspace:
    """Paths of one benchmark directory. Making the object touches nothing on disk."""

    root: Path

    def __post_init__(self) -> None:
        """Raise UsageError for a URI: results are renamed, locked and mapped, which an object store cannot do."""
        if given_as_uri(self.root):
            raise UsageError(
                f"the workspace {self.root} is a URI; a workspace must be a folder on a disk or a shared file system, "
                "because ndec renames, locks and maps its files. Images may stay in an object store: ingest their URI "
                "into a local workspace (docs/how-to/cluster.md says which stages read what)"
            )

    @property
    def settings(self) -> Path:
        """Its settings file, ndec.toml."""
        return self.root / "ndec.toml"

    def images(self, role: str) -> Path:
        """Table of the images of one role: reference, basic, pool or query."""
        _one_of("role", role, ROLES)
        return self.root / "images" / f"{role}.parquet"

    def replaced_images(self, role: str) -> Path:
        """Pictures that ingests have replaced or removed (schema REPLACED)."""
        return self.images(role).with_name(f"{role}-replaced.parquet")

    @property
    def edits(self) -> Path:
        """How derived images were made (schema EDITS)."""
        return self.root / "images" / "edits.parquet"

    @property
    def ground_truth(self) -> Path:
        """Ground truth ingested with `ndec ingest query … --ground-truth`."""
        return self.root / "images" / "ground_truth.parquet"

    @property
    def pairs(self) -> Path:
        """Directed training pairs of an ingested release (schema PAIRS)."""
        return self.root / "images" / "pairs.parquet"

    def files(self, role: str) -> Path:
        """Folder for image files that ndec itself makes (edited copies)."""
        return self.root / "files" / role

    def embeddings(self, role: str, model: str) -> Path:
        """Folder of the vectors of one role and model. Raises UsageError for an unknown role."""
        _one_of("role", role, ROLES)
        return self.root / "embeddings" / role / slug(model)

    def whitening(self, model: str) -> Path:
        """Folder of the whitening that all roles of a model share."""
        return self.root / "embeddings" / "whitening" / slug(model)

    def candidates(self, split: str) -> Path:
        """Folder of the mined pairs of a split. Raises UsageError for an unknown one."""
        _one_of("split", split, SPLITS)
        return self.root / "candidates" / split

    def candidate_files(self, split: str) -> list[Path]:
        """The existing tables of a split's pairs: from mining, then by local features, then from the second search."""
        paths = [self.candidates(split) / name for name in ("candidates.parquet", "local.parquet", "recheck.parquet")]
        return [path for path in paths if path.is_file()] if paths[0].is_file() else []

    def annotation(self, split: str) -> Path:
        """Folder of tasks, labels and decisions of a split. Raises UsageError for an unknown one."""
        _one_of("split", split, SPLITS)
        return self.root / "annotation" / split

    @property
    def label_studio(self) -> Path:
        """Data directory and secrets of the Label Studio that `ndec annotate serve` starts."""
        return self.root / "label_studio"

    def manifest(self, name: str) -> Path:
        """Folder of one dataset, `<name>-<version>`."""
        return self.root / "manifests" / name

    def run(self, name: str) -> Path:
        """Folder of one training run."""
        return self.root / "runs" / name

    def report(self, name: str) -> Path:
        """Folder of one report."""
        return self.root / "reports" / name

    def uri_of(self, path: Path) -> str:
        """Posix path relative to the workspace when inside it, else absolute: a workspace can be moved."""
        # without `..`: a stored address is unambiguous, and datasets refuse addresses that leave their folder
        path, root = (Path(os.path.normpath(each.absolute())) for each in (path, self.root))
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)

    def resolve(self, uri: str) -> str:
        """Turn a table's uri into something `storage.read_uri` opens."""
        return uri if "://" in uri or uri.startswith("/") else str(self.root / uri)

    def read_images(self, role: str, columns: list[str] | None = None) -> pa.Table:
        """Images of a role in the order of the table (ascending image_id), all columns or some.

        Raises NdecError when not ingested.
        """
        path = self._ingested(role)
        table = read_table(path, columns)
        if table.column_names != (columns or IMAGES.names):
            raise NdecError(f"{path} has the columns {table.column_names}, expected {IMAGES.names}; ingest it again")
        return table

    def image_rows(self, role: str, ids: Iterable[str], columns: list[str] | None = None) -> dict[str, dict[str, Any]]:
        """The rows of these images of a role, by image_id, with all columns or some; unknown ids are left out.

        Raises NdecError when the role is not ingested.
        """
        return rows_by_id(self._ingested(role), ids, columns)

    def _ingested(self, role: str) -> Path:
        path = self.images(role)
        if not path.is_file():
            raise NdecError(
                f"this workspace ({self.root}) has no {role} images: {path} does not exist; "
                f"run `ndec ingest {role} FOLDER --workspace {self.root}` first"
            )
        return path


def rows_by_id(path: Path, ids: Iterable[str], columns: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """The rows of these images in an images table, by image_id; ids that it does not have are left out.

    The file is read one row group at a time, because a pool has millions of rows. `columns` None: all columns.
    """
    wanted = pa.array(sorted(set(ids)), pa.string())
    columns = columns and sorted({"image_id", *columns})
    found: dict[str, dict[str, Any]] = {}
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups if len(wanted) else 0):
            mask = pc.is_in(file.read_row_group(group, ["image_id"])["image_id"], value_set=wanted)
            if pc.any(mask).as_py():
                rows = file.read_row_group(group, columns).filter(mask).to_pylist()
                found |= {row["image_id"]: row for row in rows}
    return found


def shipped(name: str) -> Path:
    """Path of a file or folder that comes with ndec, e.g. `annotation/label_config.xml`.

    It works from a wheel, an editable install and a checkout. Raises NdecError when the file is missing.
    """
    package = Path(str(resources.files("ndec_builder")))
    for candidate in (package / "shipped" / name, package.parent / name):
        if candidate.exists():
            return candidate
    raise NdecError(f"the shipped file {name!r} is missing from this installation ({package}); reinstall ndec-builder")


def slug(name: str) -> str:
    """A model name as a folder name: `timm:resnet50` → `timm-resnet50`; a file path → its stem."""
    stem = Path(name).stem if "/" in name and ":" not in name else name
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in stem)


def _one_of(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"{what} {value!r} is unknown; it is one of {', '.join(choices)}")
