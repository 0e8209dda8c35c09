"""Extraction: order, independence of the batch, rejects, threads."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.embeddings.backbones import Backbone, load_backbone
from ndec_builder.embeddings.extract import DescribeBatch, ImageBatch, extract, in_order, one_behind, use_bf16
from ndec_builder.embeddings.inference import Inference
from ndec_builder.embeddings.preprocess import longest_side, to_array, to_pixels
from support.pictures import scene, write_scenes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny(tiny_file: Path) -> Backbone:
    return load_backbone(f"{tiny_file}@64")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    return table(write_scenes(tmp_path_factory.mktemp("scenes"), 11))


def table(paths: list[Path], rotations: list[int] | None = None) -> pa.Table:
    columns = {"image_id": [path.stem for path in paths], "uri": [str(path) for path in paths]}
    return pa.table(columns if rotations is None else {**columns, "rotation": rotations})


def test_equals_the_model_one_image_at_a_time(tiny: Backbone, images: pa.Table) -> None:
    got = extract(tiny, images, str, batch_size=4)
    assert got.ids == images["image_id"].to_pylist() and got.features.shape == (11, 12) and not got.rejects
    for i in range(11):
        batch = torch.from_numpy(to_array(scene(i), 64)[None])
        with torch.inference_mode():
            alone = tiny(tiny.normalised(batch)).numpy()[0]
        assert got.features[i] == pytest.approx(alone, rel=1e-4, abs=1e-5)


def test_same_batch_shape_gives_the_same_bits(tiny: Backbone, images: pa.Table) -> None:
    whole = extract(tiny, images, str, batch_size=4).features
    assert np.array_equal(extract(tiny, images.slice(8), str, batch_size=4).features, whole[8:])
    assert np.array_equal(extract(tiny, images, str, batch_size=4, threads=1).features, whole)


def test_default_model_on_scenes_is_stable_in_any_batch(images: pa.Table) -> None:
    backbone = load_backbone("efficientnet-lite0")
    images = images.slice(0, 6)
    whole = extract(backbone, images, str, batch_size=4).features
    alone = np.concatenate([extract(backbone, images.slice(i, 1), str, batch_size=1).features for i in (0, 5)])
    cosine = (whole[[0, 5]] * alone).sum(1) / np.linalg.norm(whole[[0, 5]], axis=1) / np.linalg.norm(alone, axis=1)
    assert (cosine > 0.999).all()
    full = extract(backbone, images, str, batch_size=4, bf16="off").features
    cosine = (whole * full).sum(1) / np.linalg.norm(whole, axis=1) / np.linalg.norm(full, axis=1)
    assert (cosine > 0.99).all()


def test_bad_images_are_rejects_and_shift_nothing(tiny: Backbone, tmp_path: Path) -> None:
    paths = write_scenes(tmp_path, 9)
    whole = extract(tiny, table(paths), str, batch_size=4)
    paths[1].write_bytes(b"no picture")
    paths[4].write_bytes(paths[4].read_bytes()[:300])
    paths[8].unlink()
    got = extract(tiny, table(paths), str, batch_size=4)
    kept = [0, 2, 3, 5, 6, 7]
    assert got.ids == [paths[i].stem for i in kept]
    assert np.array_equal(got.features, whole.features[kept])
    reasons = {row["image_id"]: row["reason"] for row in got.rejects}
    assert list(reasons) == [paths[i].stem for i in (1, 4, 8)]
    assert "not an image" in reasons["scene-0001"] and "cannot decode" in reasons["scene-0004"]
    assert "No such file" in reasons["scene-0008"]


def test_an_image_that_changed_after_the_ingest_is_a_reject(tiny: Backbone, tmp_path: Path) -> None:
    paths = write_scenes(tmp_path, 3)
    known = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    shutil.copy(paths[0], paths[1])
    got = extract(tiny, table(paths).append_column("sha256", pa.array([known[0], known[1], None])), str)
    assert got.ids == ["scene-0000", "scene-0002"]  # an unknown sha256 is not compared
    assert got.rejects == [
        {
            "image_id": "scene-0001",
            "uri": str(paths[1]),
            "reason": "the file changed since it was ingested; run `ndec ingest` again",
        }
    ]


@pytest.mark.parametrize("how", ["the folder is replaced", "a link to the folder is turned"])
def test_other_files_behind_the_same_path_are_noticed_although_they_are_older(
    tiny: Backbone, tmp_path: Path, how: str
) -> None:
    """No time of the files changes: they were written before the ingest."""
    first, other = (write_scenes(tmp_path / name, 3) for name in ("first", "other"))
    first[0].write_bytes(other[2].read_bytes())  # so that both folders differ
    path = tmp_path / "path"
    path.symlink_to("first") if "link" in how else first[0].parent.rename(path)
    images = table([path / file.name for file in first])
    known = [hashlib.sha256((path / file.name).read_bytes()).hexdigest() for file in first]
    if "link" in how:
        path.unlink()
        path.symlink_to("other")
    else:
        path.rename(tmp_path / "away")
        other[0].parent.rename(path)
    got = extract(tiny, images.append_column("sha256", pa.array(known)), str)
    assert got.ids == ["scene-0001", "scene-0002"]
    assert [row["image_id"] for row in got.rejects] == ["scene-0000"]


def test_all_bad_and_none_at_all(tiny: Backbone, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    got = extract(tiny, table([tmp_path / "a.png"]), str)
    assert got.features.shape == (0, 12) and [row["reason"] for row in got.rejects] == ["empty file"]
    assert extract(tiny, table([tmp_path / "a.png"]).slice(1), str).features.shape == (0, 12)


def test_rotation_column_is_applied(tiny: Backbone, tmp_path: Path) -> None:
    upright, turned = tmp_path / "upright.png", tmp_path / "turned.png"
    scene(1).save(upright)
    scene(1).rotate(90, expand=True).save(turned)  # counter-clockwise: 90 degrees clockwise put it right
    got = extract(tiny, table([upright, turned], [0, 90]), str).features
    assert np.array_equal(got[0], got[1])


def test_threads_are_put_back(tiny: Backbone, images: pa.Table) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    extract(tiny, images, str, threads=3, progress=lambda _: seen.append(torch.get_num_threads()))
    assert set(seen) == {1} and torch.get_num_threads() == before
    with pytest.raises(NdecError):
        extract(tiny, images, str, finish=_refuse)
    assert torch.get_num_threads() == before and not [t for t in threading.enumerate() if t.name.startswith("lane")]


def _refuse(features: np.ndarray) -> np.ndarray:
    raise NdecError("not these")


def test_a_descriptor_that_is_not_finite_names_its_image(tiny_file: Path, images: pa.Table) -> None:
    broken = load_backbone(f"{tiny_file}@64")
    broken.pool.p = float("nan")
    with pytest.raises(NdecError, match=r"NaN or infinity.*'scene-0000'"):
        extract(broken, images, str)


def test_settings(tiny: Backbone, images: pa.Table) -> None:
    with pytest.raises(UsageError, match="at least 1 and threads at least 0; got 0 and 0"):
        extract(tiny, images, str, batch_size=0)
    with pytest.raises(UsageError, match="bf16 = 'yes'"):
        extract(tiny, images, str, bf16="yes")
    assert use_bf16("on", torch.device("cpu")) and not use_bf16("off", torch.device("cpu"))
    assert use_bf16("auto", torch.device("cpu")) in (True, False)


@pytest.mark.parametrize(("limit", "allowed"), [("AVX2", False), ("avx512_core", False), ("AVX512_CORE_BF16", True)])
def test_auto_obeys_the_limit_of_instructions(limit: str, allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert use_bf16("auto", torch.device("cpu")) == allowed


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_and_cpu_agree(images: pa.Table) -> None:
    cpu, cuda = (extract(load_backbone("efficientnet-lite0", d), images, str).features for d in ("cpu", "cuda"))
    cosine = (cpu * cuda).sum(1) / np.linalg.norm(cpu, axis=1) / np.linalg.norm(cuda, axis=1)
    assert (cosine > 0.99).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_in_bf16_is_the_same_for_any_number_of_lanes(images: pa.Table) -> None:
    backbone = load_backbone("efficientnet-lite0", "cuda")
    one, many = (extract(backbone, images, str, batch_size=4, bf16="on", threads=n).features for n in (1, 4))
    assert np.array_equal(one, many)


@pytest.mark.parametrize("bf16", ["on", "off"])
def test_the_default_model_has_the_same_bits_for_any_number_of_lanes(images: pa.Table, bf16: str) -> None:
    backbone = load_backbone("efficientnet-lite0")
    one, two, five = (extract(backbone, images, str, batch_size=4, bf16=bf16, threads=n).features for n in (1, 2, 5))
    assert np.array_equal(one, two) and np.array_equal(one, five)


def test_finish_is_applied_to_every_batch_and_to_none(tiny: Backbone, images: pa.Table) -> None:
    whole = extract(tiny, images, str, batch_size=4)
    double = extract(tiny, images, str, batch_size=4, finish=lambda features: features[:, :5] * 2)
    assert np.array_equal(double.features, whole.features[:, :5] * 2) and double.ids == whole.ids
    assert extract(tiny, images.slice(11), str, finish=lambda features: features[:, :5]).features.shape == (0, 5)


def test_the_order_of_a_gpu_gives_the_same_descriptors(tiny: Backbone, images: pa.Table) -> None:
    """The path that overlaps copies with computing, run on the processor: one batch behind, none lost."""
    rows = images.to_pylist()
    work = DescribeBatch(Inference(tiny, "off"), 4, np.asarray)
    batches = [
        ImageBatch(rows[i : i + 4], [Path(row["uri"]).read_bytes() for row in rows[i : i + 4]]) for i in (0, 4, 8)
    ]
    got = list(one_behind(map(work.decode, batches), work))
    assert [row["image_id"] for batch in got for row in batch.rows] == images["image_id"].to_pylist()
    features = np.concatenate([batch.features for batch in got])
    assert np.array_equal(features, extract(tiny, images, str, batch_size=4, bf16="off").features)


def test_in_order_keeps_order_and_bounds() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(20):
            taken.append(i)
            yield i

    def work(i: int) -> int:
        time.sleep(0.01 * (i % 3 == 0))
        return i * i

    with ThreadPoolExecutor(4) as pool:
        results = in_order(pool, work, items(), 5)
        assert next(results) == 0 and len(taken) <= 6
        assert list(results) == [i * i for i in range(1, 20)]
    assert taken == list(range(20))


def test_pictures_that_keep_their_shape(tiny_file: Path, tmp_path: Path) -> None:
    """Groups of one shape inside a batch: each descriptor is that of the picture alone, in the order of the rows."""
    backbone = load_backbone(f"{tiny_file}@96")
    backbone.keep_shape = True
    sizes = [(120, 80), (80, 120), (100, 100), (120, 82), (80, 120), (300, 40), (120, 80)]
    paths = []
    for i, size in enumerate(sizes):
        paths.append(tmp_path / f"{i}.png")
        scene(i, size).save(paths[-1])
    (tmp_path / "2.png").write_bytes(b"no picture")
    got = extract(backbone, table(paths), str, batch_size=4, bf16="off", threads=2)
    assert got.ids == ["0", "1", "3", "4", "5", "6"] and [row["image_id"] for row in got.rejects] == ["2"]
    for i, feature in zip((0, 1, 3, 4, 5, 6), got.features, strict=True):
        pixels = to_pixels(scene(i, sizes[i]), longest_side(96)(*sizes[i]))
        with torch.inference_mode():
            alone = backbone(backbone.normalised(torch.from_numpy(pixels)[None].permute(0, 3, 1, 2))).numpy()[0]
        assert feature == pytest.approx(alone, rel=1e-4, abs=1e-5)
    again = extract(backbone, table(paths).slice(4), str, batch_size=4, bf16="off", threads=1)
    assert np.array_equal(again.features, got.features[3:])  # a batch's neighbours in other batches do not matter


def test_remote_images_are_read(tiny: Backbone, images: pa.Table) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    uris = []
    for row in images.to_pylist():
        store.pipe(f"/pictures/{row['image_id']}.png", Path(row["uri"]).read_bytes())
        uris.append(f"memory://pictures/{row['image_id']}.png")
    uris[3] = "memory://pictures/absent.png"
    got = extract(tiny, pa.table({"image_id": images["image_id"], "uri": uris}), str, batch_size=4)
    expected = extract(tiny, images, str, batch_size=4).features
    assert [row["image_id"] for row in got.rejects] == ["scene-0003"] and "cannot read" in got.rejects[0]["reason"]
    assert np.array_equal(got.features, np.delete(expected, 3, axis=0))
