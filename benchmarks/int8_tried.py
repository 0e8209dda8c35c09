"""int8 for EfficientNet-Lite0 on a CPU, as tried: speed, cosine to float32, the demo's benchmark, top pairs of `mine`.

    python benchmarks/int8_tried.py DEMO [--base DIR]

DEMO: a workspace that `ndec demo` made. --base: a checkout of 59c392b, whose float32 trunk is timed too. Needs NNCF
(`pip install nncf`), which ndec does not install. Calibrates on 300 training images, chooses the blocks that stay in
float on 64 others, and takes cosines on 256 pool images. Descriptors are whitened as in `ndec embed`, with a whitening
fitted on the features of the same trunk. One thread, CPU time; all trunks take turns.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT)]

from machine import machine, write_result  # noqa: E402

from ndec_builder.candidates.search.exact import top_pairs  # noqa: E402
from ndec_builder.core.decode import decode  # noqa: E402
from ndec_builder.core.pictures.ingested import read_image  # noqa: E402
from ndec_builder.core.workspace import Workspace  # noqa: E402
from ndec_builder.embeddings.backbones import Backbone, load_backbone  # noqa: E402
from ndec_builder.embeddings.engines import openvino_trunk  # noqa: E402
from ndec_builder.embeddings.preprocess import to_pixels  # noqa: E402
from ndec_builder.embeddings.whitening import Whitening  # noqa: E402
from ndec_builder.evaluation.dataset import Dataset, from_manifest  # noqa: E402

MODEL, BATCH, SHAPE = "efficientnet-lite0", 2, (2, 224, 224, 3)
CALIBRATED, PICKED, COMPARED, ROUNDS = 300, 64, 256, 5
TOP = 450  # pairs of the demo's mine
Trunk = Callable[[np.ndarray], np.ndarray]  # pixels (BATCH, 224, 224, 3) uint8 → features (BATCH, 1280)
BASE = """
import sys, time
import numpy as np, torch
from ndec_builder.embeddings.backbones import load_backbone
from ndec_builder.embeddings.inference import Inference
torch.set_num_threads(1)
trunk = Inference(load_backbone("efficientnet-lite0", "cpu"), "off")
pixels = torch.zeros((8, 224, 224, 3), dtype=torch.uint8)
trunk(pixels)
began = time.process_time()
for _ in range(8):
    trunk(pixels)
print((time.process_time() - began) / 64)
"""


@dataclass
class Variant:
    """One trunk. seconds: CPU time per image in each round."""

    name: str
    trunk: Trunk
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Pictures:
    """Decoded once for all variants; (n, 224, 224, 3) uint8."""

    training: np.ndarray
    pool: np.ndarray
    references: np.ndarray  # those that `mine` searches
    queries: np.ndarray  # of the dataset
    gallery: np.ndarray  # references of the dataset


def pixels_of(table: pa.Table, resolve: Callable[[str], str], backbone: Backbone) -> np.ndarray:
    found = []
    for row in table.to_pylist():
        image = decode(read_image(resolve(row["uri"]), row["sha256"]), row.get("rotation") or 0, target=backbone.target)
        found.append(to_pixels(image, backbone.target(*image.size), backbone.interpolation))
    return np.stack(found)


def converted(backbone: Backbone) -> Any:
    import openvino

    model = openvino_trunk._converted(backbone, SHAPE)
    model.inputs[0].get_node().set_element_type(openvino.Type.u8)
    model.validate_nodes_and_infer_types()
    model.reshape(list(SHAPE))
    return model


def compiled(model: Any, precision: str = "f32") -> Trunk:
    import openvino

    settings = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda pixels: request.infer({0: pixels}, share_inputs=True)[0].copy()


def features_of(trunk: Trunk, pixels: np.ndarray) -> np.ndarray:
    """(n, 1280) float32; the last batch is padded."""
    padded = np.concatenate([pixels, pixels[-1:]]) if len(pixels) % BATCH else pixels
    return np.concatenate([trunk(padded[at : at + BATCH]) for at in range(0, len(padded), BATCH)])[: len(pixels)]


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)


def quantised(backbone: Backbone, pixels: np.ndarray, *, percentile: bool = False, full_range: bool = True,
              in_float: Sequence[str] = ()) -> Any:  # fmt: skip
    """NNCF's post-training quantisation, weights per channel.

    percentile: ranges of activations from the quantiles 1e-4 and 1 - 1e-4, not from the extremes · full_range: 8 bits
    of weights, right on processors with VNNI only; else 7, because AVX2's products overflow · in_float: names of nodes.
    """
    import nncf
    from nncf.quantization import advanced_parameters as advanced
    from nncf.quantization import range_estimator as ranges

    more = advanced.AdvancedQuantizationParameters()
    if full_range:
        more.overflow_fix = advanced.OverflowFix.DISABLE
    if percentile:
        ends = [
            ranges.StatisticsCollectorParameters(
                ranges.StatisticsType.QUANTILE, ranges.AggregatorType.MEAN, quantile_outlier_prob=1e-4
            )
            for _ in range(2)
        ]
        more.activations_range_estimator_params = ranges.RangeEstimatorParameters(*ends)
    batches = [pixels[at : at + BATCH] for at in range(0, len(pixels), BATCH)]
    return nncf.quantize(
        converted(backbone), nncf.Dataset(batches), subset_size=len(batches), advanced_parameters=more,
        preset=nncf.QuantizationPreset.PERFORMANCE,
        ignored_scope=nncf.IgnoredScope(names=list(in_float)) if in_float else None,
    )  # fmt: skip


def blocks_of(model: Any) -> dict[str, list[str]]:
    """Names of the convolutions by block of the network: stem, 0 to 15, head."""
    names = [op.get_friendly_name() for op in model.get_ordered_ops() if "Convolution" in op.get_type_name()]
    blocks: dict[str, list[str]] = {}
    for place, name in enumerate(names):
        block = re.search(r"_blocks\.(\d+)", name)
        blocks.setdefault(block[1] if block else ("head" if place else "stem"), []).append(name)
    return blocks


def most_sensitive(backbone: Backbone, pictures: Pictures, exact: Trunk) -> list[str]:
    """Blocks, best first, by the mean cosine of whitened descriptors if this block alone stays in float."""
    calibration, picked = pictures.training[:32], pictures.training[CALIBRATED : CALIBRATED + PICKED]
    whitening = Whitening.fit(features_of(exact, pictures.training), 256, 0.1)
    wanted = unit(whitening.apply(features_of(exact, picked)))
    gains = {}
    for block, names in blocks_of(converted(backbone)).items():
        trunk = compiled(quantised(backbone, calibration, in_float=names))
        gains[block] = float((unit(whitening.apply(features_of(trunk, picked))) * wanted).sum(axis=1).mean())
    print(gains, file=sys.stderr, flush=True)
    return sorted(gains, key=lambda block: -gains[block])


def ranked_values(scores: np.ndarray, dataset: Dataset) -> tuple[float, float]:
    """μAP and P@N of all pairs (queries, references); negatives come first among equal scores."""
    true = np.zeros(scores.size, bool)
    true[dataset.truth] = True
    flat = scores.ravel()
    keep = np.isfinite(flat)
    order = np.lexsort((true[keep], -flat[keep]))
    hits = true[keep][order]
    places = np.flatnonzero(hits)
    precision = np.arange(1, len(places) + 1) / (places + 1)
    return float(precision.sum() / len(dataset.truth)), float(hits[: len(dataset.truth)].mean())


def values_of(trunk: Trunk, pictures: Pictures, dataset: Dataset) -> dict[str, Any]:
    whitening = Whitening.fit(features_of(trunk, pictures.training), 256, 0.1)

    def described(pixels: np.ndarray) -> np.ndarray:
        return unit(whitening.apply(features_of(trunk, pixels))).astype(np.float16)

    queries, gallery = described(pictures.queries), described(pictures.gallery)
    scores = queries.astype(np.float64) @ gallery.astype(np.float64).T
    found: dict[str, Any] = {"in": ranked_values(scores, dataset)}
    scores[dataset.stratum > 0] = -np.inf  # hard negatives
    found["out"] = ranked_values(scores, dataset)
    pool, references = described(pictures.pool), described(pictures.references)
    pairs = top_pairs(range(len(pool)), pool, range(len(references)), references, top=TOP, max_per_query=1,
                      max_per_reference=10)  # fmt: skip
    found["pairs"] = set(zip(pairs.queries.tolist(), pairs.references.tolist(), strict=True))
    return found


def timed(variants: list[Variant], pixels: np.ndarray, base: Path | None) -> list[float]:
    """Time all variants in turn; CPU seconds per image of the trunk of `base`, one a round."""
    old = []
    for _ in range(ROUNDS):
        for variant in variants:
            variant.trunk(pixels[:BATCH])
            began = time.process_time()
            features_of(variant.trunk, pixels[:64])
            variant.seconds.append((time.process_time() - began) / 64)
        if base is not None:
            command = [sys.executable, "-c", BASE]
            done = subprocess.run(command, cwd=base, env={"PYTHONPATH": str(base)}, stdout=subprocess.PIPE, text=True)
            old.append(float(done.stdout.split()[-1]))
    return old


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--base", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    workspace, dataset = Workspace(given.demo), from_manifest(given.demo / "manifests" / "demo-1.0.0")
    backbone = load_backbone(MODEL, "cpu")
    tables = [(workspace.read_images(role), workspace.resolve) for role in ("basic", "pool", "reference")]
    tables += [(dataset.queries, dataset.resolve), (dataset.references, dataset.resolve)]
    sides = [pixels_of(*table, backbone) for table in tables]
    sides[0] = sides[0][np.random.default_rng(0).permutation(len(sides[0]))]  # the table is sorted by name
    pictures = Pictures(*sides)
    calibration = pictures.training[:CALIBRATED]

    exact = compiled(converted(backbone))
    blocks, order = blocks_of(converted(backbone)), most_sensitive(backbone, pictures, exact)
    variants = [
        Variant("float32, ndec's engine", exact),
        Variant("bfloat16, ndec's engine", compiled(converted(backbone), "bf16")),
        Variant("int8, 7 bits of weights (AVX2)", compiled(quantised(backbone, calibration, full_range=False))),
        Variant("int8, percentile", compiled(quantised(backbone, calibration, percentile=True))),
        Variant("int8, extremes", compiled(quantised(backbone, calibration))),
        Variant("int8, extremes, other 300 images", compiled(quantised(backbone, pictures.training[-CALIBRATED:]))),
    ]
    for count in (2, 4, 8):
        names = [name for block in order[:count] for name in blocks[block]]
        variants.append(
            Variant(f"the same, blocks {', '.join(order[:count])} in float32",
                    compiled(quantised(backbone, calibration, in_float=names)))
        )  # fmt: skip
    old = timed(variants, pictures.pool, given.base)
    milliseconds = [1000 * statistics.median(variant.seconds) for variant in variants]
    rows, wanted = [], values_of(exact, pictures, dataset)
    reference = unit(features_of(exact, pictures.pool[:COMPARED]))
    for variant, took in zip(variants, milliseconds, strict=True):
        cosines = (unit(features_of(variant.trunk, pictures.pool[:COMPARED])) * reference).sum(axis=1)
        found = values_of(variant.trunk, pictures, dataset)
        numbers = [f"{found[part][which]:.4f} ({found[part][which] - wanted[part][which]:+.4f})"
                   for which in (0, 1) for part in ("in", "out")]  # fmt: skip
        speed = f"{1000 * statistics.median(old) / took:.1f}" if old else "–"
        kept = len(found["pairs"] & wanted["pairs"]) / len(wanted["pairs"])
        rows.append(f"| {variant.name} | {took:.2f} | {milliseconds[0] / took:.2f} | {speed} | {cosines.mean():.4f} | "
                    f"{cosines.min():.3f} | {' | '.join(numbers)} | {kept:.1%} |")  # fmt: skip
        print(rows[-1], file=sys.stderr, flush=True)
    sizes = (
        f"{len(dataset.queries)} queries × {len(dataset.references)} references, {len(dataset.truth)} true pairs; "
        f"{len(pictures.pool)} pool images × {len(pictures.references)} references, top {TOP}."
    )
    if old:
        sizes += f" The float32 trunk of 59c392b (torch): {1000 * statistics.median(old):.1f} ms an image."
    head = (
        "| trunk | CPU ms an image | times float32 | times 59c392b's float32 | mean cosine | lowest | μAP | μAP "
        "without hard negatives | P@N | P@N without them | top pairs kept |"
    )
    lines = ["# int8, as tried", "", machine(), "", sizes, "", head, "|---" * 11 + "|", *rows]
    write_result("int8_tried", "\n".join(lines))


if __name__ == "__main__":
    main()
