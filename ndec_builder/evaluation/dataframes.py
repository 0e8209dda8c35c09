"""Tables of a workspace, a dataset or a report as pandas DataFrames: the edge of the Python API."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv

from ndec_builder.core.errors import UsageError, nearest
from ndec_builder.core.schemas import PREDICTIONS, ROLES, SPLITS
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.manifests.read import open_manifest


def dataframe(name: str, place: Path, split: str | None = None) -> pd.DataFrame:
    """See `api.tables`."""
    if split is not None and split not in SPLITS:
        raise UsageError(f"split {split!r} is unknown; it is one of {', '.join(SPLITS)}")
    if (place / "manifest.json").is_file():
        manifest = open_manifest(place)
        found = {path.name: [("", path)] for path in (place / "data").iterdir()}
        hashes = place / "hashes.parquet"
        found |= {"hashes": [("", hashes)]} if hashes.is_file() else {}
        _known(name, found, place)
        return _frame(read_table(hashes) if name == "hashes" else manifest.stored(name))
    if (place / "metrics.json").is_file():
        _known(name, {"predictions": []}, place)
        types = {field.name: field.type for field in PREDICTIONS}
        options = pacsv.ConvertOptions(column_types=types, strings_can_be_null=False)
        return _frame(pacsv.read_csv(place / "predictions.csv", convert_options=options))
    found = _files(Workspace(place), (split,) if split else SPLITS)
    _known(name, found, place)
    parts = []
    for part, path in found[name]:
        table = read_table(path)
        if part and "split" not in table.column_names:
            table = table.add_column(0, "split", pa.array([part] * len(table), pa.string()))
        parts.append(table)
    return _frame(pa.concat_tables(parts, promote_options="default"))


def _files(workspace: Workspace, splits: tuple[str, ...]) -> dict[str, list[tuple[str, Path]]]:
    """table → (split or "", file) of what a workspace holds."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for role in ROLES:
        if workspace.images(role).is_file():
            found.setdefault("images", []).append(("", workspace.images(role)))
    for path in (workspace.edits, workspace.ground_truth, workspace.pairs):
        if path.is_file():
            found[path.stem] = [("", path)]
    for part in splits:
        for folder in (workspace.candidates(part), workspace.annotation(part)):
            for path in sorted(folder.glob("*.parquet")):
                if not path.stem.endswith(".previous"):  # the generation before
                    found.setdefault(path.stem, []).append((part, path))
    return found


def _known(name: str, found: dict[str, list[tuple[str, Path]]], place: Path) -> None:
    if name in found:
        return
    if not found:
        raise UsageError(f"{place} holds no tables; give the directory of a workspace, a dataset or a report")
    raise UsageError(f"{place} has no table {name!r}{nearest(name, found, '.')} There are: {', '.join(sorted(found))}")


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame
