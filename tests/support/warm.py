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
    """How a command ended. text: what it wrote to stdout and stderr."""

    returncode: int
    text: str


class Warm:
    """Context manager: `with Warm() as warm: warm.run(["mine"], cwd=bench)`. Tests share that of the fixture `warm`."""

    def __enter__(self) -> Warm:
        self._folder = tempfile.TemporaryDirectory(prefix="ndec-warm-")
        self._helper = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *error: object) -> None:
        assert self._helper.stdin and self._helper.stdout
        self._helper.stdin.close()
        self._helper.stdout.close()
        self._helper.wait(60)
        self._folder.cleanup()

    def run(self, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None) -> Done:
        """Run one command to its end."""
        return self._ask(arguments, cwd, environment)

    def script(
        self, name: str, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None
    ) -> Done:
        """Run `main` of the module faults.NAME to its end. What it wrote: stdout, stderr as they came."""
        return self._ask(arguments, cwd, environment, name)

    def _ask(
        self, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str] | None, script: str = ""
    ) -> Done:
        assert self._helper.stdin and self._helper.stdout
        log = Path(self._folder.name) / "log.txt"
        log.unlink(missing_ok=True)
        ask = {"arguments": list(arguments), "cwd": str(cwd), "environment": dict(environment or {}), "log": str(log)}
        self._helper.stdin.write(json.dumps(ask | {"script": script}) + "\n")
        self._helper.stdin.flush()
        answer = self._helper.stdout.readline()
        assert answer, "the helper is gone"
        return Done(int(answer), log.read_text("utf-8", "replace"))


def _main_of(script: str) -> None:
    """The script as if Python had started it: worker processes that it spawns read the same file again."""
    module = importlib.import_module(f"faults.{script}")
    sys.argv[0] = sys.modules["__main__"].__file__ = str(module.__file__)
    module.main()


def main() -> None:
    """Read a command a line from stdin, run it, answer with its exit code."""
    sys.path[:0] = [str(TESTS), str(TESTS.parent)]
    from faults.forked import Command, convert_ahead, warm_up

    warm_up()
    convert_ahead()
    for line in sys.stdin:
        ask: dict[str, Any] = json.loads(line)

        def prepare(ask: dict[str, Any] = ask) -> None:
            os.environ.update(ask["environment"])
            os.chdir(ask["cwd"])

        work = functools.partial(_main_of, ask["script"]) if ask["script"] else None
        threads = os.cpu_count() or 1
        ended = Command(ask["arguments"], Path(ask["log"]), threads=threads, prepare=prepare, work=work).wait()
        print(ended.code, flush=True)


if __name__ == "__main__":
    main()
