"""`ndec train-asl`: train one detector on the training tables of a manifest; writes runs/<name>/."""

from __future__ import annotations

import concurrent.futures
import functools
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from ndec_builder.core.config import result_fields
from ndec_builder.core.console import Bars, counted_reasons, number_of, progress, say
from ndec_builder.core.errors import GapsError, NdecError
from ndec_builder.core.executor.base import engine_of
from ndec_builder.core.executor.runner import on_engine
from ndec_builder.core.locks import locked
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import REJECTS, table_of
from ndec_builder.core.storage import fingerprint, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.backbones import Backbone, best_device, load_backbone
from ndec_builder.embeddings.inference import use_bf16
from ndec_builder.manifests.read import Manifest, open_manifest
from ndec_builder.training.batches import CachedBatches, OnlineBatches
from ndec_builder.training.calibration import Threshold, choose_threshold, held_out, held_out_ratios
from ndec_builder.training.checkpoint import PREVIOUS, is_finished, save_checkpoint, set_checkpoint_aside
from ndec_builder.training.class_table import SampledCosFace
from ndec_builder.training.data import TrainingSet, read_images, read_training_set
from ndec_builder.training.distributed import Team, team
from ndec_builder.training.loop import train
from ndec_builder.training.losses import CosFaceLoss
from ndec_builder.training.model import Head, class_means, fit_head
from ndec_builder.training.network import WholeNetwork
from ndec_builder.training.recipes import TrainingRecipe, recipe_named
from ndec_builder.training.resume import STATE_FILE, steps_done
from ndec_builder.training.settings import TrainConfig
from ndec_builder.training.view_cache import CachedViews, cache_views, torch_threads
from ndec_builder.training.views import view_kinds, view_maker

RESULT_VERSION = 4


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that one head is trained from, and the folder of its states."""

    config: TrainConfig
    recipe: TrainingRecipe
    data: TrainingSet
    views: CachedViews  # in the order of data.images
    manifest: Manifest
    backbone: Backbone
    directory: Path
    mark: str  # fingerprint of the run
    team: Team


@on_engine
def run(config: TrainConfig) -> Path:
    """Train one detector; returns runs/<name>/ with checkpoint.safetensors and .json, metrics.jsonl and run.json.

    A finished run with the same settings, images and backbone is kept; an interrupted one continues from its last
    state. Raises UsageError for invalid settings, NdecError for a manifest that cannot be trained on or a loss that is
    not finite, GapsError when more than `max_reject_share` of the images cannot be read.
    """
    directory = Workspace(config.workspace).run(config.name or config.recipe)
    with team(best_device(config.device)) as members, locked(directory) if members.is_main else nullcontext():
        return _run(config, members)


def _run(config: TrainConfig, team: Team) -> Path:
    recipe = recipe_named(config.recipe)
    record = RunRecord("train-asl", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.run(config.name or config.recipe)
    manifest = open_manifest(config.manifest)
    images = read_images(manifest)
    data = read_training_set(manifest, recipe)
    _check_pairs(config, recipe, data, manifest)
    device = best_device(config.device)
    backbone = load_backbone(config.backbone, device=device)
    say(f"{config.recipe}: {number_of(data.basic, 'basic image')}, {number_of(len(data.pairs), 'hard negative pair')}")
    maker = view_maker(images.to_pylist(), manifest.resolve, backbone.size, config.view_seed)
    kinds = view_kinds(1 if config.whole_network else config.views)
    root = config.workspace / "cache" / "views"
    with team.main_first():
        cached = cache_views(root, backbone, images, maker, kinds, config.bf16, config.threads, engine_of(config))
    _check_rejects(cached, images.num_rows, config, directory, team)
    data = data.without({row["image_id"] for row in cached.rejects})
    cached = cached.of(data.images["image_id"].to_pylist())
    settings = {name: value for name, value in result_fields(config).items() if name != "backbone"}
    mark = fingerprint([
        RESULT_VERSION, settings, backbone.fingerprint, cached.fingerprint, data.identity(),
        *(["bfloat16"] if config.whole_network and config.bf16 == "auto" and _trains_in_bf16(config, backbone) else []),
    ])  # fmt: skip
    if is_finished(directory, mark):
        say(f"{directory} is already trained with these settings on these images")
        return directory
    if team.is_main and set_checkpoint_aside(directory):
        say(f"{directory} was trained with other settings or images; that checkpoint is now in {directory / PREVIOUS}")
    job = Job(config, recipe, data, cached, manifest, backbone, directory, mark, team)
    held = _images_held_out(job)
    *calibrating, head = train_heads([*([_without(job, held)] if held else []), job])
    threshold = _threshold(job, held, calibrating[0]) if calibrating else None
    if not team.is_main:
        return directory
    counts = {**data.facts(), "rejects": len(cached.rejects), "steps": config.steps}
    path = save_checkpoint(
        directory,
        backbone,
        head,
        whole_network=config.whole_network,
        facts={
            "recipe": config.recipe,
            "config": settings,
            "fingerprint": mark,
            "counts": counts,
            "threshold": None if threshold is None else asdict(threshold),
            "train_groups": sorted(set(data.images["group"].to_pylist()) - {None, ""}),
            "train_sha256": sorted(set(data.images["sha256"].to_pylist())),
        },
    )
    inputs = {"views": cached.fingerprint, "manifest": fingerprint(manifest.info)}
    record.write(directory, counts=counts, weights=backbone.weights, inputs=inputs, fingerprint=mark)
    say(f"trained {config.recipe}: {path}")
    return directory


def train_heads(jobs: Sequence[Job]) -> list[Head]:
    """Train a head for each job of one config and team; on a CPU side by side, since each head uses one thread.

    One after the other on a GPU, with several processes and for complete networks. An error stops the other heads.
    """
    config, device = jobs[0].config, best_device(jobs[0].config.device)
    alone = device != "cpu" or config.whole_network or jobs[0].team.size > 1
    count = 1 if alone else min(len(jobs), config.threads)
    stop = threading.Event()
    runs = [functools.partial(train_head, job, *start_head(job), stop) for job in jobs]
    # torch keeps how to multiply, and the number of threads that new threads get, for the complete process
    products = fast_products(device == "cpu" and use_bf16(config.bf16, torch.device(device)))
    with products, torch_threads(torch.get_num_threads()), progress() as bar:
        if count == 1:
            return [run(bar) for run in runs]
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            try:
                heads = [pool.submit(run, bar) for run in runs]
                concurrent.futures.wait(heads, return_when=concurrent.futures.FIRST_EXCEPTION)
                for done in (head for head in heads if head.done()):
                    done.result()
                return [head.result() for head in heads]
            except BaseException:
                stop.set()
                raise


def start_head(job: Job) -> tuple[Head, CosFaceLoss | SampledCosFace]:
    """Head and class proxies, initialised with the whitened features of the originals."""
    config, data = job.config, job.data
    originals = job.views.features[:, 0].astype(np.float32)
    head = fit_head(originals[: data.basic], config.dim, config.shrinkage, config.seed)
    cosface = _proxies(config, head.shape["dim"], data.class_count)
    with torch.no_grad():
        start = head(torch.from_numpy(originals))
        cosface.weight.copy_(class_means(start, torch.from_numpy(data.classes), data.class_count))
    return head, cosface


def train_head(job: Job, head: Head, cosface: CosFaceLoss | SampledCosFace, stop: threading.Event, bar: Bars) -> Head:
    """Train head and class proxies (and the trunk if requested) in place; returns the head."""
    config, data, backbone = job.config, job.data, job.backbone
    device = best_device(config.device)
    head, cosface = head.to(device), cosface.to(device)
    groups = [{"params": [*head.parameters(), *cosface.parameters()], "lr": config.lr}]
    sizes: dict[str, Any] = {
        "seed": config.seed,
        "identities": config.identities,
        "pairs": config.pairs,
        "per_image": config.views_per_identity,
        "dropout": config.norm_dropout,
        "team": job.team,
    }
    network: nn.Module = head
    batches: CachedBatches | OnlineBatches
    if config.whole_network:
        network = WholeNetwork(backbone, head, _trains_in_bf16(config, backbone))
        groups.append({"params": list(backbone.trunk.parameters()), "lr": config.trunk_lr})
        maker = view_maker(data.images.to_pylist(), job.manifest.resolve, backbone.size, config.seed)
        batches = OnlineBatches(data, maker, threads=config.threads, **sizes)
    else:
        batches = CachedBatches(data, job.views.features, job.views.content_share, job.views.adds_content, **sizes)
    # a step of the head alone is too small for a second thread
    threads = config.threads if config.whole_network else 1
    logs = job.directory / "tensorboard" / (f"rank-{job.team.rank}" if job.team.rank else "")
    # TensorBoard hides what a stopped training, or one with other settings, wrote from this step on
    first = steps_done(job.directory / STATE_FILE, job.mark)
    with torch_threads(threads), closing(batches), SummaryWriter(str(logs), purge_step=first) as writer:
        train(
            network, cosface, groups, batches, job.recipe, config, job.directory, job.mark, writer, job.team,
            data.images["image_id"].to_pylist(), bar, stop,
        )  # fmt: skip
    return head


@contextmanager
def fast_products(allowed: bool) -> Iterator[None]:
    """Multiply float32 matrices with oneDNN on a CPU, if `allowed`: twice as fast as MKL on an AMD processor.

    oneDNN may round the factors to bfloat16 (it does with AMX), so this is for processors and settings with bfloat16.
    """
    before = torch.get_float32_matmul_precision()
    if allowed:
        torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _trains_in_bf16(config: TrainConfig, backbone: Backbone) -> bool:
    """Whether the complete network is trained in bfloat16; auto: on a GPU."""
    return backbone.autocast and (
        config.bf16 == "on" or (config.bf16 == "auto" and best_device(config.device) == "cuda")
    )


def _images_held_out(job: Job) -> set[str]:
    """The images to choose the filter's threshold on; none when there is no threshold to choose."""
    config, recipe, data = job.config, job.recipe, job.data
    if not config.keep_copies or config.whole_network or not recipe.trains_norms:
        return set()
    held = held_out(data)
    rest = data.without(held)
    return set() if rest.basic < 2 or (recipe.needs_pairs and not len(rest.pairs)) else held


def _without(job: Job, held: set[str]) -> Job:
    """The job of the head that has not seen these images."""
    say(
        f"{job.config.recipe}: a second head is trained without {number_of(len(held), 'image')}, to choose the "
        "filter's threshold on them"
    )
    rest = job.data.without(held)
    views = job.views.of(rest.images["image_id"].to_pylist())
    return replace(job, data=rest, views=views, directory=job.directory / "held-out")


def _threshold(job: Job, held: set[str], head: Head) -> Threshold | None:
    """The filter's threshold, chosen on the images that `head` has not seen."""
    ratios = held_out_ratios(head, job.data, job.views, held, view_kinds(job.config.views))
    return choose_threshold(*ratios, job.config.keep_copies)


def _proxies(config: TrainConfig, dim: int, classes: int) -> CosFaceLoss | SampledCosFace:
    """CosFace over all classes, or over a sample of a table outside the optimizer."""
    if not config.class_sample or config.class_sample >= classes:
        return CosFaceLoss(dim, classes, config.scale, config.margin)
    return SampledCosFace(dim, classes, config.class_sample, config.seed, config.scale, config.margin)


def _check_pairs(config: TrainConfig, recipe: TrainingRecipe, data: TrainingSet, manifest: Manifest) -> None:
    if not recipe.uses_pairs or (len(data.pairs) and config.pairs):
        return
    why = "pairs = 0 draws no pairs" if len(data.pairs) else f"{manifest.directory} has no train_pairs"
    if recipe.needs_pairs:
        raise NdecError(
            f"the recipe {config.recipe} learns from hard negative pairs, but {why}; mine, annotate and export the "
            "train split first (`ndec mine --split train`), or use asl-crop or asl"
        )
    say(f"note: {why}; the recipe {config.recipe} learns norms from crops only")


def _check_rejects(cached: CachedViews, images: int, config: TrainConfig, directory: Path, team: Team) -> None:
    """Write rejects.parquet; raise GapsError if there are too many."""
    if team.is_main:
        write_table(directory / "rejects.parquet", table_of(REJECTS, cached.rejects))
    if not cached.rejects:
        return
    found = f"{len(cached.rejects)} of {images} training images cannot be read"
    say(f"{found}; they are listed in {directory / 'rejects.parquet'}")
    if len(cached.rejects) > config.max_reject_share * images:
        raise GapsError(
            f"{found}, more than max_reject_share = {config.max_reject_share:g} allows; "
            f"{counted_reasons(row['reason'] for row in cached.rejects)}. Nothing was trained: restore the files "
            f"(see {directory / 'rejects.parquet'}) or raise max_reject_share"
        )
