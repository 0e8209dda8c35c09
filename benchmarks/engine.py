"""CPU time of embedding and of training views: today's engine, an older checkout, OpenVINO and ONNX Runtime alone.

    python benchmarks/engine.py --images DIR [--today CHECKOUT] [--manifest DIR] [--count N] [--rounds N]

Each contestant is a process of its own; the rounds are interleaved. All times are CPU time of the process (user and
system), decoding included, without loading and converting the model; medians over the rounds. Peers decode with ndec's
reader and call their engine in a plain loop, batches of 8, one thread. "OpenVINO, small batches" gets as many pictures
a call as ndec gives it. The rows "avx2 by switch" limit the processor
with ONEDNN_MAX_CPU_ISA=AVX2 (torch, OpenVINO) and ATEN_CPU_CAPABILITY=avx2 (torch); ONNX Runtime has no such switch.

--today     a checkout to compare with; its contestants are left out without it
--manifest  a dataset with training images: adds the views of its first 128 images (of `ndec train-asl`)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import machine, write_result

MODEL, BATCH = "efficientnet-lite0", 8
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
HERE = Path(__file__).resolve().parents[1]


def measure(what: str, precision: str, images: str, manifest: str, count: int) -> None:
    """A contestant: prints one measurement as JSON for each line on stdin; the first call warms up."""
    import resource

    import torch

    torch.set_num_threads(1)
    work, done = CONTESTANTS[what](precision, images, manifest, count)
    if what != "views":
        work()
    for _ in sys.stdin:
        before = resource.getrusage(resource.RUSAGE_SELF)
        work()
        after = resource.getrusage(resource.RUSAGE_SELF)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(json.dumps({"ms": seconds / done * 1000}), flush=True)


def embed(precision: str, images: str, manifest: str, count: int) -> tuple[Any, int]:
    """Descriptors by `extract` of the checkout on sys.path."""
    import pyarrow as pa

    from ndec_builder.embeddings.backbones import load_backbone
    from ndec_builder.embeddings.extract import extract

    paths = files(images, count)
    table = pa.table({"image_id": [path.name for path in paths], "uri": [str(path) for path in paths]})
    backbone = load_backbone(MODEL)
    return lambda: extract(backbone, table, str, batch_size=BATCH, bf16=precision, threads=1), len(paths)


def openvino(precision: str, images: str, manifest: str, count: int) -> tuple[Any, int]:
    return _peer(images, count, lambda backbone: _openvino_call(backbone, precision, BATCH), BATCH)


def openvino_small(precision: str, images: str, manifest: str, count: int) -> tuple[Any, int]:
    from ndec_builder.embeddings.engines.openvino_trunk import PICTURES_A_CALL

    batch = PICTURES_A_CALL["bfloat16" if precision == "on" else "float32"]
    return _peer(images, count, lambda backbone: _openvino_call(backbone, precision, batch), batch)


def onnxruntime(precision: str, images: str, manifest: str, count: int) -> tuple[Any, int]:
    return _peer(images, count, _onnxruntime_call, BATCH)


def views(precision: str, images: str, manifest: str, count: int) -> tuple[Any, int]:
    """The view cache of the first shard of a training set, made again at each call."""
    from ndec_builder.embeddings.backbones import load_backbone
    from ndec_builder.manifests.read import open_manifest
    from ndec_builder.training.data import read_images
    from ndec_builder.training.views import view_kinds, view_maker

    try:
        from ndec_builder.training.view_cache import SHARD_IMAGES, cache_views
    except ModuleNotFoundError:  # a checkout from before it had this name
        from ndec_builder.training.cache import SHARD_IMAGES, cache_views

    found = open_manifest(Path(manifest))
    table = read_images(found).slice(0, min(count, SHARD_IMAGES))
    backbone = load_backbone(MODEL)
    maker = view_maker(table.to_pylist(), found.resolve, backbone.size, 0)

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            cache_views(Path(folder), backbone, table, maker, view_kinds(11), precision, 2)

    return work, table.num_rows


CONTESTANTS = {
    "embed": embed,
    "openvino": openvino,
    "openvino_small": openvino_small,
    "onnxruntime": onnxruntime,
    "views": views,
}


def files(images: str, count: int) -> list[Path]:
    found = sorted(path for path in Path(images).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return found[:: max(1, len(found) // count)][:count]


def _peer(images: str, count: int, engine: Any, size_of_batch: int) -> tuple[Any, int]:
    import numpy as np

    from ndec_builder.core.decode import decode
    from ndec_builder.embeddings.backbones import load_backbone
    from ndec_builder.embeddings.preprocess import to_pixels

    paths, backbone = files(images, count), load_backbone(MODEL)
    call, size = engine(backbone), (backbone.size, backbone.size)

    def work() -> None:
        for start in range(0, len(paths), size_of_batch):
            batch = np.zeros((size_of_batch, *size, 3), np.uint8)
            for row, path in enumerate(paths[start : start + size_of_batch]):
                batch[row] = to_pixels(decode(path.read_bytes(), 0, target=backbone.target), size)
            call(batch)

    return work, len(paths)


def _whole(backbone: Any) -> Any:
    """Pixels (n, h, w, 3) uint8 → descriptors, as one torch module: normalising and pooling included."""
    import torch

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (backbone.mean, backbone.std))
            features: torch.Tensor = backbone(pixels.permute(0, 3, 1, 2).float() * (1 / (255 * std)) - mean / std)
            return features

    return Whole().eval()


def _openvino_call(backbone: Any, precision: str, batch: int) -> Any:
    import torch

    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # this measurement reports nothing
    import openvino

    pixels = torch.zeros(batch, backbone.size, backbone.size, 3, dtype=torch.uint8)
    model = openvino.convert_model(_whole(backbone), example_input=pixels)
    model.reshape(list(pixels.shape))
    hint = "bf16" if precision == "on" else "f32"
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": hint}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda batch: request.infer({0: batch})


def _onnxruntime_call(backbone: Any) -> Any:
    import onnxruntime as ort
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        pixels = torch.zeros(BATCH, backbone.size, backbone.size, 3, dtype=torch.uint8)
        torch.onnx.export(_whole(backbone), (pixels,), path, input_names=["x"], opset_version=18, dynamo=False)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"x": batch})


class Process:
    """A contestant in a process of its own."""

    def __init__(self, checkout: Path, switches: dict[str, str], arguments: list[str]) -> None:
        environment = os.environ | switches | {"PYTHONPATH": f"{checkout}{os.pathsep}{HERE / 'benchmarks'}"}
        command = [sys.executable, "-W", "ignore", str(Path(__file__).resolve()), "--contestant", *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=checkout
        )

    def run(self) -> float:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                return float(json.loads(line)["ms"])
        raise SystemExit(f"a contestant ended: {self.process.args}")

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--today", type=Path)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    kinds = ["embed", *(["views"] if given.manifest else [])]
    lines = [
        "# Engine of the trunks", "", machine(), "",
        f"{MODEL}, 224 px, {given.count} pictures; CPU ms an image, decoding included; medians of {given.rounds} "
        "interleaved rounds. `views`: 11 training views of an image are made and described.", "",
        "| what | processor | today | new | OpenVINO alone | OpenVINO, small batches | ONNX Runtime alone "
        "| today / new | OpenVINO / new | small batches / new |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for kind in kinds:
        for processor, precision, switches in (
            ("bf16", "on", {}), ("avx512, bf16 off", "off", {}), ("avx2 by switch, on an avx512 machine", "off", AVX2),
        ):  # fmt: skip
            lines.append(row(kind, processor, precision, switches, given))
            print(lines[-1], flush=True)
    write_result("engine", "\n".join(lines))


def row(kind: str, processor: str, precision: str, switches: dict[str, str], given: argparse.Namespace) -> str:
    def process(what: str, checkout: Path) -> Process:
        images, manifest = str(given.images.absolute()), str(given.manifest.absolute() if given.manifest else "")
        return Process(checkout, switches, [what, precision, images, manifest, str(given.count)])

    contestants = {"new": process(kind, HERE)}
    if given.today:
        contestants["today"] = process(kind, given.today.absolute())
    if kind == "embed":
        contestants["OpenVINO"] = process("openvino", HERE)
        contestants["small"] = process("openvino_small", HERE)
        if not switches and precision == "off":  # it has neither bfloat16 nor a switch for AVX2
            contestants["ONNX Runtime"] = process("onnxruntime", HERE)
    try:
        runs: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(given.rounds):
            for name, contestant in contestants.items():
                runs[name].append(contestant.run())
    finally:
        for contestant in contestants.values():
            contestant.close()
    ms = {name: statistics.median(values) for name, values in runs.items()}
    cells = [f"{ms[name]:.1f}" if name in ms else "–" for name in ("today", "new", "OpenVINO", "small", "ONNX Runtime")]
    ratios = [f"{ms[name] / ms['new']:.2f} ×" if name in ms else "–" for name in ("today", "OpenVINO", "small")]
    return f"| {kind} | {processor} | {' | '.join([*cells, *ratios])} |"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contestant"]:
        measure(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5], int(sys.argv[6]))
    else:
        main()
