"""`ndec …` in a process of its own that starts at once: forked by a helper which has imported everything already.

Each command is real and alone, as a person's is; only the seconds that Python takes to import torch and to convert the
default model are spent once. The helper is a process next to the tests, since only one without other threads may fork.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Done:
    """How a command ended. text: what it wrote to stdout and stderr; errors: the latter alone, when kept `apart`."""

    returncode: int
    text: str
    errors: str = ""


class Warm:
    """Context manager: `with Warm() as warm: warm.run(["mine"], cwd=bench)`. Tests share that of the fixture `warm`.

    light: the helper has imported the command line and pyarrow only, for commands that end before they need more.
    """

    def __init__(self, light: bool = False) -> None:
        self._light = light

    def __enter__(self) -> Warm:
        self._folder = tempfile.TemporaryDirectory(prefix="ndec-warm-")
        command = [sys.executable, __file__, *(["light"] if self._light else [])]
        self._helper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *error: object) -> None:
        assert self._helper.stdin and self._helper.stdout
        self._helper.stdin.close()
        self._helper.stdout.close()
        self._helper.wait(60)
        self._folder.cleanup()

    def run(
        self, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None, apart: bool = False
    ) -> Done:
        """Run one command to its end. apart: keep what it wrote to stderr out of the text."""
        return self._ask(arguments, cwd, environment, apart=apart)

    def script(
        self, name: str, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None
    ) -> Done:
        """Run `main` of the module faults.NAME to its end. What it wrote: stdout, stderr as they came."""
        return self._ask(arguments, cwd, environment, name)

    def _ask(
        self,
        arguments: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str] | None,
        script: str = "",
        apart: bool = False,
    ) -> Done:
        assert self._helper.stdin and self._helper.stdout
        log, errors = (Path(self._folder.name) / name for name in ("log.txt", "errors.txt"))
        log.unlink(missing_ok=True)
        errors.write_bytes(b"")
        ask = {"arguments": list(arguments), "cwd": str(cwd), "environment": dict(environment or {}), "log": str(log)}
        ask |= {"script": script, "errors": str(errors) if apart else ""}
        self._helper.stdin.write(json.dumps(ask) + "\n")
        self._helper.stdin.flush()
        answer = self._helper.stdout.readline()
        assert answer, "the helper is gone"
        return Done(int(answer), *(path.read_text("utf-8", "replace") for path in (log, errors)))


def _main_of(script: str) -> None:
    """The script as if Python had started it: worker processes that it spawns read the same file again."""
    module = importlib.import_module(f"faults.{script}")
    sys.argv[0] = sys.modules["__main__"].__file__ = str(module.__file__)
    module.main()


def main() -> None:
    """Read a command a line from stdin, run it, answer with its exit code."""
    sys.path[:0] = [str(TESTS), str(TESTS.parent)]
    from faults.forked import Command, convert_ahead, warm_up

    if sys.argv[1:] == ["light"]:
        for name in ("ndec_builder.cli", "pyarrow.parquet", "pyarrow.compute", "PIL.Image"):
            importlib.import_module(name)
    else:
        warm_up()
        convert_ahead()
    for line in sys.stdin:
        ask: dict[str, Any] = json.loads(line)

        def prepare(ask: dict[str, Any] = ask) -> None:
            os.environ.update(ask["environment"])
            os.chdir(ask["cwd"])
            if ask["errors"]:
                os.dup2(os.open(ask["errors"], os.O_WRONLY | os.O_APPEND), 2)

        work = functools.partial(_main_of, ask["script"]) if ask["script"] else None
        threads = os.cpu_count() or 1
        ended = Command(ask["arguments"], Path(ask["log"]), threads=threads, prepare=prepare, work=work).wait()
        print(ended.code, flush=True)


if __name__ == "__main__":
    main()
