"""`ndec train-asl --recipe fused`: fit the fused scorer on the training tables of a manifest; writes runs/<name>/."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from ndec_builder.core.config import result_fields
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.base import engine_of
from ndec_builder.core.executor.plan import Plan, check_files, open_plan, plans_folder
from ndec_builder.core.executor.runner import on_engine, run_shards
from ndec_builder.core.locks import locked, one_writer
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.storage import fingerprint, read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.backbones import Backbone, best_device, load_backbone
from ndec_builder.embeddings.engines.precision import bf16_for, precision_of
from ndec_builder.embeddings.engines.trunk_source import TrunkSource
from ndec_builder.embeddings.whitening import Whitening
from ndec_builder.manifests.read import Manifest, open_manifest
from ndec_builder.training.checkpoint import PREVIOUS, set_checkpoint_aside
from ndec_builder.training.data import TrainingSet, read_images, read_training_set
from ndec_builder.training.fused.describe import PictureDescriber
from ndec_builder.training.fused.features import background_rows, features
from ndec_builder.training.fused.fit import PairTable, fit_fused
from ndec_builder.training.fused.measure import MEASURED_PAIRS, MeasureShard, unit_rows
from ndec_builder.training.fused.model import FUSED_CARD, FUSED_WEIGHTS, load_model, save_model
from ndec_builder.training.fused.norms import half_of, train_half_heads, training_ratios
from ndec_builder.training.fused.pair_signals import PAIR_SIGNALS
from ndec_builder.training.fused.settings import FusedConfig
from ndec_builder.training.model import Head
from ndec_builder.training.recipes import recipe_named
from ndec_builder.training.settings import TrainConfig
from ndec_builder.training.view_cache import CachedViews, cache_views, torch_threads
from ndec_builder.training.views import view_kinds, view_maker

RESULT_VERSION = 7
MEASURED_VERSION = 5  # of the measured pairs
SHARD_ITEMS = 64
# settings that do not change the measured pairs
FITTING = ("folds", "networks", "hidden", "epochs", "hard_weight", "views", "steps", "left_out")
NORM_RATIO = "log_query_over_reference"


@dataclass(frozen=True)
class FusedInputs:
    """Inputs of the fit.

    views: of data.images; view 0 is the original · vectors: (images, d) float32, whitened and L2-normed features of the
    originals.
    """

    manifest: Manifest
    data: TrainingSet
    backbone: Backbone
    whitening: Whitening
    views: CachedViews
    vectors: np.ndarray


@on_engine
@one_writer(lambda config: Workspace(config.workspace).run(config.name or "fused"))
def run(config: FusedConfig) -> Path:
    """Fit the fused scorer; returns runs/<name>/ with fused.safetensors, fused.json and run.json.

    A finished run with the same settings and images is kept; an interrupted one continues at the first missing shard of
    pairs. A fit of other settings or images moves to `previous/` before the new one starts. Raises NdecError for a
    manifest without hard negative pairs, or with training images among its queries or references.
    """
    record = RunRecord("train-asl fused", config, RESULT_VERSION)
    directory = Workspace(config.workspace).run(config.name or "fused")
    known = prepare_training(config)
    data, backbone = known.data, known.backbone
    made_from = [backbone.fingerprint, known.views.fingerprint, data.identity()]
    mark = fingerprint([RESULT_VERSION, result_fields(config), *made_from])
    if _finished(directory, mark):
        say(f"{directory} is already fitted with these settings on these images")
        return directory
    if set_checkpoint_aside(directory, FUSED_CARD, FUSED_WEIGHTS):
        say(f"{directory / PREVIOUS} now holds the fit that was here, made with other settings or images")
    heads: tuple[Head, ...] = ()
    if NORM_RATIO not in config.left_out:
        heads = train_half_heads(config, known.manifest, data, backbone, known.views, directory, mark)
    table = measured_pairs(config, known, heads)
    say(f"fitting {config.networks} networks on {number_of(len(table.kind), 'pair')}, {config.folds} folds")
    with torch_threads(1):
        background = known.vectors[background_rows(data.basic)].astype(np.float16)
        model, figures = fit_fused(table, known.whitening, background, config)
    model = replace(model, heads=heads)
    facts = {
        "recipe": "fused",
        "fingerprint": mark,
        "config": result_fields(config),
        "backbone": {"name": backbone.name, "fingerprint": backbone.fingerprint, "weights": backbone.weights},
        "manifest": known.manifest.directory.name,
        "figures": figures,
        "train_groups": sorted(set(data.images["group"].to_pylist()) - {None, ""}),
        "train_sha256": sorted(set(data.images["sha256"].to_pylist())),
    }
    path = save_model(directory, model, facts)
    record.write(directory, counts=figures["pairs"], weights=backbone.weights, fingerprint=mark)
    say(f"fitted the fused scorer: {path}")
    return directory


def measured_pairs(config: FusedConfig, known: FusedInputs, heads: Sequence[Head] = ()) -> PairTable:
    """The training pairs with their features, and `far_rivals`; pairs measured by an earlier run are reused.

    heads: of `train_half_heads`; without them the norm-ratio feature is 0.
    """
    ratios = None
    # a fit with other settings, under another name, has the same folder for its pairs: one of the two waits
    with locked(_measured_folder(config), wait=True):
        table, made = measured(config, known)
        pooled = np.concatenate([np.load(path) for path in made])
    table = pa.concat_tables([table, far_rivals(table, pooled, known, config.seed)])
    if heads:
        originals = known.views.features[:, 0]
        ratios = training_ratios(heads, half_of(known.data, config.seed), table, pooled, originals)
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    signals = np.stack([columns[name] for name in PAIR_SIGNALS], axis=1)
    rows = features(columns["score"], columns["background"], signals, ratios)
    kind, group = (columns[name].astype(np.str_) for name in ("kind", "group"))
    weight = np.where(np.isin(kind, ("hard", "hard_edited")), config.hard_weight, 1.0)
    by_editor = of_editor_copies(kind, columns["source"], columns["query"], config.copies)
    weight[by_editor] = 1.0 / max(1, config.editor_copies)
    return PairTable(rows, columns["is_copy"].astype(bool), weight, kind, group)


def of_editor_copies(kind: np.ndarray, source: np.ndarray, query: np.ndarray, copies: int) -> np.ndarray:
    """(n,) bool: pairs whose query is an editor copy, and their rivals. These copies come after the `copies` others.

    kind, source, query: of MEASURED_PAIRS. Together they weigh as much as one copy of their image, whatever their
    number: with full weight (2 each) the tuned half lost .004 of μAP and .05 of R@P90.
    """
    made = np.flatnonzero(kind == "copy")
    made = made[np.argsort(source[made], kind="stable")]
    first = np.searchsorted(source[made], source[made], side="left")
    later = query[made[np.arange(len(made)) - first >= copies]]
    result: np.ndarray = np.isin(kind, ("copy", "rival", "far_rival")) & np.isin(query, later)
    return result


def far_rivals(table: pa.Table, pooled: np.ndarray, known: FusedInputs, seed: int) -> pa.Table:
    """A pair (copy, any training image) for each rival without a homography, not a copy (MEASURED_PAIRS).

    Rivals are the images closest to a copy, so without these the networks never see unrelated pictures of a low cosine,
    which local features list: 270 of 1,993 such pairs of the demo's tuned half then had P ≥ .5. Cosine, background and
    norm ratio are those of the pair, the signals of its pixels those of the rival, a picture that is just as unrelated.

    pooled: of `measured`. Images of the copy's class or group are left out.
    """
    data = known.data
    rows = np.flatnonzero((np.array(table["kind"]) == "rival") & np.isnan(table["scale"].to_numpy()))
    part = table.take(pa.array(rows))
    image = np.random.default_rng([seed, 1]).integers(len(data.images), size=len(rows))
    source, query = part["source"].to_numpy(), part["query"].to_numpy()
    names = np.array([group or name for group, name in zip(data.images["group"].to_pylist(),
                      data.images["image_id"].to_pylist(), strict=True)])  # fmt: skip
    classes = np.asarray(data.classes)
    queries = unit_rows(known.whitening.apply(pooled[query].astype(np.float32)))
    score = np.einsum("ij,ij->i", queries, known.vectors[image]).astype(np.float64)
    for name, values in {"kind": ["far_rival"] * len(rows), "score": score, "image": image}.items():
        place = MEASURED_PAIRS.get_field_index(name)
        part = part.set_column(place, MEASURED_PAIRS.field(name), pa.array(values, MEASURED_PAIRS.field(name).type))
    return part.filter(pa.array((classes[image] != classes[source]) & (names[image] != names[source])))


def prepare_training(config: FusedConfig) -> FusedInputs:
    """Read the training tables and compute the descriptors of their images. Raises NdecError as `run` does."""
    manifest = open_manifest(config.manifest)
    images = read_images(manifest)
    data = read_training_set(manifest, recipe_named("asl"))
    if not len(data.pairs):
        raise NdecError(
            f"{manifest.directory} has no train_pairs; the fused scorer needs hard negative pairs, which "
            "synthetic ones cannot replace: mine, annotate and export the train split first (`ndec mine --split train`)"
        )
    backbone = load_backbone(config.backbone, best_device(config.device))
    maker = view_maker(images.to_pylist(), manifest.resolve, backbone.size, TrainConfig.view_seed)
    root, views = config.workspace / "cache" / "views", 1 if NORM_RATIO in config.left_out else config.views
    kinds, engine = view_kinds(views), engine_of(config)
    cached = cache_views(root, backbone, images, maker, kinds, config.bf16, TrainConfig.threads, engine)
    if cached.rejects:
        raise NdecError(
            f"{number_of(len(cached.rejects), 'training image')} cannot be read, first {cached.rejects[0]}; "
            "restore these files"
        )
    cached = cached.of(data.images["image_id"].to_pylist())
    originals = cached.features[:, 0].astype(np.float32)
    whitening = Whitening.fit(originals[: data.basic], config.dim, config.shrinkage)
    return FusedInputs(manifest, data, backbone, whitening, cached, unit_rows(whitening.apply(originals)))


def measured(config: FusedConfig, known: FusedInputs) -> tuple[pa.Table, list[Path]]:
    """Make and measure the training pairs in shards, which runs with other fit settings reuse.

    Returns MEASURED_PAIRS, and files (n, dim) float16 with trunk features of the pictures made; `query` and `cut` are
    rows of their concatenation.
    """
    data = known.data
    measuring = {name: value for name, value in result_fields(config).items() if name not in FITTING}
    precision = precision_of(config.bf16, known.backbone)  # that of the views, with which these are compared
    given = [MEASURED_VERSION, measuring, known.backbone.fingerprint, data.identity()]
    plan = Plan(data.basic + len(data.pairs), SHARD_ITEMS, fingerprint(given))
    uris = [known.manifest.resolve(uri) for uri in data.images["uri"].to_pylist()]
    rotations = [rotation or 0 for rotation in data.images["rotation"].to_pylist()]
    bf16 = bf16_for(precision, known.backbone, "cpu") if config.bf16 == "auto" else config.bf16
    trunk = TrunkSource.of(known.backbone, bf16, device="cpu")
    root = _measured_folder(config).absolute()
    output = root / plan.fingerprint[:16]  # pairs of each setting are kept
    if (before := plans_folder(root)).is_dir() and not output.exists():  # earlier versions kept one setting, here
        output.mkdir(parents=True)
        before.rename(plans_folder(output))
    earlier = plans_folder(output) / plan.name
    engine = engine_of(config)
    there = trunk if engine.name == "ray" else None
    work = MeasureShard(earlier, config, data, uris, rotations, known.vectors, known.whitening, there)
    if config.bf16 == "auto" and work.stored_precision(trunk) != precision:  # earlier versions did not name it
        plan = replace(plan, fingerprint=fingerprint([*given, precision]))
    folder = open_plan(output, plan)
    work = replace(work, folder=folder)
    on_cpu = known.backbone if known.backbone.device.type == "cpu" else trunk.open()
    with torch_threads(1):
        describe = PictureDescriber(on_cpu, bf16, max(TrainConfig.threads, engine.workers or os.cpu_count() or 1))
        results = run_shards(folder, plan, work, engine, what="measuring training pairs", answer=describe)
    for shard, done in zip(plan.shards, results, strict=True):
        check_files(folder, shard, done)
    made = [folder / f"{shard.name}.npy" for shard in plan.shards]
    tables, start = [], 0
    for shard, path in zip(plan.shards, made, strict=True):
        table = read_table(folder / f"{shard.name}.parquet")
        query, cut = (table[name].to_numpy() for name in ("query", "cut"))
        moved = {"query": query + start, "cut": np.where(cut < 0, -1, cut + start)}
        for name, rows in moved.items():
            table = table.set_column(table.column_names.index(name), name, pa.array(rows))
        tables.append(table)
        start += len(np.load(path, mmap_mode="r"))
    return pa.concat_tables(tables), made


def _measured_folder(config: FusedConfig) -> Path:
    return config.workspace / "cache" / "fused"


def _finished(directory: Path, mark: str) -> bool:
    try:
        return bool(load_model(directory).card["fingerprint"] == mark)
    except NdecError:
        return False
