"""A trunk as tasks on other machines load it: by name, once per process, and checked against the command's own."""

from __future__ import annotations

import copy
import functools
import socket
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ndec_builder.core.errors import NdecError
from ndec_builder.embeddings.backbones import Backbone, load_backbone
from ndec_builder.embeddings.inference import use_bf16

Loader = Callable[[str, str], Backbone]  # name and device → backbone; a function of a module, so that it can be pickled


@dataclass(frozen=True)
class TrunkSource:
    """How a backbone is loaded, and what decides its descriptors. Picklable, small.

    size: px of its input · fingerprint: of weights and preprocessing · half: it computes in bfloat16.
    """

    load: Loader
    name: str
    device: str
    bf16: str
    size: int
    fingerprint: str
    half: bool

    @classmethod
    def of(
        cls, backbone: Backbone, bf16: str, load: Loader = load_backbone, name: str = "", device: str = ""
    ) -> TrunkSource:
        """The source of a loaded backbone.

        name: what `load` takes; default: the name of the model · device: default: that of the backbone.
        """
        where = device or backbone.device.type
        half = use_bf16(bf16, torch.device(where)) and backbone.autocast
        return cls(load, name or backbone.name, where, bf16, backbone.size, backbone.fingerprint, half)

    def open(self) -> Backbone:
        """The backbone on this machine, loaded once per process.

        Raises NdecError if its weights are others here, or if this machine would compute in another precision.
        """
        return _opened(self)


@functools.lru_cache(maxsize=4)  # one model at a few sizes
def _opened(source: TrunkSource) -> Backbone:
    backbone = source.load(source.name, source.device)
    if backbone.fingerprint != source.fingerprint:
        raise NdecError(
            f"the model {source.name} on {socket.gethostname()} has the fingerprint {backbone.fingerprint[:16]}…, but "
            f"that of the command has {source.fingerprint[:16]}…: its weights or its preprocessing differ; copy the "
            "same file to every node"
        )
    if (use_bf16(source.bf16, backbone.device) and backbone.autocast) != source.half:
        names = ("float32", "bfloat16")
        raise NdecError(
            f"{socket.gethostname()} computes {source.name} in {names[not source.half]}, the machine of the command in "
            f"{names[source.half]}, because their processors differ; such descriptors cannot be mixed. Use nodes of "
            'one type, or set bf16 = "off" where the command has that setting'
        )
    if backbone.size != source.size:
        backbone = copy.copy(backbone)  # shares the weights
        backbone.size = source.size
    return backbone
