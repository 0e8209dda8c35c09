"""The interface of all backbones: images in, one descriptor per image out."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ndec_builder.core.decode import Target
from ndec_builder.core.errors import NdecError
from ndec_builder.embeddings.backbones.pooling import GeM
from ndec_builder.embeddings.model_names import ModelName
from ndec_builder.embeddings.preprocess import longest_side, square

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_Triple = tuple[float, float, float]


class Backbone(nn.Module):
    """Images (n, 3, h, w) float32, normalised with `mean` and `std` → descriptors (n, dim) float32, not normalised.

    GeM pools feature maps (n, c, h, w) of the trunk. A trunk that returns vectors keeps its own pooling: tokens of
    transformers are signed, and GeM would clip the negative half.
    """

    def __init__(
        self,
        trunk: nn.Module,
        name: ModelName,
        size: int,
        mean: _Triple,
        std: _Triple,
        license: str,
        *,
        p: float = 3.0,
        keep_shape: bool = False,
        interpolation: str = "bicubic",
        autocast: bool = True,
        convertible: bool = True,
    ) -> None:
        super().__init__()
        self.trunk, self.pool = trunk, GeM(p)
        self.name, self.size, self.mean, self.std, self.license = name.name, size, mean, std, license
        self.keep_shape = keep_shape  # True: the longest side is `size`; False: pictures are squashed to size × size
        self.interpolation = interpolation  # of the resizing: bicubic or bilinear, both antialiased
        self.autocast = autocast  # whether bfloat16 may be used in the trunk
        self.convertible = convertible  # whether a faster engine may run the trunk (`engines/openvino_trunk.py`)
        self.fingerprint, self.weights = name.fingerprint(), name.weights_sha256()
        self.register_buffer("place", torch.zeros(()), persistent=False)  # gives the device of a trunk without weights
        self.dim = self._probe_dim()

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        place: torch.Tensor = self.place  # type: ignore[assignment]
        return place.device

    @property
    def target(self) -> Target:
        """(width, height) of a picture → (width, height) of the input of the backbone."""
        return longest_side(self.size) if self.keep_shape else square(self.size)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (n, 3, h, w) float32, normalised with `mean` and `std` → (n, dim) float32."""
        return self.pooled(self.trunk(images))

    def normalised(self, batch: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) uint8 on any device → float32 (x/255 − mean) / std there, with channels last in memory."""
        mean = torch.tensor(self.mean, device=batch.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=batch.device).view(1, 3, 1, 1)
        images = batch.contiguous(memory_format=torch.channels_last).float()
        return images.mul_(1 / (255 * std)).sub_(mean / std)

    def pooled(self, output: Any) -> torch.Tensor:
        """Output of the trunk → (n, dim) float32."""
        if isinstance(output, (tuple, list)):
            output = output[0]
        descriptors: torch.Tensor = self.pool(output) if output.ndim == 4 else output.float()
        return descriptors

    def _probe_dim(self) -> int:
        self.eval()
        try:
            with torch.inference_mode():
                shape = tuple(self(torch.zeros(1, 3, self.size, self.size)).shape)
        except RuntimeError as error:
            raise NdecError(
                f"the model {self.name} fails on a picture of {self.size}x{self.size} px "
                f"({str(error).strip().splitlines()[-1]}); if it needs another size, give it as FILE@SIZE"
            ) from None
        if len(shape) != 2:
            raise NdecError(f"the model {self.name} returns the shape {shape}; expected (n, d) or (n, c, h, w)")
        return shape[1]
