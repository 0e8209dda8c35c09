"""The detectors of a league, and how each is run: as a process of its own, whose CPU time is measured."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ndec_builder.core.config import as_dict
from ndec_builder.core.console import ending_on_signals
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import read_json, sha256_file, write_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.model_names import parse_model
from ndec_builder.evaluation.detectors.features import own_whitening
from ndec_builder.evaluation.detectors.methods import Method, parse_method
from ndec_builder.league.environments import Peer, built_in, find_peer
from ndec_builder.league.own_detector import scratch_prefix
from ndec_builder.league.settings import OWN, LeagueConfig
from ndec_builder.version import __version__

RUNNER = Path(__file__).parent / "adapter_runner.py"
_JOB_FIELDS = (
    "workspace", "manifest", "queries", "references", "ground_truth", "checkpoint", "fused_model", "model",
)  # fmt: skip
_WATCHER = "import os, signal, sys; os.read(0, 1); os.killpg(int(sys.argv[1]), signal.SIGKILL)"
_ABSENT = {
    "clip": "needs weights: --detector clip=open_clip:ARCHITECTURE@FILE",
    "sscd": "needs a weights file: --detector sscd=FILE, TorchScript or ONNX",
}


@dataclass(frozen=True)
class Entry:
    """One row of the league: a peer, one of ndec's own detectors (`OWN`), a source, or a reason why it cannot run."""

    name: str
    peer: Peer | None = None
    method: Method | None = None
    absent: str = ""

    def is_own(self, name: str) -> bool:
        """Whether it is ndec's own detector of this name: a given list or adapter may have the same name."""
        return self.name == name and self.peer is None and self.method is None


@dataclass(frozen=True)
class Finished:
    """What a detector's process left. file: the csv it wrote; None if it failed, and then `problem` says why.

    facts: of the process, among them cpu_total, cpu_describe, cpu_match, pairs_compared, failed, left_out, and `engine`
    if that was a cluster.
    """

    file: Path | None
    problem: str
    facts: dict[str, Any]


def entries_of(config: LeagueConfig) -> list[Entry]:
    """The detectors of a league, in the order of the table. Raises UsageError for an unknown or a repeated name."""
    names = config.detector or (*built_in(), *_ABSENT, *OWN)
    entries = [_entry(name) for name in names]
    if len({entry.name for entry in entries}) < len(entries):
        raise UsageError(f"the detectors {', '.join(e.name for e in entries)} are not all different; name each once")
    return entries


def _entry(text: str) -> Entry:
    if text in OWN:
        return Entry(text)
    if text in _ABSENT:
        return Entry(text, absent=_ABSENT[text])
    if "=" in text:
        method = parse_method(text)
        return Entry(method.name, method=method)
    peer = find_peer(text)
    return Entry(peer.name, peer)


def run_entry(
    entry: Entry,
    config: LeagueConfig,
    key: Sequence[str],
    pictures: tuple[Path, Path],
    out: Path,
    training: Callable[[], str] = str,
) -> Finished:
    """Run one detector, or take what it wrote before for the same data (`key`), adapter and version.

    pictures: folders of queries and references · out: folder for `NAME.csv` · training: says what identifies the
    training images, on which an own detector fits a whitening if the workspace has none; empty if there are none.
    """
    if entry.absent:
        return Finished(None, entry.absent, {})
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"{entry.name}.csv"
    if entry.peer is not None:
        if entry.peer.version() is None:
            return Finished(None, f"not installed: `ndec league install {entry.name}`", {})
        command = [
            str(entry.peer.python),
            "-I",
            str(RUNNER),
            str(entry.peer.adapter),
            *map(str, pictures),
            str(target),
        ]
        made_by = [sha256_file(entry.peer.adapter), sha256_file(RUNNER), entry.peer.version()]
    elif entry.method is not None and "predictions" in entry.method.source:
        given = Path(entry.method.source["predictions"])
        return Finished(given, "", {}) if given.is_file() else Finished(None, f"there is no file {given}", {})
    else:
        if entry.is_own("asl") and config.checkpoint is None:
            return Finished(None, "needs a trained network: --checkpoint runs/NAME of `ndec train-asl`", {})
        job = out / f"{entry.name}.job.json"
        needed = {name: value for name, value in as_dict(config).items() if name in _JOB_FIELDS}
        if config.kinds is not None:  # only then, as below: what finished without it stays valid
            needed["kinds"] = str(config.kinds)
        if config.engine == "ray":
            needed["engine"] = config.engine
        write_json(job, {"config": needed, "name": entry.name, "method": _plain(entry.method), "out": str(target)})
        command = [sys.executable, "-m", "ndec_builder.league.own_detector", str(job), config.ray_address]
        made_by = [__version__, sha256_file(job), *_contents(_inputs(entry, config)), *_precision()]
        if not all(_is_whitened(Workspace(config.workspace), name) for name in _models(entry, config)):
            made_by += filter(None, [training()])
    return _finished(command, [*key, *made_by], target, config.minutes)


def _precision() -> list[str]:
    """What machines with bfloat16 and without do not share; empty for bfloat16, as in earlier versions."""
    import torch

    from ndec_builder.embeddings.backbones import best_device
    from ndec_builder.embeddings.inference import use_bf16

    return [] if use_bf16("auto", torch.device(best_device("auto"))) else ["float32"]


def _inputs(entry: Entry, config: LeagueConfig) -> list[Path]:
    """What an own detector reads besides the dataset. Its path may stay the same when its content changes."""
    source: dict[str, Any] = entry.method.source if entry.method is not None else {}
    models = _models(entry, config)
    given = [path for key, paths in source.items() if key != "model" for path in paths]
    given += [path for name, path in (("asl", config.checkpoint), ("fused", config.fused_model)) if entry.is_own(name)]
    workspace = Workspace(config.workspace)
    whitenings = [workspace.whitening(model) for model in models]
    return [*filter(None, (*given, config.kinds)), *whitenings, *(path for model in models for path in _weights(model))]


def _models(entry: Entry, config: LeagueConfig) -> Sequence[str]:
    """The models that an own detector runs."""
    return (config.model,) if entry.method is None else entry.method.source.get("model", ())


def _is_whitened(workspace: Workspace, model: str) -> bool:
    """Whether the workspace has a whitening for this model; also if it cannot be loaded, which its own process says."""
    try:
        return bool(own_whitening(workspace, model))
    except NdecError:
        return True


def _weights(model: str) -> list[Path]:
    """The files that loading this model reads; none if it cannot be loaded, which its own process says."""
    try:
        name = parse_model(model)
        return [path for path in (name.weights, *name.data_files.values()) if path is not None]
    except NdecError:
        return []


def _contents(paths: list[Path]) -> list[str]:
    """Hashes of the files among the paths and below them, in the order of their paths."""
    found = sorted(file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
    return [sha256_file(file) for file in found]


def _finished(command: Sequence[str], key: list[Any], target: Path, minutes: float) -> Finished:
    stamp, log, facts_file = (target.with_suffix(end) for end in (".key.json", ".log", ".csv.json"))
    if stamp.is_file() and target.is_file() and read_json(stamp).get("key") == key:
        return Finished(target, "", read_json(stamp)["facts"])
    stamp.unlink(missing_ok=True)
    before = _children_seconds()
    _remove_scratch(target)  # of a killed league
    problem = _run(command, log, minutes)
    _remove_scratch(target)  # of a process that was stopped
    if problem:
        return Finished(None, problem, {})
    facts = read_json(facts_file)
    if "engine" not in facts:  # a cluster's CPU time is not that of child processes
        facts["cpu_total"] = _children_seconds() - before
    write_json(stamp, {"key": key, "facts": facts})
    return Finished(target, "", facts)


def _remove_scratch(target: Path) -> None:
    for folder in target.parent.glob(f"{glob.escape(scratch_prefix(target))}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: Sequence[str], log: Path, minutes: float) -> str:
    """Run a process; → what went wrong, or an empty text. Its output goes to `log`."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            with ending_on_signals(), _ending_with_us(process.pid):
                process.wait(minutes * 60)
        except subprocess.TimeoutExpired:
            return f"stopped after {minutes:g} minutes; raise --minutes"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode == 0:
        return ""
    lines = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    end = lines[-1][:300] if lines else "no output"
    how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
    own = end.partition("core.errors.")[2].partition(": ")[2]  # an error of ndec is one paragraph for people
    return own or f"stopped ({how}): {end}"


@contextlib.contextmanager
def _ending_with_us(group: int) -> Iterator[None]:
    """End a process group with this process, even if that is killed: then the pipe that only it holds ends."""
    command = [sys.executable, "-I", "-S", "-c", _WATCHER, str(group)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as watcher:
        try:
            yield
        finally:
            watcher.kill()


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _plain(method: Method | None) -> Any:
    return None if method is None else json.loads(json.dumps(asdict(method), default=str))
