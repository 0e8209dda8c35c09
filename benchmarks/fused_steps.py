"""What each step of the fused scorer adds, on the tuned half of the demo and on copies made in an image editor.

    python benchmarks/fused_steps.py WORKSPACE [--networks 10] [--quick]

WORKSPACE holds a demo (`ndec demo`, seed 0). Never looks at the untouched half. The editor copies are made here, one
effect each, of references whose group is in the tuned half: the effects of `ndec edit --recipe editor`, and what
ImageMagick's `convert` makes with the commands of `far_study.py`. Each fit is calibrated on the tuned half.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from far_study import EDITS, converted
from machine import machine, write_result
from PIL import Image
from scipy.optimize import minimize

from ndec_builder.core.executor.base import Engine
from ndec_builder.core.storage import sha256_file
from ndec_builder.core.workspace import Workspace
from ndec_builder.edits.operations import apply_edits
from ndec_builder.edits.recipes import EDIT_RECIPES
from ndec_builder.edits.samplers import SAMPLERS
from ndec_builder.evaluation.dataset import Dataset, from_manifest
from ndec_builder.evaluation.detectors.features import Features
from ndec_builder.evaluation.detectors.fused_rescoring import measure_pairs, own_sides, probabilities, with_scores
from ndec_builder.evaluation.detectors.local_shortlist import local_pairs, with_local_pairs
from ndec_builder.evaluation.detectors.scoring import score
from ndec_builder.evaluation.evaluate import group_predictions
from ndec_builder.evaluation.halves import half_of_group, restricted
from ndec_builder.evaluation.metrics.calibration import best_of_queries, calibration_estimate, equal_mass
from ndec_builder.evaluation.metrics.ranked import average_precision, precision_at_n, recall_at_precision
from ndec_builder.evaluation.predictions import Predictions
from ndec_builder.evaluation.settings import BenchmarkConfig
from ndec_builder.training.fused import run as fused_run
from ndec_builder.training.fused.edges import EDGES
from ndec_builder.training.fused.features import PAIR_FEATURES
from ndec_builder.training.fused.fit import PairTable, fit_networks
from ndec_builder.training.fused.layout import LAYOUT
from ndec_builder.training.fused.model import FusedModel, load_model
from ndec_builder.training.fused.settings import FusedConfig
from ndec_builder.training.view_cache import torch_threads

MODEL, PER_KIND, SIDE = "efficientnet-lite0", 8, 640
NO_EFFECT = ("crop", "flip", "resize", "jpeg")  # steps of the recipe `editor` that other recipes have too
CONVERT = ("edge", "posterise", "emboss", "charcoal", "paint", "solarise", "sepia", "swirl", "wave", "implode",
           "kaleidoscope")  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """Queries, their list, the pairs that are examined and their features. kinds: of the editor copies, else empty."""

    data: Dataset
    listed: Predictions
    references: Features
    chosen: np.ndarray
    rows: np.ndarray
    kinds: Sequence[str] = ()

    @property
    def is_copy(self) -> np.ndarray:
        return np.isin(self.listed.pairs(len(self.data.references))[self.chosen], self.data.truth)

    def probabilities(self, model: FusedModel, competition: bool = True) -> np.ndarray:
        return probabilities(
            self.data, self.listed, model, self.references, self.chosen, self.rows, competition=competition
        )


def editor_copies(data: Dataset, out: Path, per_kind: int = PER_KIND) -> tuple[Dataset, list[str]]:
    """Copies of references of the tuned half, one effect each, and their effects."""
    groups = [g or i for g, i in zip(data.references["group"].to_pylist(), data.reference_ids, strict=True)]
    usable = [row for row, group in enumerate(groups) if half_of_group(group) == "tuned"]
    if data.dropped is not None:
        usable = [row for row in usable if not data.dropped[row]]
    effects = [step for step in EDIT_RECIPES["editor"].steps if step[0] not in NO_EFFECT]
    kinds = [*(name for name, _, _ in effects), *(f"convert {name}" for name in CONVERT)]
    generator = np.random.default_rng(0)
    paths = [data.resolve(uri) for uri in data.references["uri"].to_pylist()]
    out.mkdir(parents=True, exist_ok=True)
    rows = np.resize(generator.permutation(usable), per_kind * len(kinds)).tolist()
    names: list[str] = []
    for place, row in enumerate(rows):
        kind, target = kinds[place % len(kinds)], out / f"e-{place:04d}.png"
        names.append(str(target))
        own, parameters = np.random.default_rng([1, place]), None
        other = Image.open(paths[rows[(place + 1) % len(rows)]]).convert("RGB")
        if target.is_file():
            continue
        picture = Image.open(paths[row]).convert("RGB")
        picture.thumbnail((SIDE, SIDE))
        if place % len(kinds) < len(effects):
            name, _, ranges = effects[place % len(kinds)]
            parameters = SAMPLERS[name](own, ranges, [other])
            apply_edits(picture, [{"operation": name, "parameters": parameters}], [other]).save(target)
        else:
            picture.save(out / "in.png")
            converted(out / "in.png", EDITS[kind.removeprefix("convert ")], Path("unused"), target)
    (out / "in.png").unlink(missing_ok=True)
    table = pa.table(
        {"image_id": [Path(name).stem for name in names], "uri": names, "sha256": [sha256_file(Path(n)) for n in names],
         "group": [groups[row] for row in rows]}
    )  # fmt: skip
    number = np.unique([groups[row] for row in rows], return_inverse=True)[1]
    copies = replace(
        data, name="editor copies", queries=table, kinds=["edited_copy"] * len(names),
        stratum=np.zeros(len(names), np.int64), query_group=number,
        truth=np.arange(len(rows)) * len(data.references) + np.array(rows), resolve=lambda uri: uri if
        Path(uri).is_absolute() else data.resolve(uri),
    )  # fmt: skip
    return copies, [kinds[place % len(kinds)] for place in range(len(rows))]


def measure(
    workspace: Path, data: Dataset, model: FusedModel, kinds: Sequence[str] = (), *, top: int = 10, local: bool = False
) -> Measured:
    config = BenchmarkConfig(
        workspace=workspace, manifest=workspace / "manifests" / "demo-1.0.0", model=MODEL, device="cpu"
    )
    space = Workspace(workspace)
    listed = score(config, space, data).predictions
    sides = own_sides(space, data, model, 8, "cpu")
    also = None
    if local:
        query, reference = local_pairs(space, data, config.rescored_local, Engine())
        listed, also = with_local_pairs(listed, query, reference, len(data.references))
    chosen, rows = measure_pairs(space, data, listed, model, sides, top, Engine(), also=also)
    return Measured(data, listed, sides[1], chosen, rows, kinds)


def calibrated(model: FusedModel, one: Measured, competition: bool = True) -> FusedModel:
    """The model with the slope and offset of the least log loss of these pairs, as in `ship_thresholds.py`."""
    is_copy = one.is_copy

    def changed(change: np.ndarray) -> FusedModel:
        return replace(model, slope=model.slope * np.exp(change[0]), offset=model.offset + change[1])

    def loss(change: np.ndarray) -> float:
        found = np.clip(one.probabilities(changed(change), competition), 1e-6, 1 - 1e-6)
        return float(-np.log(np.where(is_copy, found, 1 - found)).mean())

    return changed(minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 0.01, "fatol": 1e-6}).x)


def figures(model: FusedModel, test: Measured, editor: Measured, competition: bool = True) -> dict[str, float]:
    """The numbers of one row of the table."""
    found = test.probabilities(model, competition)
    ranked = group_predictions(test.data, with_scores(test.listed, test.chosen, found))
    plain = ranked.keep(ranked.stratum == 0)
    query, reference = (side[test.chosen] for side in (test.listed.query, test.listed.reference))
    own = group_predictions(test.data, replace(test.listed, query=query, reference=reference, scores=found))
    best = best_of_queries(query, own)
    groups = int(test.data.query_group.max()) + 1
    ece = calibration_estimate(best, equal_mass(best.score), groups)[0](np.ones((groups, 1)))["ece"]
    natural = np.unique(query[(test.data.stratum[query] == 1) & (found >= 0.5)])
    edited = editor.probabilities(model, competition)
    return {
        "μAP": average_precision(ranked.ranked),
        "without hard negatives": average_precision(plain.ranked),
        "P@N": precision_at_n(ranked.ranked).precision or 0.0,
        "R@P90": recall_at_precision(ranked.ranked) or 0.0,
        "ECE": float(ece[0]),
        "pairs a query": len(test.chosen) / len(test.data.queries),
        "examined": float(test.is_copy.sum() / len(test.data.truth)),
        "natural with P ≥ .5": len(natural),
        "editor copies examined": float(editor.is_copy.sum() / len(editor.data.truth)),
        "editor copies with P ≥ .5": float((editor.is_copy & (edited >= 0.5)).sum() / len(editor.data.truth)),
    }


def without(table: PairTable, columns: Sequence[str]) -> PairTable:
    rows = table.features.copy()
    rows[:, [PAIR_FEATURES.index(name) for name in columns]] = 0
    return replace(table, features=rows)


def masked(one: Measured, columns: Sequence[str]) -> Measured:
    rows = one.rows.copy()
    rows[:, [PAIR_FEATURES.index(name) for name in columns]] = 0
    return replace(one, rows=rows)


@dataclass(frozen=True)
class Step:
    """One row of the table; the pairs it is fitted on, the features that are 0, the pairs that are examined."""

    name: str
    editor: bool = True
    off: tuple[str, ...] = ()
    competition: bool = True
    calibrated: bool = True
    far: bool = False
    listed: str = "ten best"


STEPS = (
    Step("geometry, thumbnails, norm ratio; each pair on its own", False, (*EDGES, *LAYOUT), False, False),
    Step(
        "+ copies and hard negatives with effects of editors among the training pairs (2)",
        True,
        (*EDGES, *LAYOUT),
        False,
        False,
    ),
    Step("+ edges, inverted keypoints (2)", True, LAYOUT, False, False),
    Step("+ layouts (2)", True, (), False, False),
    Step("+ competition of the references (4)", calibrated=False),
    Step("+ calibrated on these pairs (5)"),
    Step("+ the twenty best of each query instead of ten (1)", listed="twenty best"),
    Step("the same and five more by local features (1)", listed="twenty best and local"),
    Step("the twenty best, far rivals among the training pairs", far=True, listed="twenty best"),
    Step("+ five more by local features (1; not the default)", far=True, listed="twenty best and local"),
)


def step_table(config: FusedConfig, quick: bool) -> list[str]:
    """The table, as markdown; each fit is made here, from pairs that are measured once."""
    known = fused_run.prepare_training(config)
    model = load_model(config.workspace / "runs" / (config.name or "fused"))
    table = fused_run.measured_pairs(config, known, model.heads)
    raw = fused_run.measured(config, known)[0]
    source, query = (raw[name].to_numpy() for name in ("source", "query"))
    near = table.take(np.arange(len(raw)))  # far rivals come last
    plain = ~(fused_run.of_editor_copies(near.kind, source, query, config.copies) | (near.kind == "hard_edited"))
    full = from_manifest(config.manifest)
    test, (edited, kinds) = restricted(full, "tuned"), editor_copies(full, config.workspace / "editor")

    def both(name: str, top: int) -> tuple[Measured, Measured]:
        local = name.endswith("local")
        return (
            measure(config.workspace, test, model, top=top, local=local),
            measure(config.workspace, edited, model, kinds, top=top, local=local),
        )

    lists = {
        name: both(name, top)
        for name, top in (("ten best", 10), ("twenty best", 20), ("twenty best and local", 20))
        if not (quick and name.endswith("local"))
    }
    cosine = group_predictions(test, lists["ten best"][0].listed)
    lines = [f"Cosine, with all hard negatives and without: μAP {average_precision(cosine.ranked):.3f} and "
             f"{average_precision(cosine.keep(cosine.stratum == 0).ranked):.3f}.", ""]  # fmt: skip
    fits: dict[tuple[bool, tuple[str, ...], bool], FusedModel] = {}
    for step in STEPS:
        if step.listed not in lists:
            continue
        key = (step.editor, step.off, step.far)
        if key not in fits:
            rows = table if step.far else near if step.editor else near.take(np.flatnonzero(plain))
            networks = fit_networks(without(rows, step.off), model.whitening, model.background, config)
            fits[key] = replace(networks, heads=model.heads)
        pairs, of_editor = (masked(one, step.off) for one in lists[step.listed])
        fit = fits[key]
        if step.calibrated:
            fit = calibrated(fit, lists["ten best" if step.listed == "ten best" else "twenty best"][0])
        values = figures(fit, pairs, of_editor, competition=step.competition)
        if step == STEPS[0]:
            lines += [f"| step | {' | '.join(values)} |", f"|---|{'---|' * len(values)}"]
        lines.append(f"| {step.name} | {' | '.join(_shown(value) for value in values.values())} |")
        print(lines[-1], flush=True)
    best = lists["twenty best"]
    return [*lines, "", *by_kind(calibrated(fits[True, (), True], best[0]), best[1])]


def by_kind(model: FusedModel, editor: Measured) -> list[str]:
    """Examined editor copies and those with P ≥ .5, of each effect."""
    pairs = editor.listed.pairs(len(editor.data.references))[editor.chosen]
    sure = np.isin(editor.data.truth, pairs[editor.probabilities(model) >= 0.5])
    found = np.isin(editor.data.truth, pairs)
    names = np.array(editor.kinds)
    cells = [
        f"{kind} {sure[names == kind].sum()} of {found[names == kind].sum()}" for kind in sorted(set(editor.kinds))
    ]
    return [f"With P ≥ .5, of the examined ones ({int(found.sum())} of {len(found)}), by effect: {', '.join(cells)}."]


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--networks", type=int, default=10)
    parser.add_argument("--name", default=None, help="folder under runs/ of a finished fit; default: fused")
    parser.add_argument("--editor-copies", type=int, default=FusedConfig.editor_copies)
    parser.add_argument("--quick", action="store_true", help="without the local shortlist; nothing written")
    given = parser.parse_args()
    manifest = given.workspace / "manifests" / "demo-1.0.0"
    config = FusedConfig(
        given.workspace, manifest, name=given.name, networks=given.networks, editor_copies=given.editor_copies
    )
    with torch_threads(1):
        lines = step_table(config, given.quick)
    if not given.quick:
        write_result("fused_steps", "\n".join(["# What each step adds to the fused scorer", "", machine(), "", *lines]))


if __name__ == "__main__":
    main()
