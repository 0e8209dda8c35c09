"""Images of a role with their vectors, for searching; the vectors of millions of images stay on disk."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ndec_builder.candidates.settings import GALLERY
from ndec_builder.core.config import build, read_settings, result_fields
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.fingerprints import images_fingerprint
from ndec_builder.core.storage import read_json, read_table
from ndec_builder.core.workspace import Workspace, rows_by_id
from ndec_builder.embeddings.engines.record import check_precision
from ndec_builder.embeddings.model_names import imported_as, is_imported_as, is_made_by, refuse_same_folder
from ndec_builder.embeddings.stored_vectors import MappedVectors, map_embeddings

BACKGROUND_ROLES = {"test": "basic"}  # split → role whose images scores are normalised against

Rows = dict[str, dict[str, Any]]  # image_id → row of its images table


@dataclass(frozen=True)
class RoleVectors:
    """The embedded images of a role: ids (n,) ascending, vectors (n, d) float16 in that order, on disk."""

    role: str
    table: Path  # the images table
    ids: pa.StringArray
    vectors: MappedVectors
    space: str  # equal for vectors that can be compared
    precision: str | None  # float32 or bfloat16, where it was recorded
    model: str

    def rows(self, image_ids: Collection[str]) -> Rows:
        """Rows of the images table by id, read group by group."""
        return rows_by_id(self.table, image_ids)

    def names(self, positions: np.ndarray) -> list[str]:
        """Ids at these rows (k,) int."""
        found: list[str] = self.ids.take(pa.array(positions)).to_pylist()
        return found

    def only(self, image_ids: Collection[str]) -> RoleVectors:
        return self._filter(pc.is_in(self.ids, value_set=pa.array(sorted(image_ids), pa.string())))

    def without(self, image_ids: Collection[str]) -> RoleVectors:
        if not image_ids:
            return self
        return self._filter(pc.invert(pc.is_in(self.ids, value_set=pa.array(sorted(image_ids), pa.string()))))

    def _filter(self, mask: pa.BooleanArray) -> RoleVectors:
        keep = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
        return replace(self, ids=self.ids.take(pa.array(keep)), vectors=self.vectors.take(keep))

    def __len__(self) -> int:
        return len(self.ids)


def load_role_vectors(workspace: Workspace, role: str, model: str, settings: Path | None = None) -> RoleVectors:
    """Open the vectors of a role; embed its images first if needed, with [embed] of the settings file.

    Raises NdecError when the role is not ingested, no image could be embedded, ids are missing in the images table, or
    imported descriptors belong to other images.
    """
    table = workspace.images(role)
    if not table.is_file():
        workspace.read_images(role)  # its error says what to do
    if not pq.read_metadata(table).num_rows:
        raise NdecError(f"the {role} table of {workspace.root} is empty; run `ndec ingest {role} FOLDER` with images")
    if not is_embedded(workspace, role, model):
        _refuse_old_import(workspace, role, model)
        from ndec_builder.embeddings.embed import run as embed
        from ndec_builder.embeddings.settings import EmbedConfig

        values = read_settings(settings or workspace.root / "ndec.toml")
        embed(build(EmbedConfig, "embed", values, workspace=workspace.root, role=role, model=model))
    directory = workspace.embeddings(role, model)
    stored = map_embeddings(directory)
    if not len(stored.ids):
        raise NdecError(
            f"none of the {role} images could be embedded: {directory / 'rejects.parquet'} has the reasons; ingest "
            f"others with `ndec ingest {role} FOLDER`"
        )
    known = pc.is_in(stored.ids, value_set=read_table(table, ["image_id"])["image_id"].combine_chunks())
    if not pc.all(known).as_py():
        unknown = stored.ids.filter(pc.invert(known))
        raise NdecError(
            f"not in {table}: {number_of(len(unknown), f'embedded {role} image')}, {unknown[0].as_py()!r} first; "
            f"run `ndec embed {role} --model {model}` again"
        )
    return RoleVectors(role, table, stored.ids, stored.vectors, stored.space, stored.precision, stored.model)


def _refuse_old_import(workspace: Workspace, role: str, model: str) -> None:
    """Raise NdecError if the stored vectors are imported descriptors: ndec cannot make those again."""
    record = _run_record(workspace, role, model)
    refuse_same_folder(workspace.embeddings(role, model), record, model, role)
    if imported_as(record) is None:
        return
    source = (record.get("config") or {}).get("source", "FILE")
    when = "the images changed since" if "images" in record.get("inputs", {}) else "before the images were ingested"
    raise NdecError(
        f"the {role} descriptors {model!r} were imported from {source} for other images than today's ({when}); import "
        f"them again: `ndec ingest {role} {source} --kind descriptors --model {model}`"
    )


def report_other_model(workspace: Workspace, model: str, settings: Path | None = None) -> None:
    """Say that the settings file names another model under [embed] than the one that is searched with."""
    path = settings or workspace.settings
    embed = read_settings(path).get("embed")
    asked = embed.get("model") if isinstance(embed, dict) else None
    if asked and asked != model:
        say(
            f"note: [embed] of {path} says model = {asked}, and this searches with {model}, because [mine] has a "
            f"setting of its own: set model there too, or give --model {asked}"
        )


def report_other_settings(workspace: Workspace, split: str, model: str, settings: Path | None = None) -> None:
    """Say where [embed] of the settings file differs from what the stored vectors of a split were made with.

    They are used as they are: only `ndec embed` makes vectors again.
    """
    path = settings or workspace.settings
    values = read_settings(path)
    if not values.get("embed"):
        return
    from ndec_builder.embeddings.settings import EmbedConfig

    for role in filter(None, ("pool", GALLERY[split], BACKGROUND_ROLES.get(split))):
        made = _run_record(workspace, role, model).get("config") or {}
        asked = result_fields(build(EmbedConfig, "embed", values, workspace=workspace.root, role=role, model=model))
        others = [name for name in values["embed"] if name in asked and made.get(name, asked[name]) != asked[name]]
        if others:
            file, stored = (", ".join(f"{name} = {of[name]}" for name in others) for of in (asked, made))
            say(
                f"[embed] of {path} says {file}, but the {role} vectors were made with {stored}; they are used as they "
                f"are, and `ndec embed {role} --model {model}` makes them again"
            )


def _run_record(workspace: Workspace, role: str, model: str) -> dict[str, Any]:
    path = workspace.embeddings(role, model) / "run.json"
    record: dict[str, Any] = read_json(path) if path.is_file() else {}
    return record


def load_search_vectors(
    workspace: Workspace, split: str, model: str, settings: Path | None = None
) -> tuple[RoleVectors, RoleVectors, RoleVectors | None]:
    """Return pool, gallery and, if it is already embedded, the background for score normalisation.

    Raises NdecError when their vectors cannot be compared.
    """
    pool, gallery = (load_role_vectors(workspace, role, model, settings) for role in ("pool", GALLERY[split]))
    role = BACKGROUND_ROLES.get(split)
    background = load_role_vectors(workspace, role, model) if role and is_embedded(workspace, role, model) else None
    for side in (pool, background):
        if side is not None and side.space != gallery.space:
            raise NdecError(
                f"the vectors of {side.role} and {gallery.role} cannot be compared: they were made with "
                f"model={side.model} and model={gallery.model}, or with another whitening or other weights under that "
                "name; run `ndec embed` again for both roles"
            )
        if side is not None:
            check_precision((side.role, side.precision), (gallery.role, gallery.precision))
    return pool, gallery, background


def refuse_missing_background(split: str, model: str) -> NoReturn:
    """Raise the error for a mining that ranks by normalised scores but has no images to normalise against."""
    role = BACKGROUND_ROLES.get(split)
    if role is None:
        raise UsageError(f"rank_by is normalized, but split {split} has no background images; use raw")
    raise NdecError(
        f"rank_by is normalized, which needs {role} images to normalise against; run `ndec ingest {role} "
        f"FOLDER` and `ndec embed {role} --model {model}`, or rank by raw"
    )


def is_embedded(workspace: Workspace, role: str, model: str) -> bool:
    """Whether the embeddings are finished, and the images and the files of the model are those they were made from."""
    run = _run_record(workspace, role, model)
    if not run or not workspace.images(role).is_file():
        return False
    images = workspace.read_images(role, ["image_id", "uri", "sha256", "format", "rotation"])
    return run.get("inputs", {}).get("images") == images_fingerprint(images) and _is_of(run, model)


def _is_of(run: dict[str, Any], model: str) -> bool:
    if run.get("layer") not in ("whitened", "pooled"):  # descriptors of another tool: there is no model
        return is_imported_as(run, model) or imported_as(run) is None
    try:
        return is_made_by(run, model)
    except (NdecError, UsageError):  # the weights are gone: the vectors remain usable
        return True
