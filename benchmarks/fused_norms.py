"""Does ASL's norm ratio add anything to the fused scorer? Cross-fitted, on the tuning half, over seeds.

    python benchmarks/fused_norms.py OUT [--seeds 2] [--recipe asl]

OUT is that of `fused_study.py`: its manifests and measured pairs are used. For each seed two ASL heads are trained,
each on one half of the training groups (frozen trunk, cached views). A training pair gets the ratio of the head that
did not see its query's group, an evaluated pair the geometric mean of both. The same networks are then fitted with the
feature `log_query_over_reference` and with it at 0. Only queries of the half `tuned` are looked at.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from fused_study import Judged, judge, prepare, without
from machine import machine, write_result

from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.features import pooled_features
from ndec_builder.evaluation.fused import with_scores
from ndec_builder.evaluation.judging import grouped
from ndec_builder.evaluation.metrics import average_precision
from ndec_builder.training.batches import CachedBatches
from ndec_builder.training.cache import CachedViews, cache_views, torch_threads
from ndec_builder.training.data import TrainingSet, read_images
from ndec_builder.training.fused.features import FEATURES
from ndec_builder.training.fused.fit import auc_against, fit_networks, fold_of
from ndec_builder.training.fused.model import FusedModel, load_model
from ndec_builder.training.fused.run import Prepared, measured, measured_pairs, prepare_training, run
from ndec_builder.training.fused.settings import FusedConfig
from ndec_builder.training.loop import train
from ndec_builder.training.losses import CosFaceLoss
from ndec_builder.training.model import Head, class_means, fit_head
from ndec_builder.training.recipes import recipe_named
from ndec_builder.training.settings import TrainConfig
from ndec_builder.training.views import view_kinds, view_maker

VIEWS = 5
COLUMN = FEATURES.index("log_query_over_reference")
KEPT = {"all": (0, 1, 2, 3), "natural": (0, 1), "reverse crops": (0, 2), "none": (0,)}


class Silent:
    """Takes the place of a TensorBoard writer."""

    def add_scalar(self, *_: object) -> None: ...


def trained_head(config: TrainConfig, data: TrainingSet, views: CachedViews, directory: Path) -> Head:
    """The head of `ndec train-asl` on these images alone, in float64."""
    originals = views.features[:, 0].astype(np.float32)
    head = fit_head(originals[: data.basic], config.dim, config.shrinkage, config.seed)
    cosface = CosFaceLoss(head.shape["dim"], data.class_count, config.scale, config.margin)
    with torch.no_grad():
        start = head(torch.from_numpy(originals))
        cosface.weight.copy_(class_means(start, torch.from_numpy(data.classes), data.class_count))
    groups = [{"params": [*head.parameters(), *cosface.parameters()], "lr": config.lr}]
    batches = CachedBatches(
        data, views.features, views.content_share, views.adds_content, seed=config.seed,
        identities=config.identities, pairs=config.pairs, per_image=config.views_per_identity,
        dropout=config.norm_dropout,
    )  # fmt: skip
    directory.mkdir(parents=True, exist_ok=True)
    with torch_threads(1):
        train(head, cosface, groups, batches, recipe_named(config.recipe), config, directory, "norms", Silent())
    return head.double()


def log_norms(head: Head, features: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        output = head(torch.from_numpy(features.astype(np.float64))).numpy()
    result: np.ndarray = np.log(np.linalg.norm(output, axis=1))
    return result


@dataclass(frozen=True)
class Ratios:
    training: np.ndarray  # log ratio of every training pair, by the head that its query's group was kept from
    judged: np.ndarray  # of every judged pair, mean over both heads


def cross_fitted(config: FusedConfig, known: Prepared, one: Judged, recipe: str, out: Path) -> Ratios:
    images = read_images(known.manifest)
    maker = view_maker(images.to_pylist(), known.manifest.resolve, known.backbone.size, 0)
    cached = cache_views(
        config.workspace / "cache" / "views", known.backbone, images, maker, view_kinds(VIEWS), config.bf16, 2
    )
    ids, groups = known.data.images["image_id"].to_pylist(), known.data.images["group"].to_pylist()
    names = np.array([group or image_id for group, image_id in zip(groups, ids, strict=True)])
    fold = fold_of(names, 2, config.seed)
    originals = cached.of(ids).features[:, 0].astype(np.float32)
    pairs, files = measured(config, known)
    pooled = np.concatenate([np.load(path) for path in files])
    column = {name: pairs[name].to_numpy() for name in ("source", "image", "query", "cut")}
    space, data = Workspace(config.workspace), one.data
    sides = [pooled_features(space, known.backbone, known.backbone.fingerprint, table, data.resolve, 8)[0]
             for table in (data.queries, data.references)]  # fmt: skip
    query, reference = one.base.query[one.chosen], one.base.reference[one.chosen]
    training, judged = np.zeros(len(pairs)), np.zeros(len(query))
    for number in (0, 1):
        part = known.data.without({image_id for image_id, f in zip(ids, fold, strict=True) if f == number})
        settings = TrainConfig(config.workspace, config.manifest, recipe=recipe, views=VIEWS, seed=config.seed)
        directory = out / f"norms-{config.seed}-{recipe}-{number}"
        head = trained_head(settings, part, cached.of(part.images["image_id"].to_pylist()), directory)
        made, stored = log_norms(head, pooled), log_norms(head, originals)
        of_reference = np.where(column["cut"] >= 0, made[column["cut"]], stored[column["image"]])
        unseen = fold[column["source"]] == number
        training[unseen] = (made[column["query"]] - of_reference)[unseen]
        norms = [log_norms(head, side) for side in sides]
        judged += (norms[0][query] - norms[1][reference]) / 2
    return Ratios(training, judged)


def uaps(one: Judged, rows: np.ndarray, model: FusedModel) -> list[float]:
    ranked = grouped(one.data, with_scores(one.base, one.chosen, model.probability(rows)))
    return [average_precision(ranked.keep(np.isin(ranked.stratum, kept)).ranked) for kept in KEPT.values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--recipe", default="asl")
    parser.add_argument("--quick", action="store_true", help="one seed, nothing written")
    given = parser.parse_args()
    lines = ["# What ASL's norm ratio adds to the fused scorer", "", machine(), "",
             f"Recipe `{given.recipe}`, cross-fitted by group; queries of the groups `tuned`; all pairs, raw.", "",
             f"| seed | what | {' | '.join(f'μAP, hard negatives: {name}' for name in KEPT)} |",
             "|---|---|" + "---|" * len(KEPT)]  # fmt: skip
    aucs: list[str] = []
    for seed in range(1 if given.quick else given.seeds):
        manifest, config = prepare(given.out, seed, "full", 8700)
        model, known = load_model(run(config)), prepare_training(config)
        one = judge(config.workspace, manifest, model, "tuned", ("all pairs",))["all pairs"]
        ratios = cross_fitted(config, known, one, given.recipe, given.out)
        table = measured_pairs(config, known)
        rows = one.rows.copy()
        rows[:, COLUMN] = ratios.judged
        full = replace(table, features=table.features.copy())
        full.features[:, COLUMN] = ratios.training
        for what, pairs, judged in (
            ("geometry and descriptor", without(table, ["log_query_over_reference"]), one.rows),
            ("and the norm ratio", full, rows),
        ):
            fitted = fit_networks(pairs, model.whitening, model.background, config)
            values = " | ".join(f"{value:.4f}" for value in uaps(one, judged, fitted))
            lines.append(f"| {seed} | {what} | {values} |")
        kinds = sorted(set(table.kind[~table.is_copy]))
        shown = ", ".join(f"{kind} {auc_against(-ratios.training, table, kind):.3f}" for kind in kinds)
        aucs.append(f"Seed {seed}: AUC of the ratio alone, copies of training images against {shown}.")
    text = "\n".join([*lines, "", *aucs])
    if given.quick:
        print(text)
    else:
        write_result("fused_norms", text)


if __name__ == "__main__":
    main()
