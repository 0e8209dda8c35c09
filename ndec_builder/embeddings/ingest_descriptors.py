"""`ndec ingest --kind descriptors`: imports descriptors from an ISC2021 HDF5 file into embeddings/<role>/<model>/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import GapsError, NdecError
from ndec_builder.core.fingerprints import images_fingerprint
from ndec_builder.core.locks import locked
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import REJECTS, table_of
from ndec_builder.core.storage import fingerprint, read_json, sha256_file, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.isc2021_hdf5 import NamedVectors, listed_ids, read_hdf5
from ndec_builder.embeddings.model_names import imported_as
from ndec_builder.embeddings.parts import PART, PART_VECTORS, Piece, split_norms, write_parts
from ndec_builder.embeddings.settings import DescriptorsConfig

RESULT_VERSION = 1


def run(config: DescriptorsConfig) -> Path:
    """Write the vectors of one role and return their folder; `ndec mine --model NAME` and other commands then use them.

    The order is that of the role's images; without ingested images, ascending by id. Raises UsageError and NdecError
    for a file of another form, NaN, repeated ids, or ids that belong to no image; GapsError, after writing everything,
    when images have no descriptor.
    """
    workspace, record = Workspace(config.workspace), RunRecord("descriptors", config, RESULT_VERSION)
    path = Path(config.source)
    names, vectors = read_role_descriptors(path, config.role)
    images = workspace.read_images(config.role) if workspace.images(config.role).is_file() else None
    order, missing = _order(names, images, path, config.role)
    directory = workspace.embeddings(config.role, config.model or path.stem)
    zeros = {names[row] for row in order if not vectors[row].any()}
    order = [row for row in order if names[row] not in zeros]
    with locked(directory):
        _refuse_own_vectors(directory, config.model or path.stem)
        (directory / "run.json").unlink(missing_ok=True)
        parts = write_parts(directory, _pieces(names, vectors, order))
        rejects = [{"image_id": name, "uri": str(path), "reason": "no descriptor"} for name in missing]
        rejects += [{"image_id": name, "uri": str(path), "reason": "a descriptor of zeros"} for name in sorted(zeros)]
        write_table(directory / "rejects.parquet", table_of(REJECTS, sorted(rejects, key=lambda row: row["image_id"])))
        source = sha256_file(path)
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
