"""What a GPU does: its tests, embedding, exact search, training of the complete network; one table, at most 8 minutes.

    python benchmarks/gpu.py [--images DIR] [--manifest DIR] [--minutes 8]

Each step is a process of its own, so that a step that fails or takes too long costs only its row. A step that no time
is left for is a row that says so. Rates are those of the work alone, without loading a model. The share of the card's
peak is of its dense float16/bfloat16 tensor peak; a card that is not in PEAKS has none. Without images, embedding
decodes drawn pictures; without a manifest with training images, there is no training. **This script never ran on a
GPU.**

embed    `ndec embed` in bfloat16 with pinned memory: JPEG decoding in threads, batches of 64; and the trunk alone
search   2·10⁶ × 10⁶ × 512 vectors, the best 8 of each: FAISS on the GPU if faiss-gpu is installed, else torch
train    `ndec train-asl --whole-network`
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT)]

from machine import machine, write_result  # noqa: E402

MODEL = "efficientnet-lite0"
# Dense float16 or bfloat16 with tensor cores, TFLOP/s, as NVIDIA's data sheets state it; where they only state it with
# sparsity (2:4), half of that. NVIDIA's own pages could not be opened from where this was written (29 November 2026).
# Each value was read in a table that cites or links the data sheet:
# * github.com/astroC86/gpu-datasheet: A100 312, A10 125, A40 149.7; H100 SXM and H200 SXM 1,979 with sparsity
# * glennklockwood.com/garden/processors, pages A100 and h100: A100 312, H100 SXM and H200 989.4
# * github.com/winston-zhang-orz/gpu-specs: H100 PCIe 1,513 with sparsity, L40S 362, L4 121, V100 SXM2 125 and PCIe 112
# * github.com/kentjliu/acml-project1: T4 65 · mullet.se, product 355414: L40 181.05
# No source was found for NVL cards, A10G and GeForce: their share of the peak is left out.
PEAKS = {
    "H200": 989, "H100 PCIe": 756, "H100 80GB HBM3": 989, "A100": 312, "L40S": 362, "L40": 181, "L4": 121, "A40": 150,
    "A10": 125, "V100-SXM2": 125, "V100-PCIE": 112, "T4": 65,
}  # fmt: skip
STEPS = {"tests": 0.2, "embed": 0.2, "search": 0.35, "train": 0.25}  # share of the time at most


@dataclass(frozen=True)
class Row:
    """One line of the table. rate: with its unit · tflops: of the arithmetic; None if it is not counted."""

    what: str
    rate: str
    seconds: float
    tflops: float | None = None


def peak_of(card: str) -> float | None:
    """TFLOP/s of a card by the name that CUDA gives it; None for an unknown one."""
    if "NVL" in card:  # slower than the SXM card of the same name
        return None
    return next((float(peak) for name, peak in PEAKS.items() if re.search(rf"\b{name}\b", card)), None)


def table(rows: Sequence[Row], card: str) -> str:
    """The rows as Markdown, each with its share of the card's peak."""
    peak = peak_of(card)
    lines = ["| what | rate | seconds | TFLOP/s | share of the peak |", "|---|---|---|---|---|"]
    for row in rows:
        flops = "–" if row.tflops is None else f"{row.tflops:.1f}"
        share = "–" if row.tflops is None or peak is None else f"{row.tflops / peak:.0%}"
        lines.append(f"| {row.what} | {row.rate} | {row.seconds:.1f} | {flops} | {share} |")
    return "\n".join(lines)


def run_steps(run: Callable[[str, float], list[Row]], minutes: float, clock: Callable[[], float]) -> list[Row]:
    """All steps within the time: each gets its share, and what earlier ones left over. `run`: name, seconds → rows."""
    started, rows = clock(), list[Row]()
    waiting = dict(STEPS)
    for name in STEPS:
        left = 60 * minutes - (clock() - started)
        share = waiting.pop(name)
        seconds = left * share / (share + sum(waiting.values()))
        if seconds < 5:
            rows.append(Row(name, "not measured: no time left", 0.0))
            continue
        rows += run(name, seconds)
    return rows


def in_process(name: str, seconds: float, given: argparse.Namespace) -> list[Row]:
    """Run one step in a process; whatever happens to it becomes rows."""
    command = [sys.executable, __file__, "--step", name, "--seconds", f"{0.8 * seconds:.0f}"]
    command += [f"--{key}={value}" for key in ("images", "manifest") if (value := getattr(given, key)) is not None]
    began = time.monotonic()
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return [Row(name, f"stopped after {seconds:.0f} s", seconds)]
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"what"')]
    if done.returncode or not lines:
        last = next(iter(done.stdout.strip().splitlines()[-1:]), "no output")
        return [Row(name, f"failed (exit code {done.returncode}): {last[:160]}", time.monotonic() - began)]
    return [Row(**json.loads(line)) for line in lines]


def tests(seconds: float, given: argparse.Namespace, device: str) -> list[Row]:
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", str(ROOT / "tests")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, timeout=seconds)
    last = next(iter(done.stdout.strip().splitlines()[-1:]), "no output")
    return [Row("tests marked gpu", last, time.monotonic() - began)]


def embed(seconds: float, given: argparse.Namespace, device: str, model: str = MODEL, batch: int = 64) -> list[Row]:
    """Images per second of `extract` on files, then of the trunk on one batch in (pinned) memory."""
    import pyarrow as pa
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from ndec_builder.embeddings.backbones import load_backbone
    from ndec_builder.embeddings.extract import extract, lane_count
    from ndec_builder.embeddings.inference import Inference, to_host

    backbone = load_backbone(model, device)
    with tempfile.TemporaryDirectory() as folder:
        paths = pictures(given.images, Path(folder), 4 * batch)
        files = pa.table({"image_id": [f"{i}" for i in range(len(paths))], "uri": [str(path) for path in paths]})
        extract(backbone, files, str, batch_size=batch, bf16="auto")  # loads and warms up
        count, took = repeated(lambda: len(extract(backbone, files, str, batch_size=batch).ids), seconds / 2, device)
    rows = [Row(f"embed {model} from files, {lane_count(0)} threads decode", f"{count / took:,.0f} images/s", took)]
    inference = Inference(backbone, "auto")
    pixels = torch.zeros((batch, backbone.size, backbone.size, 3), dtype=torch.uint8)
    pixels = pixels.pin_memory() if device == "cuda" else pixels
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        backbone(torch.zeros((1, 3, backbone.size, backbone.size), device=backbone.device))
    count, took = repeated(lambda: len(to_host(inference(pixels))), seconds / 4, device)
    tflops = counter.get_total_flops() * count / took / 1e12
    precision = "bfloat16" if inference.half else "float32"
    return [
        *rows,
        Row(f"{model} alone, {precision}, batches of {batch}", f"{count / took:,.0f} images/s", took, tflops),
    ]


def search(
    seconds: float, given: argparse.Namespace, device: str, sizes: tuple[int, int, int] = (2_000_000, 1_000_000, 512)
) -> list[Row]:
    """The best 8 references of each query, in blocks, until the time is up; the rate and the time for all."""
    import numpy as np
    import torch

    from ndec_builder.candidates.search.first_pass import gpus

    queries, references, dim = sizes
    generator = torch.Generator(device).manual_seed(0)

    def unit(count: int) -> torch.Tensor:
        vectors = torch.randn((count, dim), device=device, dtype=torch.float32, generator=generator)
        return torch.nn.functional.normalize(vectors).half()

    block, depth = min(8192, queries), min(8, references)
    gallery = unit(references)
    if device == "cuda" and gpus():
        from ndec_builder.candidates.search.faiss_flat import GpuPass
        from ndec_builder.candidates.search.proposals import SearchRequest

        engine, kind = GpuPass(gallery.cpu().numpy()), "FAISS (as `ndec mine`)"
        none = np.full(references, -np.inf, np.float32), np.full(block, -np.inf, np.float32)
        some = unit(block).cpu().numpy()

        def work() -> int:
            engine.search(some, SearchRequest(*none, depth))
            return block
    else:
        kind, some = "torch", unit(block)

        def work() -> int:
            best_of(some, gallery, depth)
            return block

    work()  # warms up
    count, took = repeated(work, seconds / 2, device)
    flops = 2.0 * references * dim * count
    whole = queries / count * took
    what = f"exact search {queries:,} × {references:,} × {dim} with {kind}, the best {depth}"
    rate = f"{count / took:,.0f} queries/s; all in {whole:,.0f} s" + ("" if count >= queries else " (extrapolated)")
    return [Row(what, rate, took, flops / took / 1e12)]


def best_of(queries: Any, references: Any, depth: int, tile: int = 65_536) -> tuple[Any, Any]:
    """Scores and rows (n, depth) of the best references of each query, best first, by inner products."""
    import torch

    scores, rows = None, None
    for start in range(0, len(references), tile):
        products = queries @ references[start : start + tile].T
        found = products.topk(min(depth, products.shape[1]), dim=1)
        places = found.indices + start
        if scores is not None:
            values, both = torch.cat([scores, found.values], 1), torch.cat([rows, places], 1)
            top = values.topk(min(depth, values.shape[1]), dim=1)
            scores, rows = top.values, both.gather(1, top.indices)
        else:
            scores, rows = found.values, places
    return scores, rows


def train(
    seconds: float, given: argparse.Namespace, device: str, model: str = MODEL, identities: int = 32,
    steps: tuple[int, int] = (5, 25),
) -> list[Row]:  # fmt: skip
    """Steps per second of the complete network, in a run of `steps[1]` after one of `steps[0]`, which warms up."""
    if given.manifest is None:
        return [Row("train-asl --whole-network", "not measured: give --manifest DIR with training images", 0.0)]
    from ndec_builder.training.settings import TrainConfig
    from ndec_builder.training.train import run

    with tempfile.TemporaryDirectory() as folder:
        config = {
            "manifest": given.manifest,
            "backbone": model,
            "whole_network": True,
            "recipe": "asl-crop",
            "log_every": 1,
        }
        common = {"device": device, "identities": identities, "warmup": 1, "threads": 8}
        began = time.monotonic()
        run(TrainConfig(Path(folder) / "first", **config, **common, steps=steps[0]))  # makes the views
        first = time.monotonic() - began
        began = time.monotonic()
        run(TrainConfig(Path(folder) / "first", **config, **common, name="second", steps=steps[1]))
        took = time.monotonic() - began
    images = identities * TrainConfig.views_per_identity
    rate = f"{steps[1] / took:.2f} steps/s of {images} views, start included (first run {first:.0f} s)"
    return [Row("train-asl --whole-network", rate, took)]


def pictures(folder: Path | None, scratch: Path, most: int) -> list[Path]:
    """Up to `most` JPEGs of a folder, or drawn ones of 640 × 480."""
    if folder is not None:
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[:most]
        if not found:
            raise SystemExit(f"--images {folder} holds no .jpg or .jpeg file; give another folder, or omit it")
        return found
    import numpy as np
    from PIL import Image

    rng, paths = np.random.default_rng(0), []
    for number in range(most):
        small = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        paths.append(scratch / f"{number:04d}.jpg")
        small.resize((640, 480)).save(paths[-1], quality=85)
    return paths


def repeated(work: Callable[[], int], seconds: float, device: str) -> tuple[int, float]:
    """Call it until the time is up, at least once: the sum of what it returns, and the seconds that it took."""
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    wait()
    began, total = time.monotonic(), 0
    while True:
        total += work()
        wait()
        if (took := time.monotonic() - began) >= seconds:
            return total, took


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder with JPEGs")
    parser.add_argument("--manifest", type=Path, help="dataset with training images")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60.0, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if not 1 <= given.minutes <= 8:
        parser.error(f"--minutes is {given.minutes:g}; it must be between 1 and 8")
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    given = parse(arguments)
    import torch

    if not torch.cuda.is_available():
        raise SystemExit(
            f"gpu.py measures a GPU, but torch {torch.__version__} sees no CUDA device here. Nothing was measured. Run "
            "it on a machine with an NVIDIA GPU, where ndec was installed with `pip install '.[gpu]'`"
        )
    if given.step:
        for row in {"tests": tests, "embed": embed, "search": search, "train": train}[given.step](
            given.seconds, given, "cuda"
        ):
            print(json.dumps(vars(row)), flush=True)
        return
    card = torch.cuda.get_device_name(0)
    rows = run_steps(lambda name, seconds: in_process(name, seconds, given), given.minutes, time.monotonic)
    peak = peak_of(card)
    about = f"{card}, torch {torch.__version__}" + (f", peak {peak:.0f} TFLOP/s" if peak else ", peak unknown")
    with contextlib.suppress(ImportError):
        import faiss

        about += f", faiss {faiss.__version__}"
    write_result("gpu", "\n".join(["# On a GPU", "", machine(), "", about, "", table(rows, card)]))


if __name__ == "__main__":
    main()
