"""croissant.json: the dataset described in Croissant 1.1 (JSON-LD over schema.org), with the sha256 of each file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from ndec_builder.core.schemas import MANIFEST_TABLES, TABLE_KEYS
from ndec_builder.manifests.writing.responsible import RAI_CONFORMS_TO, stated_facts

CONFORMS_TO = ["http://mlcommons.org/croissant/1.1", RAI_CONFORMS_TO]
ENCODING_FORMATS = {".parquet": "application/x-parquet", ".csv": "text/csv", ".tar": "application/x-tar"}
# column → the field it refers to, in the form of Croissant's `references`
FOREIGN_KEYS = {
    ("ground_truth", "query_id"): "queries/query_id",
    ("ground_truth", "reference_id"): "references/image_id",
    ("train_pairs", "former_id"): "train_basic/image_id",
    ("train_pairs", "latter_id"): "train_pair_images/image_id",
}
CITATION = "Wang, Sun, Yang: A Benchmark and Asymmetrical-Similarity Learning for Practical Image Copy Detection, 2022"
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(info: Mapping[str, Any], files: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    """Return the JSON-LD of a manifest.json. `files`: relative posix path → (sha256, bytes) of parquet, csv and tar."""
    value: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": info["name"],
        "version": info["version"],
        "description": info["description"],
        "conformsTo": CONFORMS_TO,
        "license": list(info["counts"]["licenses"]),
        "citeAs": CITATION,
        "isLiveDataset": False,
        **stated_facts(info),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": path,
                "name": path,
                "contentUrl": path,
                "contentSize": f"{size} B",
                "encodingFormat": ENCODING_FORMATS[PurePosixPath(path).suffix],
                "sha256": sha256,
            }
            for path, (sha256, size) in files.items()
        ],
        # `mlcroissant` cannot join tables without rows
        "recordSet": [
            _record_set(table, split, schema)
            for table, (split, schema) in MANIFEST_TABLES.items()
            if info["counts"]["rows"][table]
        ],
    }
    if info["authors"]:
        value["creator"] = [{"@type": "sc:Person", "name": name} for name in info["authors"]]
    return value


def _record_set(table: str, split: str, schema: pa.Schema) -> dict[str, Any]:
    file = f"data/{table}/{split}-00000-of-00001.parquet"
    return {
        "@type": "cr:RecordSet",
        "@id": table,
        "name": table,
        "key": {"@id": f"{table}/{TABLE_KEYS[table]}"},
        "field": [_field(table, column, file) for column in schema],
    }


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_floating(kind):
        return "sc:Float"
    return "sc:Integer" if pa.types.is_integer(kind) else "sc:Text"


def _field(table: str, column: pa.Field, file: str) -> dict[str, Any]:
    value: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{table}/{column.name}",
        "name": column.name,
        "dataType": _data_type(column.type),
        "source": {"fileObject": {"@id": file}, "extract": {"column": column.name}},
    }
    if target := FOREIGN_KEYS.get((table, column.name)):
        value["references"] = {"field": {"@id": target}}
    return value
