"""Checkpoints: round trip, and a clear error for each way to spoil one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import sha256_file
from ndec_builder.embeddings.backbones import load_backbone
from ndec_builder.training.checkpoint import load_detector, save_checkpoint
from ndec_builder.training.model import Head, fit_head

pytestmark = pytest.mark.slow

FACTS: dict[str, Any] = {
    "recipe": "asl",
    "config": {},
    "fingerprint": "f",
    "counts": {},
    "train_groups": ["g1", "g2"],
    "train_sha256": ["s1"],
}


def head_of(dim: int) -> Head:
    generator = torch.Generator().manual_seed(0)
    return fit_head(torch.randn(40, dim, generator=generator).numpy(), 6, 0.1, seed=0)


@pytest.fixture
def saved(tmp_path: Path, tiny: str) -> Path:
    backbone = load_backbone(tiny)
    save_checkpoint(tmp_path / "run", backbone, head_of(24), whole_network=False, facts=FACTS)
    return tmp_path / "run"


@pytest.mark.parametrize("file", ["", "checkpoint.safetensors", "checkpoint.json"])
def test_round_trip(saved: Path, file: str) -> None:
    detector = load_detector(saved / file)
    features = torch.randn(5, 24, generator=torch.Generator().manual_seed(1))
    assert torch.equal(detector.head(features), head_of(24)(features))
    assert (detector.recipe, detector.train_groups, detector.train_sha256) == ("asl", {"g1", "g2"}, {"s1"})
    assert not any(p.requires_grad for p in detector.head.parameters()) and not detector.head.training


def test_trunk_weights_are_kept_when_they_were_trained(tmp_path: Path, tiny: str) -> None:
    backbone = load_backbone(tiny)
    with torch.no_grad():
        for parameter in backbone.trunk.parameters():
            parameter += 0.01
    save_checkpoint(tmp_path, backbone, head_of(24), whole_network=True, facts=FACTS)
    loaded = load_detector(tmp_path).backbone.trunk.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in backbone.trunk.state_dict().items())


def test_the_fingerprint_follows_the_weights(saved: Path, tmp_path: Path, tiny: str) -> None:
    other = head_of(24)
    with torch.no_grad():
        other.log_length.bias += 0.1
    save_checkpoint(tmp_path / "other", load_backbone(tiny), other, whole_network=False, facts=FACTS)
    shutil.copytree(saved, tmp_path / "copy")
    marks = [load_detector(path).fingerprint for path in (saved, tmp_path / "copy", tmp_path / "other")]
    assert marks[0] == marks[1] != marks[2]


def test_refuse_overlap(saved: Path) -> None:
    detector = load_detector(saved)
    detector.refuse_overlap({"s9"}, {"g9"}, "queries")
    for sha256, groups in (({"s1"}, set()), (set(), {"g2"})):
        with pytest.raises(NdecError, match=r"trained on .*queries"):
            detector.refuse_overlap(sha256, groups, "queries")


def spoil_json(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def spoil(run: Path) -> None:
        card = json.loads((run / "checkpoint.json").read_text())
        change(card)
        (run / "checkpoint.json").write_text(json.dumps(card))

    return spoil


def truncate(run: Path) -> None:
    path = run / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def drop_tensor(run: Path) -> None:
    path = run / "checkpoint.safetensors"
    tensors = load_file(path)
    tensors.pop("head.direction.bias")
    save_file(tensors, path)
    spoil_json(lambda card: card.update(weights_sha256=sha256_file(path)))(run)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "checkpoint.json").unlink(), r"checkpoint.json does not exist; give the folder"),
        (lambda run: (run / "checkpoint.safetensors").unlink(), r"checkpoint.safetensors does not exist"),
        (lambda run: (run / "checkpoint.json").write_text("{"), "is not JSON"),
        (lambda run: (run / "checkpoint.json").write_text("[]"), "has version None"),
        (spoil_json(lambda card: card.update(version=0)), "has version 0, this ndec reads version 1"),
        (truncate, "has sha256 .* but checkpoint.json says"),
        (drop_tensor, "do not fit"),
        (spoil_json(lambda card: card["head"].update(dim=7)), "do not fit"),
        (spoil_json(lambda card: card["backbone"].update(fingerprint="0" * 64)), "its preprocessing changed"),
    ],
)
def test_spoiled_checkpoints(saved: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(saved)
    with pytest.raises(NdecError, match=message):
        load_detector(saved)
