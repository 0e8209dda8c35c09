"""Which signals end a command's servers and processes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] == "nohup" else signal.SIG_DFL)
from ndec_builder.core.console import ending_on_signals
try:
    with ending_on_signals():
        print("inside", flush=True)
        sys.stdin.readline()
    print("went on")
except KeyboardInterrupt:
    print("ended")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "number", "expected"),
    [
        ("plain", signal.SIGHUP, "ended"),
        ("nohup", signal.SIGHUP, "went on"),
        ("nohup", signal.SIGTERM, "ended"),
        ("nohup", signal.SIGINT, "ended"),
    ],
)
def test_a_hangup_ends_it_unless_it_runs_under_nohup(how: str, number: signal.Signals, expected: str) -> None:
    command = [sys.executable, "-c", SCRIPT, how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == "inside\n"
        child.send_signal(number)
        assert child.communicate("\n")[0] == f"{expected}\n"
