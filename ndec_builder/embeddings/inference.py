"""Runs a backbone for inference: on the engine of the device, in the precision of the hardware.

Descriptors depend only on the images, the shape of the batch, the engine and the precision. One thread computes a
batch, so the number of batches computed in parallel changes nothing.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ndec_builder.core.errors import UsageError
from ndec_builder.embeddings.backbones import Backbone
from ndec_builder.embeddings.engines.openvino_trunk import (
    CompiledTrunk,
    ConversionError,
    compile_trunk,
    openvino_engine,
    torch_engine,
)
from ndec_builder.embeddings.engines.processor import may_use_bf16
from ndec_builder.embeddings.engines.record import EngineUsed, report_fallback

_Key = tuple[Any, ...]  # bfloat16, lanes, changes of the weights, mean and deviation of the pixels, shape
# per backbone: a converted trunk, or the reason why there is none
_converted: weakref.WeakKeyDictionary[Backbone, dict[_Key, CompiledTrunk | str]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def use_bf16(setting: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16; `auto`: if the hardware has it (on a CPU AMX or AVX512-BF16) and may use it."""
    if setting not in ("auto", "on", "off"):
        raise UsageError(f"bf16 = {setting!r} is unknown; it is one of auto, on, off")
    if setting != "auto":
        return setting == "on"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not may_use_bf16():
        return False
    # no public function tells this in all supported versions of torch; without one, use float32
    answers = (getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(answers)


class Inference:
    """Pixels (n, h, w, 3) uint8 on the host → descriptors (n, dim) float32 on the backbone's device.

    lanes: threads that call it at the same time. The weights of the backbone must not change afterwards. `used`: the
    engine of the last call, None before the first one.
    """

    def __init__(self, backbone: Backbone, bf16: str, lanes: int = 1) -> None:
        self.backbone, self.device, self.lanes = backbone, backbone.device, lanes
        self.half = use_bf16(bf16, self.device) and backbone.autocast
        self.used: EngineUsed | None = None
        # weights that were trained since the last conversion need another one
        self._changes = sum(parameter._version for parameter in backbone.parameters())

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """`pixels` may be in pinned memory; the copy does not block."""
        with torch.inference_mode():
            if (trunk := self._trunk(tuple(pixels.shape))) is not None:
                return trunk(pixels)
            batch = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)  # channels_last without a copy
            images = self.backbone.normalised(batch)
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half):
                descriptors: torch.Tensor = self.backbone(images)
            return descriptors.float()

    def _trunk(self, shape: tuple[int, ...]) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """The converted trunk for inputs of this shape; None where torch runs it."""
        if self.device.type != "cpu" or not self.backbone.convertible:
            self.used = torch_engine(self.half)
            return None
        pixels = tuple(self.backbone.mean), tuple(self.backbone.std)
        key = (self.half, self.lanes, self._changes, pixels, () if self.backbone.keep_shape else shape)
        with _lock:  # one lane converts, the others wait
            known = _converted.setdefault(self.backbone, {})
            if key not in known:
                try:
                    known[key] = compile_trunk(self.backbone, shape, self.half, self.lanes)
                except ConversionError as error:
                    known[key] = str(error)
        found = known[key]
        if isinstance(found, str):
            self.used = torch_engine(self.half, found)
            report_fallback(self.backbone.name, found)
            return None
        self.used = openvino_engine(self.half)
        return found


def to_host(descriptors: torch.Tensor) -> np.ndarray:
    array: np.ndarray = descriptors.cpu().numpy()
    return array
