"""`ndec train-asl --recipe fused`: a manifest's training tables → runs/<name>/, the fused scorer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from ndec_builder.core.config import result_fields
from ndec_builder.core.console import say
from ndec_builder.core.engines import Engine
from ndec_builder.core.errors import NdecError
from ndec_builder.core.plans import Plan, check_files, open_plan
from ndec_builder.core.runs import RunRecord
from ndec_builder.core.shards import run_shards
from ndec_builder.core.storage import fingerprint, read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.backbones import best_device, load_backbone
from ndec_builder.embeddings.whitening import Whitening
from ndec_builder.manifests.read import open_manifest
from ndec_builder.training.cache import cache_views, torch_threads
from ndec_builder.training.data import TrainingSet, read_images, read_training_set
from ndec_builder.training.fused.features import FEATURES, background_rows
from ndec_builder.training.fused.fit import PairTable, fit
from ndec_builder.training.fused.measure import MeasureShard, unit
from ndec_builder.training.fused.model import load_model, save_model
from ndec_builder.training.fused.settings import FusedConfig
from ndec_builder.training.recipes import recipe_named
from ndec_builder.training.views import view_kinds, view_maker

RESULT_VERSION = 1
SHARD_ITEMS = 64


def run(config: FusedConfig) -> Path:
    """Fit the fused scorer; returns runs/<name>/ with fused.safetensors, fused.json and run.json.

    A finished run with the same settings and images is left as it is; a killed one goes on at the first shard of pairs
    that is missing. Raises NdecError for a manifest without hard negative pairs, or one whose training images are among
    its queries or references.
    """
    record = RunRecord("train-asl fused", config, RESULT_VERSION)
    directory = Workspace(config.workspace).run(config.name or "fused")
    manifest = open_manifest(config.manifest)
    images = read_images(manifest)
    data = read_training_set(manifest, recipe_named("asl"))
    if not len(data.pairs):
        raise NdecError(
            f"{manifest.directory} has no train_pairs; the fused scorer learns from hard negative pairs what synthetic "
            "ones do not show: mine, annotate and export the train split first (`ndec mine --split train`)"
        )
    backbone = load_backbone(config.backbone, best_device(config.device))
    uris = [manifest.resolve(uri) for uri in data.images["uri"].to_pylist()]
    maker = view_maker(images.to_pylist(), manifest.resolve, backbone.size, config.seed)
    root = config.workspace / "cache"
    cached = cache_views(root / "views", backbone, images, maker, view_kinds(1), config.bf16, 2)
    if cached.rejects:
        raise NdecError(f"{len(cached.rejects)} training images cannot be read, first {cached.rejects[0]}; mend them")
    originals = cached.of(data.images["image_id"].to_pylist()).features[:, 0].astype(np.float32)
    whitening = Whitening.fit(originals[: data.basic], config.dim, config.shrinkage)
    mark = fingerprint([RESULT_VERSION, result_fields(config), backbone.fingerprint, _identity(data)])
    if _finished(directory, mark):
        say(f"{directory} is fitted already with these settings on these images")
        return directory
    vectors = unit(whitening.apply(originals))
    table = _measure(config, data, uris, vectors, whitening, root / "fused", mark)
    say(f"fitting {config.networks} networks on {len(table.kind)} pairs, {config.folds} folds")
    with torch_threads(1):
        background = vectors[background_rows(data.basic)].astype(np.float16)
        model, figures = fit(table, whitening, background, config)
    facts = {
        "recipe": "fused",
        "fingerprint": mark,
        "config": result_fields(config),
        "backbone": {"name": backbone.name, "fingerprint": backbone.fingerprint, "weights": backbone.weights},
        "manifest": manifest.directory.name,
        "figures": figures,
        "train_groups": sorted(set(data.images["group"].to_pylist()) - {None, ""}),
        "train_sha256": sorted(set(data.images["sha256"].to_pylist())),
    }
    path = save_model(directory, model, facts)
    record.write(directory, counts=figures["pairs"], weights=backbone.weights, fingerprint=mark)
    say(f"fitted the fused scorer: {path}")
    return directory


def _measure(
    config: FusedConfig,
    data: TrainingSet,
    uris: list[str],
    vectors: np.ndarray,
    whitening: Whitening,
    output: Path,
    mark: str,
) -> PairTable:
    """Make and measure the training pairs, in shards that are kept."""
    plan = Plan(data.basic + len(data.pairs), SHARD_ITEMS, mark)
    folder = open_plan(output, plan).absolute()
    rotations = [rotation or 0 for rotation in data.images["rotation"].to_pylist()]
    work = MeasureShard(folder, config, data, uris, rotations, vectors, whitening)
    results = run_shards(folder, plan, work, Engine(workers=config.workers), what="measuring training pairs")
    for shard, done in zip(plan.shards, results, strict=True):
        check_files(folder, shard, done)
    table = pa.concat_tables([read_table(folder / f"{shard.name}.parquet") for shard in plan.shards])
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    features = np.stack([columns[name] for name in FEATURES], axis=1)
    text = {name: columns[name].astype(np.str_) for name in ("kind", "group")}
    return PairTable(features, columns["is_copy"].astype(bool), columns["weight"], text["kind"], text["group"])


def _identity(data: TrainingSet) -> list[object]:
    return [data.images["image_id"].to_pylist(), data.images["sha256"].to_pylist(), data.pairs.tolist()]


def _finished(directory: Path, mark: str) -> bool:
    try:
        return bool(load_model(directory).card["fingerprint"] == mark)
    except NdecError:
        return False
