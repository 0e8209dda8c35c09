"""`ndec doctor`: what this machine offers, what is wrong, and how to fix it."""

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

from ndec_builder.core.console import track
from ndec_builder.core.errors import NdecError

_INSTALL = "pip install 'ndec-builder[cpu]' (or [gpu])"
_CPU_FEATURES = {  # flag of /proc/cpuinfo → name
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX-BF16",
}


@dataclass(frozen=True)
class MachineFinding:
    """The result of one check. state: ok, note (works, could be better) or broken; fix: what to do, or empty."""

    name: str
    state: str
    text: str
    fix: str = ""


def check_machine() -> list[MachineFinding]:
    """Run every check; a check that fails itself is a broken finding, never a crash."""
    checks: list[Callable[[], MachineFinding]] = [
        _python, _cpu, _memory, _gpu, _torch, _faiss, _label_studio, _chromium, _disk, _listening,
    ]  # fmt: skip
    findings = []
    for check in track(checks, len(checks), "checking this machine"):
        try:
            findings.append(check())
        except Exception as error:
            findings.append(MachineFinding(check.__name__.strip("_"), "broken", f"{type(error).__name__}: {error}"))
    return findings


def doctor_text(findings: list[MachineFinding]) -> str:
    """One line per finding, with its fix below it."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:>6}  {finding.name:<{width}}  {finding.text}")
        if finding.fix:
            lines.append(f"{'':>6}  {'':<{width}}  fix: {finding.fix}")
    return "\n".join(lines)


def _python() -> MachineFinding:
    return MachineFinding("python", "ok", f"{platform.python_version()}, {sys.prefix}")


def _cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> MachineFinding:
    cores = f"{os.cpu_count()} cores"
    if not cpuinfo.is_file():
        return MachineFinding("cpu", "ok", f"{platform.processor() or platform.machine()}, {cores}")
    facts: dict[str, str] = {}
    for line in cpuinfo.read_text("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    found = [name for flag, name in _CPU_FEATURES.items() if flag in flags]
    text = f"{facts.get('model name', platform.machine())}, {cores}, {', '.join(found) or 'no known vector units'}"
    if platform.machine() in ("x86_64", "AMD64") and "avx2" not in flags:
        return MachineFinding(
            "cpu", "note", text, "use a machine with AVX2: embedding and search are many times faster"
        )
    if not flags & {"avx512_bf16", "amx_bf16"}:
        text += "; no bfloat16 in hardware: embedding takes two to four times as long, the search uses FAISS"
    return MachineFinding("cpu", "ok", text)


def _memory() -> MachineFinding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    if total < 4:
        return MachineFinding("memory", "note", f"{total:.1f} GB", "the demo needs at least 4 GB; use --workers 1")
    return MachineFinding("memory", "ok", f"{total:.0f} GB")


def _gpu() -> MachineFinding:
    if not Path("/dev/nvidiactl").exists() and shutil.which("nvidia-smi") is None:
        return MachineFinding("gpu", "ok", "none; everything runs on the CPU")
    import torch

    if not torch.cuda.is_available():
        return MachineFinding(
            "gpu", "note", f"this machine has an NVIDIA device, but torch {torch.__version__} does not see it",
            "install a torch that is built for your driver's CUDA version, and check that `nvidia-smi` works",
        )  # fmt: skip
    card = torch.cuda.get_device_properties(0)
    return MachineFinding("gpu", "ok", f"{torch.cuda.device_count()} × {card.name}, {card.total_memory / 1e9:.0f} GB")


def _torch() -> MachineFinding:
    if importlib.util.find_spec("torch") is None:
        return MachineFinding("torch", "broken", "not installed", _INSTALL)
    import torch

    from ndec_builder.embeddings.extract import use_bf16

    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    bf16 = "bf16 in hardware" if use_bf16("auto", torch.device("cpu")) else "no bf16 in hardware"
    return MachineFinding("torch", "ok", f"{torch.__version__}, {build}, {bf16}")


def _faiss() -> MachineFinding:
    """`faiss-cpu` and `faiss-gpu` are both the module `faiss`: with both, the one installed last wins silently."""
    flavours = {}
    for name in ("faiss-cpu", "faiss-gpu"):
        try:
            flavours[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if len(flavours) == 2:
        both = " and ".join(f"{name} {version}" for name, version in flavours.items())
        return MachineFinding(
            "faiss", "broken", f"both {both} are installed and overwrite one another",
            "`pip uninstall faiss-cpu faiss-gpu`, then install one extra: ndec-builder[cpu] or ndec-builder[gpu]",
        )  # fmt: skip
    if importlib.util.find_spec("faiss") is None:
        return MachineFinding("faiss", "broken", "not installed", _INSTALL)
    import faiss

    text = f"{next(iter(flavours), 'faiss')} {faiss.__version__}"
    if "faiss-cpu" in flavours and Path("/dev/nvidiactl").exists():
        fix = "`pip uninstall faiss-cpu`, then install ndec-builder[gpu]"
        return MachineFinding("faiss", "note", f"{text}, and there is a GPU", fix)
    return MachineFinding("faiss", "ok", text)


def _label_studio() -> MachineFinding:
    from ndec_builder.annotation.label_studio.environment import find_server

    try:
        return MachineFinding("label-studio", "ok", str(find_server()))
    except NdecError as error:
        return MachineFinding("label-studio", "note", str(error), "`ndec annotate install`")


def _chromium() -> MachineFinding:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path:
        return MachineFinding("chromium", "ok", path)
    return MachineFinding("chromium", "ok", "not installed; only the browser tests need it (Debian package `chromium`)")


def _disk() -> MachineFinding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free < 10:
        fix = "the demo needs about 5 GB; `ndec demo --out` and `--workspace` can be on a different disk"
        return MachineFinding("disk", "note", f"{free:.0f} GB free here", fix)
    return MachineFinding("disk", "ok", f"{free:.0f} GB free here")


def _listening() -> MachineFinding:
    from ndec_builder.annotation.label_studio.ports import open_to_others

    wide = open_to_others()
    if not wide:
        return MachineFinding("listening", "ok", "no server of ndec can be reached from other machines")
    return MachineFinding(
        "listening", "note", f"other machines can reach {'; '.join(map(str, wide))}",
        "unless this is intended: stop it with Ctrl-C and start `ndec annotate serve` without --host",
    )  # fmt: skip
