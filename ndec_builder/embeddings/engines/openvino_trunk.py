"""Runs trunks on a CPU with OpenVINO, or with torch where OpenVINO cannot.

OpenVINO computes the same function two to four times faster than torch: its float32 features have a cosine of at least
.999999 to torch's, its bfloat16 features of at least .9999 to torch's bfloat16. Each stream has one thread, so a
feature has the same bits for any number of lanes. A trunk is converted in memory each time a process loads it
(about a second) and then compared with torch on one picture of noise. If the conversion fails or the features differ,
torch runs the trunk, which is said in one line and written to `run.json`.

Importing OpenVINO's converter would report the use to its makers; `_import_openvino` prevents that.
"""

from __future__ import annotations

import functools
import importlib.metadata
import math
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ndec_builder.embeddings.engines.record import EngineUsed

if TYPE_CHECKING:
    from ndec_builder.embeddings.backbones import Backbone

# Largest difference of features, relative to their length, between OpenVINO and torch in the same precision. Measured:
# 1e-6 in float32, 0.013 in bfloat16.
TOLERANCE = {"float32": 0.01, "bfloat16": 0.15}
# Pictures that a call of the library gets: with more, its intermediate results leave the cache of a core. Against all 8
# of a batch at once this saves a tenth, and the features have the same bits (benchmarks/results/engine.md).
PICTURES_A_CALL = {"float32": 2, "bfloat16": 4}
_TELEMETRY = "openvino_telemetry"
_converting = threading.Lock()  # torch's tracer is not made for several threads


class ConversionError(Exception):
    """OpenVINO cannot run this trunk. The message is one line."""


class CompiledTrunk:
    """Pixels (n, h, w, 3) uint8 → descriptors (n, dim) float32, `step` pictures at a time."""

    def __init__(self, compiled: Any, step: int) -> None:
        self._compiled, self._step, self._lane = compiled, step, threading.local()

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        request = getattr(self._lane, "request", None)
        if request is None:  # a request must not be shared between threads
            request = self._lane.request = self._compiled.create_infer_request()
        parts = [
            torch.from_numpy(request.infer({0: part.numpy()}, share_inputs=True)[0].copy())  # it reuses its buffer
            for part in pixels.contiguous().split(self._step)
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]


def compile_trunk(backbone: Backbone, shape: tuple[int, ...], bf16: bool, lanes: int) -> CompiledTrunk:
    """Convert the backbone for pixels of `shape` (n, h, w, 3), normalising included, to be used by `lanes` threads.

    Backbones that keep the shape of pictures get a form for any shape. Raises ConversionError.
    """
    try:
        openvino = _import_openvino()
    except ImportError as error:
        raise ConversionError(f"OpenVINO is not installed ({error}); run `pip install openvino`") from None
    precision = "bfloat16" if bf16 else "float32"
    most = PICTURES_A_CALL[precision]
    step = most if backbone.keep_shape else math.gcd(shape[0], most)
    shape = (step, *shape[1:])
    try:
        with _converting:
            _silence_tracer()
            model = _converted(backbone, shape)
        model.inputs[0].get_node().set_element_type(openvino.Type.u8)
        model.validate_nodes_and_infer_types()
        model.reshape([-1, -1, -1, 3] if backbone.keep_shape else list(shape))
        # one thread for each stream; a lane waits for a free stream
        settings = {
            "NUM_STREAMS": lanes,
            "INFERENCE_NUM_THREADS": lanes,
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "ENABLE_CPU_PINNING": False,
        }
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        if bf16 and "bfloat16" not in str(compiled.get_property("INFERENCE_PRECISION_HINT")):
            raise ConversionError("OpenVINO has no bfloat16 on this processor")
        trunk = CompiledTrunk(compiled, step)
        difference = _difference(backbone, trunk, shape, bf16)
    except ConversionError:
        raise
    except Exception as error:  # tracing and converting can raise anything; torch runs the trunk then
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise ConversionError(f"OpenVINO cannot convert it ({lines[-1][:200]})") from None
    if not difference <= TOLERANCE[precision]:
        raise ConversionError(f"OpenVINO's features differ from torch's by {difference:.2g} of their length")
    return trunk


def _silence_tracer() -> None:
    """Hide warnings of torch's tracer about constant shapes and its own future.

    For good, and when this module is imported: `catch_warnings` of another library may undo a filter while a trunk is
    traced.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.jit")
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)


_silence_tracer()


@functools.cache
def _openvino_version() -> str:
    return importlib.metadata.version("openvino")


def torch_engine(bf16: bool, fallback: str = "") -> EngineUsed:
    """The record of a trunk that torch runs."""
    return EngineUsed(f"torch {torch.__version__.partition('+')[0]}", "bfloat16" if bf16 else "float32", fallback)


def openvino_engine(bf16: bool) -> EngineUsed:
    """The record of a trunk that OpenVINO runs."""
    return EngineUsed(f"openvino {_openvino_version()}", "bfloat16" if bf16 else "float32")


class _FromPixels(nn.Module):
    """Pixels (n, h, w, 3) uint8 → descriptors: a library that gets all steps saves a tenth of the time."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (self.backbone.mean, self.backbone.std))
        images = pixels.permute(0, 3, 1, 2).float() * (1 / (255 * std)) - mean / std
        descriptors: torch.Tensor = self.backbone(images)
        return descriptors


def _converted(backbone: Backbone, shape: tuple[int, ...]) -> Any:
    """OpenVINO's model of the backbone, traced at this shape of pixels."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with torch.inference_mode():
        example = torch.zeros(shape, dtype=torch.uint8)
        traced = torch.jit.trace(_FromPixels(backbone).eval(), example, check_trace=False)
        frozen = torch.jit.freeze(traced.eval())
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(frozen)  # must stay alive until the model is converted
    return frontend.convert(frontend.load(decoder))


def _difference(backbone: Backbone, trunk: CompiledTrunk, shape: tuple[int, ...], bf16: bool) -> float:
    """Length of the difference to torch's descriptor of one picture of noise, relative to the length of that one."""
    noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = trunk(noise)[0].double()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            expected = backbone(backbone.normalised(noise[:1].permute(0, 3, 1, 2)))[0].double()
    return float((found - expected).norm() / expected.norm().clamp(min=np.finfo(np.float32).tiny))


def _import_openvino() -> Any:
    """OpenVINO without its telemetry: with that package hidden, its converter uses the stub that it comes with."""
    if _TELEMETRY not in sys.modules:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # makes importing it raise ImportError
    import openvino

    return openvino
