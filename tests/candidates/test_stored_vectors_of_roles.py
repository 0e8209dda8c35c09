"""Vectors that mining finds: descriptors imported for other images, and other settings than those of ndec.toml."""

from __future__ import annotations

import pytest

from ndec_builder.api import configure
from ndec_builder.candidates.mine import run as mine
from ndec_builder.candidates.role_vectors import load_role_vectors, report_other_settings
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import read_json, write_json
from support.pictures import scene


@pytest.mark.parametrize(
    ("inputs", "why"), [({"t.h5": "s"}, "before the images were"), ({"images": "old"}, "the images changed since")]
)
def test_descriptors_of_other_images_must_be_imported_again(bench, inputs, why):
    bench.add("pool", {"p1": scene(1)})
    bench.embed("pool", ["p1"], [[1.0, 0.0]], model="team")
    path = bench.workspace.embeddings("pool", "team") / "run.json"
    write_json(path, read_json(path) | {"layer": "imported", "config": {"source": "t.h5"}, "inputs": inputs})
    with pytest.raises(NdecError, match=f"{why}.*`ndec ingest pool t.h5 --kind descriptors --model team`"):
        load_role_vectors(bench.workspace, "pool", "team")


@pytest.fixture
def embedded(bench):
    for role, made in (("pool", {"whiten": True, "dim": 0}), ("reference", {"whiten": False})):
        bench.add(role, {role[0]: scene(len(role))})
        path = bench.workspace.embeddings(role, "efficientnet-lite0") / "run.json"
        write_json(path, read_json(path) | {"config": made})
    return bench.workspace


def test_settings_that_stored_vectors_do_not_follow_are_named(embedded, capsys):
    embedded.settings.write_text('[embed]\nwhiten = false\ndim = 64\nworkers = 3\nbf16 = "off"\n')
    report_other_settings(embedded, "test", "efficientnet-lite0")
    said = " ".join(capsys.readouterr().err.split())
    assert "says whiten = False, dim = 64, but the pool vectors were made with whiten = True, dim = 0;" in said
    assert "`ndec embed pool --model efficientnet-lite0` makes them again" in said
    assert "reference vectors" not in said  # what they recorded is as asked; the rest is unknown


def test_another_model_under_embed_is_said_before_the_search(bench, capsys):
    """`ndec embed` takes it from [embed], `ndec mine` from [mine]: pairs of the wrong model would go to people."""
    bench.workspace.root.mkdir()
    bench.workspace.settings.write_text('[embed]\nmodel = "timm:resnet50"\n[mine]\ntop = 3\n')
    with pytest.raises(NdecError, match="no pool images"):
        mine(configure(MineConfig, bench.workspace.root))
    assert "says model = timm:resnet50, and this searches with efficientnet-lite0" in " ".join(
        capsys.readouterr().err.split()
    )
    with pytest.raises(NdecError, match="no pool images"):
        mine(configure(MineConfig, bench.workspace.root, model="timm:resnet50"))
    assert "this searches" not in capsys.readouterr().err


def test_nothing_is_said_of_equal_settings(embedded, tmp_path, capsys):
    (tmp_path / "other.toml").write_text("[embed]\ndim = 0\n")
    report_other_settings(embedded, "test", "efficientnet-lite0", tmp_path / "other.toml")
    report_other_settings(embedded, "test", "efficientnet-lite0")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("split", "error", "said"),
    [
        ("test", NdecError, "needs basic images to normalise against; run `ndec ingest basic FOLDER`"),
        ("train", UsageError, "split train has no background images"),
    ],
)
def test_normalised_ranks_need_a_background(bench, split, error, said):
    for role in ("pool", "reference" if split == "test" else "basic"):
        bench.add(role, {role[0]: scene(len(role))})
    with pytest.raises(error, match=said):
        mine(MineConfig(bench.workspace.root, split, rank_by="normalized", geometry=False))
