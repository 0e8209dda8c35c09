"""Descriptors that others made become an embeddings folder that mining reads like its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ndec_builder.candidates.mine import run as mine
from ndec_builder.candidates.role_vectors import load_role_vectors
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.embed import run as embed
from ndec_builder.embeddings.ingest_descriptors import run
from ndec_builder.embeddings.isc2021_hdf5 import read_hdf5
from ndec_builder.embeddings.settings import DescriptorsConfig, EmbedConfig
from ndec_builder.embeddings.stored_vectors import read_embeddings
from ndec_builder.evaluation.detectors.formats import Descriptors, write_submission
from ndec_builder.sources.ingest import run as ingest
from ndec_builder.sources.settings import IngestConfig
from support.isc2021_file import write_isc2021
from support.pictures import write_scenes
from support.tiny_trunk import tiny_model


def write_hdf5(path: Path, names: list[Any], vectors: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["vectors"] = vectors
        file["image_names"] = np.array(names)
    return path


def vectors_of(count: int, seed: int = 0, dim: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def check(directory: Path, names: list[str], vectors: np.ndarray) -> None:
    """Recompute what is stored: directions in float16, lengths in float32, ids in order."""
    stored = read_embeddings(directory)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    assert stored.ids == names
    assert np.allclose(stored.norms, lengths, rtol=1e-6)
    assert np.array_equal(stored.vectors, (vectors / lengths[:, None]).astype(np.float16))


@pytest.mark.parametrize(
    "names", [[b"refs/R000002.jpg", b"R000000.DNG", b"R000001"], ["a/R000002.jpg", "R000000", "R000001"]]
)
def test_names_are_stripped_and_rows_sorted(tmp_path: Path, names: list[Any]) -> None:
    path = tmp_path / "theirs.hdf5"
    vectors = vectors_of(3)
    if isinstance(names[0], bytes):
        write_hdf5(path, names, vectors)
    else:
        with h5py.File(path, "w") as file:
            file["vectors"] = vectors
            file.create_dataset("image_names", data=names, dtype=h5py.string_dtype())
    directory = run(DescriptorsConfig(tmp_path / "ws", "reference", path))
    assert directory == tmp_path / "ws" / "embeddings" / "reference" / "theirs"
    check(directory, ["R000000", "R000001", "R000002"], vectors[[1, 2, 0]])


def test_a_submission_fills_both_roles_in_one_space(tmp_path: Path) -> None:
    queries, references = vectors_of(2, 1), vectors_of(3, 2)
    sides = Descriptors(["Q00000", "Q00001"], queries), Descriptors(["R000000", "R000001", "R000002"], references)
    path = write_submission(tmp_path / "s.h5", *sides)
    made = [run(DescriptorsConfig(tmp_path / "ws", role, path, "theirs")) for role in ("query", "reference")]
    check(made[0], ["Q00000", "Q00001"], queries)
    check(made[1], ["R000000", "R000001", "R000002"], references)
    assert len({read_embeddings(directory).space for directory in made}) == 1
    with pytest.raises(NdecError, match="is a submission with the roles query and reference; pool descriptors need"):
        run(DescriptorsConfig(tmp_path / "ws", "pool", path))


@pytest.mark.slow
def test_mining_uses_them_without_embedding_anything(tmp_path: Path) -> None:
    write_scenes(tmp_path / "pool", 3)
    write_scenes(tmp_path / "ref", 3, first_seed=10)
    shared = vectors_of(3)
    for role, folder, first in (("pool", "pool", 0), ("reference", "ref", 10)):
        ingest(IngestConfig(tmp_path / "ws", role, tmp_path / folder))
        names = [f"x/scene-{first + i:04d}.jpg".encode() for i in range(3)]
        run(
            DescriptorsConfig(tmp_path / "ws", role, write_hdf5(tmp_path / f"{role}.h5", names, shared[::-1]), "theirs")
        )
    mine(MineConfig(tmp_path / "ws", top=3, model="theirs"))
    rows = read_table(Workspace(tmp_path / "ws").candidates("test") / "candidates.parquet").to_pylist()
    assert {row["query_id"]: row["reference_id"] for row in rows} == {
        f"scene-000{i}": f"scene-001{i}" for i in range(3)
    }


def test_the_isc2021_form_survives_the_way_through(tmp_path: Path) -> None:
    unit = vectors_of(40)
    unit = (unit / np.linalg.norm(unit, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)
    names = [f"R{i:06d}" for i in range(40)]
    path = write_isc2021(tmp_path / "a.h5", names, unit)
    stored = read_embeddings(run(DescriptorsConfig(tmp_path / "ws", "reference", path)))
    ids, vectors = read_hdf5(write_isc2021(tmp_path / "b.h5", stored.ids, stored.vectors))["vectors"]
    assert ids == names
    assert np.abs(vectors - unit).max() < 1e-3  # their unit vectors, normalised and rounded once more


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    path, good = tmp_path / "d.h5", vectors_of(3)
    workspace = tmp_path / "ws"

    def take(role: str = "reference") -> Path:
        return run(DescriptorsConfig(workspace, role, path))

    with pytest.raises(UsageError, match="there is no descriptors file"):
        take()
    path.write_bytes(b"no hdf5")
    with pytest.raises(NdecError, match="cannot be read as HDF5"):
        take()
    for names, vectors, message in (
        ([b"a", b"b", b"a.jpg"], good, "1 images occur twice: a;"),
        ([b"a", b"b"], good, r"shape \(3, 16\) for 2 names"),
        ([b"a", b"b", b"c"], good[0], r"shape \(16,\) for 3 names"),
        ([b"a", b"b", b"c"], np.where(good == good[1, 3], np.nan, good), "1 descriptors hold NaN or infinity: b;"),
    ):
        write_hdf5(path, names, vectors)
        with pytest.raises(NdecError, match=message):
            take()
    with pytest.raises(UsageError, match="role is 'refs'"):
        take("refs")


def test_images_and_descriptors_must_fit(tmp_path: Path) -> None:
    write_scenes(tmp_path / "ref", 3)
    ingest(IngestConfig(tmp_path / "ws", "reference", tmp_path / "ref"))
    names = [b"scene-0000", b"scene-0002", b"scene-0009", b"other"]
    config = DescriptorsConfig(tmp_path / "ws", "reference", tmp_path / "d.h5")
    write_hdf5(tmp_path / "d.h5", names, vectors_of(4))
    with pytest.raises(NdecError, match=r"2 of the 4 descriptors .* belong to no reference image: other, scene-0009;"):
        run(config)
    vectors = vectors_of(2)
    vectors[0] = 0
    write_hdf5(tmp_path / "d.h5", names[:2], vectors)
    with pytest.raises(GapsError, match=r"2 reference images have no usable descriptor .*: scene-0000, scene-0001;"):
        run(config)
    directory = tmp_path / "ws" / "embeddings" / "reference" / "d"
    check(directory, ["scene-0002"], vectors[1:])
    reasons = {row["image_id"]: row["reason"] for row in read_table(directory / "rejects.parquet").to_pylist()}
    assert reasons == {"scene-0000": "a descriptor of zeros", "scene-0001": "no descriptor"}


def test_descriptors_and_a_weights_file_of_the_same_name_are_not_mistaken_for_each_other(tmp_path: Path) -> None:
    """Both `tiny` and `models/tiny.pt` would be stored as embeddings/<role>/tiny."""
    model = tiny_model(tmp_path)
    workspace, names = Workspace(tmp_path / "ws"), [b"scene-0000", b"scene-0001", b"scene-0002"]
    path = write_hdf5(tmp_path / "d.h5", names, vectors_of(3))
    write_scenes(tmp_path / "ref", 3)
    ingest(IngestConfig(workspace.root, "reference", tmp_path / "ref"))
    directory = run(DescriptorsConfig(workspace.root, "reference", path, "tiny"))
    assert load_role_vectors(workspace, "reference", "tiny").vectors[:].shape == (3, 16)
    clash = r"imported as 'tiny', and the vectors of the model .*tiny\.pt(@32)?' would have the same folder"
    for name in (model, str(tmp_path / "gone" / "tiny.pt")):
        with pytest.raises(NdecError, match=clash):
            load_role_vectors(workspace, "reference", name)
    with pytest.raises(NdecError, match=clash):
        embed(EmbedConfig(workspace.root, "reference", model=model, whiten=False))
    check(directory, ["scene-0000", "scene-0001", "scene-0002"], vectors_of(3))
    shutil.rmtree(directory)
    embed(EmbedConfig(workspace.root, "reference", model=model, whiten=False))
    with pytest.raises(
        NdecError, match=r"ndec made with the model .*tiny\.pt@32', and descriptors with the name 'tiny'"
    ):
        run(DescriptorsConfig(workspace.root, "reference", path, "tiny"))
    assert (
        load_role_vectors(workspace, "reference", model).vectors[:].shape[1]
        == read_embeddings(directory).vectors.shape[1]
    )
    assert run(DescriptorsConfig(workspace.root, "reference", path, "others")).name == "others"
