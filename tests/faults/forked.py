"""Processes that run an ndec command and start at once: forked from a process that has imported everything.

The parent runs no command and has no second thread. A fork runs the complete command line, `ndec …`, in its own
session, so SIGKILL stops it like any other process.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndec_builder.core.lazy import no_collections
from support.processes import fork

if TYPE_CHECKING:
    from ndec_builder.embeddings.backbones import Backbone

HEAVY = (
    "encodings.cp437", "encodings.idna",  # names in a zip: loaded late, when the right to read Python may be gone
    "torch", "torchvision", "faiss", "cv2", "pyarrow.parquet", "pyarrow.compute", "pandas", "PIL.Image", "PIL.ImageCms",
    "h5py", "requests", "label_studio_sdk.client", "safetensors.torch", "torch.utils.tensorboard", "matplotlib.figure",
    "efficientnet_lite_pytorch", "jinja2", "typer", "rich.progress", "hypothesis",
)  # fmt: skip
_CONVERTED: dict[tuple[str, tuple[int, ...]], Any] = {}
_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink")


@no_collections()
def warm_up() -> None:
    """Import what the commands import, so that a forked one does not have to."""
    for name in HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    from ndec_builder.commands import COMMANDS

    for command in COMMANDS.values():
        with contextlib.suppress(ImportError):
            importlib.import_module(f"ndec_builder.{command.work}")
    importlib.import_module("ndec_builder.cli")


def convert_ahead() -> None:
    """Load the default trunk and convert it for OpenVINO, so that a forked command only compiles it.

    The commands do the same without it, and later: of kills at random times fewer hit what matters.
    """
    import torch

    from ndec_builder.embeddings.backbones import lite, load_backbone
    from ndec_builder.embeddings.engines import openvino_trunk
    from ndec_builder.embeddings.model_names import parse_model

    if _CONVERTED:
        return
    torch.set_num_threads(1)  # others would be missing in a fork
    openvino_trunk._import_openvino()
    name, build, convert = "efficientnet-lite0", lite.build, openvino_trunk._converted
    backbone, own = load_backbone(name), parse_model(name)
    for count in openvino_trunk.PICTURES_A_CALL.values():
        shape = (count, backbone.size, backbone.size, 3)
        _CONVERTED[backbone.fingerprint, shape] = convert(backbone, shape)

    def converted(given: Backbone, shape: tuple[int, ...]) -> Any:
        model = _CONVERTED.get((given.fingerprint, shape))
        return convert(given, shape) if model is None else model.clone()

    openvino_trunk._converted = converted
    lite.build = lambda model: backbone if model == own else build(model)


@dataclass(frozen=True)
class Ended:
    """How a command ended. code: its exit code, or minus the signal. changes: what it did to files, when counted.

    memory: MiB, the most that was resident. touched: paths that it changed, when `record` was asked for.
    """

    code: int
    seconds: float
    changes: int = 0
    memory: float = 0.0
    touched: frozenset[str] = frozenset()

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Command:
    """`ndec ARGUMENTS` in a forked process. `log` collects stdout and stderr.

    die_at: the number of the change to a file (a rename, removal, new folder or file opened for writing) at which the
    process kills itself with SIGKILL, just before it. -1: count only. record: also note the paths of the changes.
    prepare: called in the new process before the command: what is wrong with its world · work: instead of the command
    line, with ARGUMENTS in sys.argv.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        *,
        die_at: int = -1,
        threads: int = 1,
        record: bool = False,
        prepare: Callable[[], None] | None = None,
        work: Callable[[], None] | None = None,
    ) -> None:
        self._begun, self._counted = time.monotonic(), log.with_suffix(".changes")
        self._touched = log.with_suffix(".touched") if record else None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = fork()
        if self.pid == 0:
            self._work(arguments, log, die_at, threads, prepare, work)

    def _work(
        self,
        arguments: Sequence[str],
        log: Path,
        die_at: int,
        threads: int,
        prepare: Callable[[], None] | None,
        work: Callable[[], None] | None,
    ) -> None:
        code = 1
        try:
            os.setsid()
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            for number in (1, 2):
                os.dup2(handle, number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.argv = ["ndec", *arguments]
            sys.dont_write_bytecode = True  # compiled modules are no changes of the command
            if torch := sys.modules.get("torch"):
                torch.set_num_threads(threads)
            if prepare is not None:
                prepare()
            changes = _watch(die_at, self._touched)
            from ndec_builder.cli import main

            try:
                (work or main)()
                code = 0
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else int(error.code is not None)
            sys.stdout.flush()
            sys.stderr.flush()
            with contextlib.suppress(OSError):  # it may have given up the right to write there
                self._counted.write_text(str(changes[0]))
        except BaseException:
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def has_ended(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill_after(self, seconds: float) -> None:
        """SIGKILL, unless it has ended before."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.has_ended():
                return
            time.sleep(0.002)
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> Ended:
        """Wait for its end, and end what it left running in its session."""
        _, status, used = os.wait4(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        changes = int(self._counted.read_text()) if code >= 0 and self._counted.is_file() else 0
        self._counted.unlink(missing_ok=True)
        touched = frozenset[str]()
        if self._touched is not None and self._touched.is_file():
            touched = frozenset(os.fsdecode(name) for name in self._touched.read_bytes().split(b"\0") if name)
            self._touched.unlink()
        return Ended(code, time.monotonic() - self._begun, changes, used.ru_maxrss / 1024, touched)


def _watch(die_at: int, touched: Path | None) -> list[int]:
    """Count this process's changes to files by Python's audit events; SIGKILL itself at number `die_at`."""
    seen = [0]
    note = os.open(touched, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if touched is not None else -1

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            flags = arguments[2]
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR):
                return
        elif event not in _CHANGES:
            return
        seen[0] += 1
        if note >= 0:
            os.write(note, b"".join(path + b"\0" for path in _paths(event, arguments)))
        if seen[0] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return seen


def _paths(event: str, arguments: tuple[object, ...]) -> list[bytes]:
    """The paths that an event changes, absolute."""
    two = event in ("os.rename", "os.link")
    places = {"os.symlink": arguments[1:2]}.get(event, arguments[: 2 if two else 1])
    folders = arguments[2:4] if two else (arguments[-1:] if event != "open" else ())
    found = []
    for number, path in enumerate(places):
        if not isinstance(path, (str, bytes, os.PathLike)):
            continue
        handle = folders[number] if number < len(folders) else -1
        base = f"/proc/self/fd/{handle}" if isinstance(handle, int) and handle >= 0 else "/proc/self/cwd"
        found.append(os.path.join(os.readlink(os.fsencode(base)), os.fsencode(path)))  # noqa: PTH118, PTH115
    return found
