"""`ndec ingest --kind descriptors`: imports descriptors from an ISC2021 HDF5 file into embeddings/<role>/<model>/."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import GapsError, NdecError
from ndec_builder.core.fingerprints import images_fingerprint
from ndec_builder.core.locks import locked
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import REJECTS, ROLES, table_of
from ndec_builder.core.storage import fingerprint, read_json, sha256_file, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.isc2021_hdf5 import LEAST_OF_ONE_MODEL, NamedVectors, listed_ids, read_hdf5
from ndec_builder.embeddings.model_names import imported_as
from ndec_builder.embeddings.parts import PART, PART_VECTORS, Piece, split_norms, write_parts
from ndec_builder.embeddings.settings import DescriptorsConfig
from ndec_builder.embeddings.stored_vectors import map_embeddings

RESULT_VERSION = 1


def run(config: DescriptorsConfig) -> Path:
    """Write the vectors of one role and return their folder; `ndec mine --model NAME` and other commands then use them.

    The order is that of the role's images; without ingested images, ascending by id. Raises UsageError and NdecError
    for a file of another form, NaN, repeated ids, ids that belong to no image, or if the descriptors of another role
    under this name are of another model; GapsError, after writing everything, when images have no descriptor.
    """
    workspace, record = Workspace(config.workspace), RunRecord("descriptors", config, RESULT_VERSION)
    path = Path(config.source)
    names, vectors = read_role_descriptors(path, config.role)
    images = workspace.read_images(config.role) if workspace.images(config.role).is_file() else None
    order, missing = _order(names, images, path, config.role)
    directory = workspace.embeddings(config.role, config.model or path.stem)
    zeros = {names[row] for row in order if not vectors[row].any()}
    order = [row for row in order if names[row] not in zeros]
    source = sha256_file(path)
    apart = _of_other_files(workspace, config, int(vectors.shape[1]), source)
    if images is not None:
        _refuse_other_model(workspace, config, images, {names[row]: row for row in order}, vectors, apart)
    with locked(directory):
        _refuse_own_vectors(directory, config.model or path.stem)
        (directory / "run.json").unlink(missing_ok=True)
        parts = write_parts(directory, _pieces(names, vectors, order))
        rejects = [{"image_id": name, "uri": str(path), "reason": "no descriptor"} for name in missing]
        rejects += [{"image_id": name, "uri": str(path), "reason": "a descriptor of zeros"} for name in sorted(zeros)]
        write_table(directory / "rejects.parquet", table_of(REJECTS, sorted(rejects, key=lambda row: row["image_id"])))
        record.write(
            directory,
            counts={"images": len(order) + len(rejects), "embedded": len(order), "rejected": len(rejects)},
            inputs={path.name: source} | ({"images": images_fingerprint(images)} if images is not None else {}),
            fingerprint=fingerprint([RESULT_VERSION, source, names]),
            space=fingerprint(["descriptors", config.model or path.stem, vectors.shape[1]]),
            parts=parts,
            dim=int(vectors.shape[1]),
            layer="imported",
        )
    say(
        f"descriptors {config.role}: {number_of(len(order), 'vector')}, {vectors.shape[1]}-d, as model "
        f"{config.model or path.stem}"
    )
    if apart:
        others = " and ".join(f"{role} (from {file})" for role, file in apart.items())
        say(
            f"note: {others} has the name {config.model or path.stem} too. Its descriptors are compared with these as "
            "those of one model, which ndec cannot check; if they are of two, import these with another --model NAME"
        )
    if rejects:
        raise GapsError(
            f"{len(rejects)} {config.role} images have no usable descriptor in {path}: "
            f"{listed_ids(sorted(missing | zeros))}; "
            f"the others are in {directory}. Ask for the missing ones, or ingest only the images that have one"
        )
    return directory


def _refuse_own_vectors(directory: Path, name: str) -> None:
    """Raise NdecError if ndec made the vectors of this folder: of the model NAME, or of a weights file NAME.pt."""
    path = directory / "run.json"
    record = read_json(path) if path.is_file() else {}
    if record and imported_as(record) is None:
        made = (record.get("config") or {}).get("model", "a model")
        raise NdecError(
            f"{directory} holds vectors that ndec made with the model {made!r}, and descriptors with the name {name!r} "
            "would replace them; give the descriptors another name with --model, or delete that folder"
        )


def _of_other_files(workspace: Workspace, config: DescriptorsConfig, dim: int, source: str) -> dict[str, str]:
    """role → file of the descriptors of other roles that will be compared with these, but are from another file."""
    name, found = config.model or Path(config.source).stem, {}
    for role in (role for role in ROLES if role != config.role):
        path = workspace.embeddings(role, name) / "run.json"
        record = read_json(path) if path.is_file() else {}
        if imported_as(record) == name and record.get("dim") == dim and source not in record.get("inputs", {}).values():
            found[role] = str(record["config"]["source"])
    return found


def _refuse_other_model(
    workspace: Workspace,
    config: DescriptorsConfig,
    images: pa.Table,
    place: Mapping[str, int],
    vectors: np.ndarray,
    others: Mapping[str, str],
) -> None:
    """Raise NdecError if a picture that another role has too (the same SHA-256) has a different descriptor there.

    place: image_id → row of its vector.
    """
    name, path = config.model or Path(config.source).stem, Path(config.source)
    for role, file in others.items():
        if not workspace.images(role).is_file():
            continue
        theirs = workspace.read_images(role, ["image_id", "sha256"])
        same = theirs.join(images.select(["image_id", "sha256"]), "sha256", join_type="inner", right_suffix="_here")
        stored = map_embeddings(workspace.embeddings(role, name))
        rows = pc.index_in(same["image_id"], value_set=stored.ids).to_pylist()
        pairs = [(row, place[here]) for row, here in zip(rows, same["image_id_here"].to_pylist(), strict=True)
                 if row is not None and here in place]  # fmt: skip
        there = stored.vectors[np.array([row for row, _ in pairs], np.int64)].astype(np.float32)
        here_ = split_norms(vectors[[row for _, row in pairs]])[0].astype(np.float32)
        cosines = (there * here_).sum(axis=1)
        if len(cosines) and (median := float(np.median(cosines))) < LEAST_OF_ONE_MODEL:
            raise NdecError(
                f"the {config.role} descriptors of {path} and the {role} descriptors of {file} have one name, {name}, "
                f"but are not of one model: {number_of(len(cosines), 'picture')} of both roles (the same bytes) should "
                f"have equal descriptors, and the median of their cosines is {median:.2f}. Give these another name "
                "with --model"
            )


def read_role_descriptors(path: Path, role: str) -> NamedVectors:
    """The ids and vectors of a role in a file. Raises as `read_hdf5`, and NdecError when the file lacks the role."""
    sides = read_hdf5(path)
    side = sides.get("vectors") or sides.get(role)
    if side is None:
        raise NdecError(
            f"{path} is a submission with the roles query and reference; {role} descriptors need a file with "
            "vectors and image_names"
        )
    return side


def _order(names: list[str], images: pa.Table | None, path: Path, role: str) -> tuple[list[int], set[str]]:
    """Return (rows of the file in the order to store; images without one). Raises NdecError for ids of no image."""
    place = {name: row for row, name in enumerate(names)}
    if images is None:
        return [place[name] for name in sorted(place)], set()
    ids = images["image_id"].to_pylist()
    if strangers := sorted(set(names) - set(ids)):
        raise NdecError(
            f"{len(strangers)} of the {len(names)} descriptors in {path} belong to no {role} image: "
            f"{listed_ids(strangers)}; an id "
            "is the file name without folder and ending: ingest those images too, or remove their descriptors"
        )
    return [place[name] for name in ids if name in place], set(ids) - set(names)


def _pieces(names: list[str], vectors: np.ndarray, order: list[int]) -> Iterator[Piece]:
    for start in range(0, len(order), PART_VECTORS):
        rows = order[start : start + PART_VECTORS]
        directions, norms = split_norms(vectors[rows])
        ids = pa.array([names[row] for row in rows], pa.string())
        yield directions, pa.table([ids, pa.array(norms)], schema=PART)
