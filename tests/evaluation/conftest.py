"""A small benchmark on disk: a manifest made by hand in the documented layout, plain folders, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ndec_builder.core.schemas import MANIFEST_TABLES, SCHEMA_VERSION, pair_id, table_of
from ndec_builder.core.storage import sha256_file, write_json, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.benchmark import run
from ndec_builder.evaluation.settings import BenchmarkConfig
from support.one_backbone import one_backbone
from support.pictures import scene

REFERENCES, COPIES, DISTRACTORS, BASIC = 12, 8, 4, 10
NATURAL, REVERSE = (8, 9), (10, 11)  # references that have a hard negative query


@dataclass(frozen=True)
class Small:
    """The paths of the small benchmark."""

    workspace: Path
    manifest: Path
    queries: Path
    references: Path
    ground_truth: Path


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """8 copies of 12 references, 2 natural and 2 reverse-crop hard negatives, 4 distractors, 10 training images."""
    root = tmp_path_factory.mktemp("small")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in MANIFEST_TABLES}

    def put(image: Any, folder: str, name: str, group: str) -> dict[str, Any]:
        path = root / folder / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        image.save(path)
        return {"group": group, "uri": Workspace(root).uri_of(path), "sha256": sha256_file(path)}

    for i in range(REFERENCES):
        whole = scene(i)
        shown = whole.crop((30, 20, 160, 120)) if i in REVERSE else whole
        rows["references"].append({"image_id": f"r{i:02d}", **put(shown, "references", f"r{i:02d}", f"scene{i}")})
        query, kind, hard = f"q{i:02d}", "edited_copy", None
        image = whole.crop((8 + 2 * i, 6, 176, 132)).resize((192, 144))
        if i in NATURAL:
            kind, hard, image = "hard_negative", "natural", whole.rotate(4).crop((10, 10, 190, 140))
        if i in REVERSE:
            kind, hard, image = "hard_negative", "reverse_crop", whole
        stored = put(image, "queries", query, f"scene{i}")
        rows["queries"].append({"query_id": query, "kind": kind, "hard_kind": hard, **stored})
        reference = f"r{i:02d}" if kind == "edited_copy" else None
        rows["ground_truth"].append({"query_id": query, "reference_id": reference})
    for i in range(DISTRACTORS):
        stored = put(scene(100 + i), "queries", f"x{i}", "")
        rows["queries"].append({"query_id": f"x{i}", "kind": "distractor", **stored, "group": None})
        rows["ground_truth"].append({"query_id": f"x{i}", "reference_id": None})
    for i in range(BASIC):
        stored = put(scene(200 + i), "basic", f"t{i}", f"train{i}")
        rows["train_basic"].append({"image_id": f"t{i}", **stored})
    rows["train_pairs"].append(
        {"pair_id": pair_id("train", "t1", "t0"), "former_id": "t0", "latter_id": "t1", "score": 0.5, "basis": "agreed"}
    )
    manifest = root / "manifests" / "small-1"
    for name, (split, schema) in MANIFEST_TABLES.items():
        write_table(manifest / "data" / name / f"{split}-00000-of-00001.parquet", table_of(schema, rows[name]))
    info = {"schema_version": SCHEMA_VERSION, "name": "small", "version": "1", "images_root": "../.."}
    write_json(manifest / "manifest.json", info)
    truth = "".join(f"{row['query_id']},{row['reference_id'] or ''}\n" for row in rows["ground_truth"])
    (root / "truth.csv").write_text(truth)
    return Small(root, manifest, root / "queries", root / "references", root / "truth.csv")


@pytest.fixture(scope="session", autouse=True)
def one_model() -> Iterator[None]:
    with one_backbone():
        yield


@pytest.fixture(scope="session")
def make_checkpoint(small: Small):  # type: ignore[no-untyped-def]
    """make(name, groups, whole_network, recipe, threshold): an untrained head whose norms vary with the features."""
    import torch

    from ndec_builder.embeddings.backbones import load_backbone
    from ndec_builder.training.checkpoint import save_checkpoint
    from ndec_builder.training.model import fit_head

    backbone = load_backbone("efficientnet-lite0")
    features = np.abs(np.random.default_rng(0).normal(size=(40, backbone.dim))).astype(np.float32)
    head = fit_head(features, 16, 0.1, 0)
    with torch.no_grad():
        head.log_length.weight.fill_(0.05)

    def make(
        name: str, groups: tuple[str, ...] = ("train0",), whole_network: bool = False, recipe: str = "asl",
        threshold: float | None = None,
    ) -> Path:  # fmt: skip
        facts: dict[str, Any] = {"recipe": recipe, "train_groups": list(groups), "train_sha256": ["0" * 64]}
        if threshold is not None:
            facts["threshold"] = {"value": threshold}
        directory = small.workspace / "runs" / name
        return save_checkpoint(directory, backbone, head, whole_network=whole_network, facts=facts)

    return make


@pytest.fixture(scope="session")
def folders(small: Small) -> Callable[..., BenchmarkConfig]:
    """Settings of a benchmark of plain folders."""

    def make(**more: Any) -> BenchmarkConfig:
        return BenchmarkConfig(
            workspace=small.workspace, queries=small.queries, references=small.references,
            ground_truth=small.ground_truth, **{"replicates": 100, **more},
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def baseline(small: Small) -> Path:
    """A report of the default model on the manifest."""
    return run(
        BenchmarkConfig(workspace=small.workspace, manifest=small.manifest, model="efficientnet-lite0", replicates=100)
    )
