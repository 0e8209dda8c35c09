"""Open a dataset directory: the reader that training and evaluation use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.core.errors import NdecError, UsageError, nearest
from ndec_builder.core.schemas import MANIFEST_TABLES, SCHEMA_VERSION, conform
from ndec_builder.core.storage import read_json, read_table
from ndec_builder.core.workspace import given_as_uri
from ndec_builder.manifests.codes import COPY
from ndec_builder.manifests.csv_tables import IMAGE_TABLES
from ndec_builder.manifests.image_paths import escapes_root, image_place


@dataclass(frozen=True)
class Manifest:
    """A dataset on disk: `info` is its manifest.json."""

    directory: Path
    info: dict[str, Any]

    def table(self, name: str) -> pa.Table:
        """Read a table of MANIFEST_TABLES from all its files, in order.

        Null uris of an attribution-only dataset become the paths that `ndec fetch` writes. Raises NdecError when the
        table is unknown, missing, or made by a newer version.
        """
        table = self.stored(name)
        if self.form != "attribution_only" or name not in IMAGE_TABLES:
            return table
        columns = (table[column].to_pylist() for column in (IMAGE_TABLES[name], "sha256"))
        uris = [image_place(name, image_id or "", sha256) for image_id, sha256 in zip(*columns, strict=True)]
        column = table.column_names.index("uri")
        return table.set_column(column, table.schema.field(column), pa.array(uris, pa.string()))

    def stored(self, name: str) -> pa.Table:
        """The table exactly as stored."""
        if name not in MANIFEST_TABLES:
            raise NdecError(
                f"a dataset has no table {name!r}{nearest(name, MANIFEST_TABLES)}; it has {list(MANIFEST_TABLES)}"
            )
        split, schema = MANIFEST_TABLES[name]
        paths = sorted((self.directory / "data" / name).glob(f"{split}-*.parquet"))
        if not paths:
            raise NdecError(
                f"{self.directory} lacks data/{name}/{split}-*.parquet; copy the whole directory, or export it again"
            )
        table = pa.concat_tables([read_table(path) for path in paths])
        if "rotation" in schema.names and "rotation" not in table.column_names:  # written before the column existed
            table = table.append_column("rotation", pa.nulls(table.num_rows, pa.int32()))
        return conform(table, schema)

    @property
    def form(self) -> str:
        """Where the images are: elsewhere, folder, tar or attribution_only."""
        images = self.info.get("images")
        return str(images.get("form", "elsewhere")) if isinstance(images, dict) else "elsewhere"

    def resolve(self, uri: str) -> str:
        """Turn a table's uri into something `storage.read_uri` opens.

        Raises NdecError for a uri of a dataset with images of its own that leaves its folder.
        """
        if self.form != "elsewhere" and ("://" in uri or escapes_root(uri)):
            raise NdecError(f"the uri {uri[:200]!r} leaves the dataset {self.directory}, whose images are in it")
        if "://" in uri or uri.startswith("/"):
            return uri
        return str(self.directory / self.info["images_root"] / uri)


def open_manifest(directory: Path) -> Manifest:
    """Open a dataset directory. Raises NdecError when it is not one, or has a different schema version."""
    path = directory / "manifest.json"
    if given_as_uri(directory):
        raise UsageError(
            f"the dataset {directory} is a URI; ndec reads datasets from folders: copy it to a disk first. Its images "
            "may stay in the store"
        )
    if not directory.is_dir():
        raise NdecError(f"the dataset directory {directory} does not exist; `ndec export` makes one under manifests/")
    if not path.is_file():
        raise NdecError(
            f"{directory} is not a dataset: it has no manifest.json; pass the directory that `ndec export` wrote"
        )
    info = read_json(path)
    if not isinstance(info, dict) or "schema_version" not in info:
        raise NdecError(f"{path} has no schema_version, so it is not a dataset of ndec; export it again")
    if info["schema_version"] != SCHEMA_VERSION:
        newer = " was made by a newer version of ndec: it" if _is_newer(info["schema_version"]) else ""
        raise NdecError(
            f"{path}{newer} has schema version {info['schema_version']!r}, this ndec reads {SCHEMA_VERSION!r}; export "
            f"it again with this version, or use the ndec it was made with ({info.get('ndec_version', 'not recorded')})"
        )
    manifest = Manifest(directory, info)
    if manifest.form != "elsewhere" and info.get("images_root") != ".":
        raise NdecError(
            f"{path} says that images_root is {info.get('images_root')!r}, outside of the dataset, although it has "
            f"its own images ({manifest.form}); do not use it, or {COPY}"
        )
    return manifest


def _is_newer(version: object) -> bool:
    return isinstance(version, str) and version.isdigit() and int(version) > int(SCHEMA_VERSION)
