from __future__ import annotations

import json
import re

from ndec_builder.core.schemas import MANIFEST_TABLES
from ndec_builder.core.workspace import shipped
from ndec_builder.manifests.export import run
from ndec_builder.manifests.settings import ExportConfig


def test_dictionary_names_every_table_column_and_key(world):
    text = shipped("manifests/DATA_DICTIONARY.md").read_text("utf-8")
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
    first_cells = {name for cell in cells for name in re.findall(r"\w+", cell)}
    for table, (_, schema) in MANIFEST_TABLES.items():
        assert re.search(rf"^## .*\b{table}\b", text, re.MULTILINE)
        assert set(schema.names) <= first_cells
    info = json.loads((run(ExportConfig(world.workspace.root)) / "manifest.json").read_text())
    assert set(info) <= first_cells
