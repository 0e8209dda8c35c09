"""`ndec doctor`: what this machine has for ndec, and what to mend."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.errors import NdecError


@dataclass(frozen=True)
class Finding:
    """One line of the examination. state: ok, note (works, could be better) or broken."""

    name: str
    state: str
    text: str


def examine() -> list[Finding]:
    """Examine every part; an examination that itself fails is a broken finding, never a crash."""
    checks: list[Callable[[], Finding]] = [_torch, _faiss, _label_studio, _chromium, _disk]
    findings = []
    for check in checks:
        try:
            findings.append(check())
        except Exception as error:
            findings.append(Finding(check.__name__.strip("_"), "broken", f"{type(error).__name__}: {error}"))
    return findings


def report(findings: list[Finding]) -> str:
    width = max(len(finding.name) for finding in findings)
    return "\n".join(f"{finding.state:>6}  {finding.name:<{width}}  {finding.text}" for finding in findings)


def _torch() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("torch", "broken", "not installed; run `pip install ndec-builder[cpu]` or `[gpu]`")
    import torch

    from ndec_builder.embeddings.extract import use_bf16

    if torch.cuda.is_available():
        return Finding("torch", "ok", f"{torch.__version__} on {torch.cuda.get_device_name(0)}")
    bf16 = "bf16 in hardware" if use_bf16("auto", torch.device("cpu")) else "no bf16 in hardware"
    return Finding("torch", "ok", f"{torch.__version__}, no CUDA device, {os.cpu_count()} cores, {bf16}")


def _faiss() -> Finding:
    """`faiss-cpu` and `faiss-gpu` are both the module `faiss`: with both, the one installed last wins silently."""
    flavours = {}
    for name in ("faiss-cpu", "faiss-gpu"):
        try:
            flavours[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if len(flavours) == 2:
        return Finding(
            "faiss",
            "broken",
            f"both {' and '.join(f'{n} {v}' for n, v in flavours.items())} are installed and overwrite one another; "
            "run `pip uninstall faiss-cpu faiss-gpu` and install one extra: ndec-builder[cpu] or ndec-builder[gpu]",
        )
    if importlib.util.find_spec("faiss") is None:
        return Finding("faiss", "broken", "not installed; run `pip install ndec-builder[cpu]` or `[gpu]`")
    import faiss

    return Finding("faiss", "ok", f"{next(iter(flavours), 'faiss')} {faiss.__version__}")


def _label_studio() -> Finding:
    from ndec_builder.annotation.environment import find_server

    try:
        return Finding("label-studio", "ok", str(find_server()))
    except NdecError as error:
        return Finding("label-studio", "note", str(error))


def _chromium() -> Finding:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path:
        return Finding("chromium", "ok", path)
    return Finding("chromium", "note", "not there; only the browser test needs it (Debian package `chromium`)")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    state = "ok" if free > 10 else "note"
    return Finding("disk", state, f"{free:.0f} GB free here" + ("" if state == "ok" else "; the demo wants about 5 GB"))
