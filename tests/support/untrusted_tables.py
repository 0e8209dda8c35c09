"""Tables that name a picture of their folder and then something else, and what `ndec ingest` makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.ingest import run
from ndec_builder.sources.settings import IngestConfig


def write(kind: str, source: Path, *names: str) -> dict[str, Any]:
    """A source of a kind that names a picture and then something; the settings that read it."""
    rows, ids = ["a.jpg", *names], ["good", *(f"asked-{number}" for number in range(len(names)))]
    if kind == "parquet":
        pq.write_table(pa.table({"path": rows, "id": ids}), source / "t.parquet")
        return {"source": source / "t.parquet"}
    if kind == "hf":
        lines = [json.dumps({"file_name": row, "id": name}) for row, name in zip(rows, ids, strict=True)]
        (source / "metadata.jsonl").write_text("\n".join(lines))
        return {"source": source, "kind": "hf", "id": "column:id"}
    kind_of_image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": None, "path": row} for row in rows], kind_of_image)
    table = pa.table({"image": images, "id": ids})
    with pa.OSFile(str(source / "data.arrow"), "w") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    (source / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    return {"source": source, "kind": "hf"}


def ingest(workspace: Path, **settings: Any) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    run(IngestConfig(workspace, "pool", max_reject_share=1.0, **settings))
    rejects = read_table(workspace / "images" / "pool-rejects.parquet").to_pylist()
    rows = {row["image_id"]: row for row in Workspace(workspace).read_images("pool").to_pylist()}
    return rows, {row["image_id"]: row["reason"] for row in rejects}
