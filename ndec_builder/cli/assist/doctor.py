"""`ndec doctor`: what this machine has for ndec, what is wrong, and how to mend it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.errors import NdecError

INSTALL = "pip install 'ndec-builder[cpu]' (or [gpu])"
FEATURES = {  # flag of /proc/cpuinfo → what it does for ndec
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX-BF16",
}


@dataclass(frozen=True)
class Finding:
    """One line of the examination. state: ok, note (works, could be better) or broken; fix: what to do, or empty."""

    name: str
    state: str
    text: str
    fix: str = ""


def examine() -> list[Finding]:
    """Examine every part; an examination that itself fails is a broken finding, never a crash."""
    checks: list[Callable[[], Finding]] = [
        _python, _cpu, _memory, _gpu, _torch, _faiss, _label_studio, _chromium, _disk, _listening,
    ]  # fmt: skip
    findings = []
    for check in checks:
        try:
            findings.append(check())
        except Exception as error:
            findings.append(Finding(check.__name__.strip("_"), "broken", f"{type(error).__name__}: {error}"))
    return findings


def report(findings: list[Finding]) -> str:
    """One line a finding, its fix below it."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:>6}  {finding.name:<{width}}  {finding.text}")
        if finding.fix:
            lines.append(f"{'':>6}  {'':<{width}}  fix: {finding.fix}")
    return "\n".join(lines)


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()}, {sys.prefix}")


def _cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Finding:
    cores = f"{os.cpu_count()} cores"
    if not cpuinfo.is_file():
        return Finding("cpu", "ok", f"{platform.processor() or platform.machine()}, {cores}")
    facts: dict[str, str] = {}
    for line in cpuinfo.read_text("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    there = [name for flag, name in FEATURES.items() if flag in flags]
    text = f"{facts.get('model name', platform.machine())}, {cores}, {', '.join(there) or 'no vector units known here'}"
    if platform.machine() in ("x86_64", "AMD64") and "avx2" not in flags:
        return Finding("cpu", "note", text, "use a machine with AVX2: embedding and search are many times faster")
    if not flags & {"avx512_bf16", "amx_bf16"}:
        text += "; no bfloat16 in hardware: embedding takes two to four times as long, the search goes through FAISS"
    return Finding("cpu", "ok", text)


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    if total < 4:
        return Finding("memory", "note", f"{total:.1f} GB", "4 GB is the least for the demo; use --workers 1")
    return Finding("memory", "ok", f"{total:.0f} GB")


def _gpu() -> Finding:
    if not Path("/dev/nvidiactl").exists() and shutil.which("nvidia-smi") is None:
        return Finding("gpu", "ok", "none; everything runs on the CPU")
    import torch

    if not torch.cuda.is_available():
        return Finding(
            "gpu", "note", f"an NVIDIA device is here, but torch {torch.__version__} does not see it",
            "install a torch that is built for your driver's CUDA version, and `nvidia-smi` must work",
        )  # fmt: skip
    card = torch.cuda.get_device_properties(0)
    return Finding("gpu", "ok", f"{torch.cuda.device_count()} × {card.name}, {card.total_memory / 1e9:.0f} GB")


def _torch() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("torch", "broken", "not installed", INSTALL)
    import torch

    from ndec_builder.embeddings.extract import use_bf16

    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    bf16 = "bf16 in hardware" if use_bf16("auto", torch.device("cpu")) else "no bf16 in hardware"
    return Finding("torch", "ok", f"{torch.__version__}, {build}, {bf16}")


def _faiss() -> Finding:
    """`faiss-cpu` and `faiss-gpu` are both the module `faiss`: with both, the one installed last wins silently."""
    flavours = {}
    for name in ("faiss-cpu", "faiss-gpu"):
        try:
            flavours[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if len(flavours) == 2:
        both = " and ".join(f"{name} {version}" for name, version in flavours.items())
        return Finding(
            "faiss", "broken", f"both {both} are installed and overwrite one another",
            "`pip uninstall faiss-cpu faiss-gpu`, then install one extra: ndec-builder[cpu] or ndec-builder[gpu]",
        )  # fmt: skip
    if importlib.util.find_spec("faiss") is None:
        return Finding("faiss", "broken", "not installed", INSTALL)
    import faiss

    text = f"{next(iter(flavours), 'faiss')} {faiss.__version__}"
    if "faiss-cpu" in flavours and Path("/dev/nvidiactl").exists():
        fix = "`pip uninstall faiss-cpu`, then install ndec-builder[gpu]"
        return Finding("faiss", "note", f"{text}, and there is a GPU", fix)
    return Finding("faiss", "ok", text)


def _label_studio() -> Finding:
    from ndec_builder.annotation.label_studio.environment import find_server

    try:
        return Finding("label-studio", "ok", str(find_server()))
    except NdecError as error:
        return Finding("label-studio", "note", str(error), "`ndec annotate install`")


def _chromium() -> Finding:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path:
        return Finding("chromium", "ok", path)
    return Finding("chromium", "ok", "not there; only the browser tests need it (Debian package `chromium`)")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free < 10:
        fix = "the demo wants about 5 GB; `ndec demo --out` and `--workspace` may lie on another disk"
        return Finding("disk", "note", f"{free:.0f} GB free here", fix)
    return Finding("disk", "ok", f"{free:.0f} GB free here")


def _listening() -> Finding:
    from ndec_builder.annotation.label_studio.exposed_ports import open_to_others

    wide = open_to_others()
    if not wide:
        return Finding("listening", "ok", "no server of ndec can be reached from other machines")
    return Finding(
        "listening", "note", f"other machines can reach {'; '.join(map(str, wide))}",
        "unless you meant it: end it with Ctrl-C and start `ndec annotate serve` without --host",
    )  # fmt: skip
