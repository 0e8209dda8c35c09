"""The fault run at a small size; `python tests/faults/kill_mining.py` runs the full size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_two_kills_change_no_byte() -> None:
    script = Path(__file__).with_name("kill_mining.py")
    done = subprocess.run([sys.executable, str(script), "--quick"], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kills in all; 1 of 1 ways gave the same bytes." in done.stdout
