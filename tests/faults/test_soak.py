"""The soak test at a small size, and that its verdicts can be negative."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from faults.soak import floor_rise, leftovers, slope
from ndec_builder.annotation.label_studio.connection import Connection

pytestmark = pytest.mark.slow

HOUR = np.arange(0, 3600, 18.0)


@pytest.mark.parametrize(("an_hour", "grows"), [(0.0, False), (60.0, True)])
def test_a_leak_is_told_from_noise(an_hour: float, grows: bool) -> None:
    """Noise as an allocator makes it: it wanders. A leak of 60 MiB an hour stands out of it."""
    chance = np.random.default_rng(5)
    wander = np.convolve(chance.normal(0, 4, len(HOUR) + 9), np.ones(10) / 10, "valid")
    found, low, high = slope(HOUR, 900 + wander + an_hour * HOUR / 3600)
    assert low < found < high and bool(low > 0) is grows
    assert abs(found - an_hour) < 8
    hump = np.where((HOUR > 1500) & (HOUR < 2200), 90.0, 0.0)  # something large was held for a while
    assert abs(floor_rise(HOUR, 900 + wander + hump + an_hour * HOUR / 3600) - an_hour) < 12


def test_what_a_round_leaves_is_seen(tmp_path: Path) -> None:
    for name in ("bench/images", "bench/embeddings/pool/shards", "bench/label_studio", "tmp"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "bench" / "images" / ".pool-x.partial.parquet").touch()
    (tmp_path / "bench" / ".images.lock").touch()
    (tmp_path / "tmp" / "pymp-1").touch()
    (tmp_path / "bench" / "label_studio" / "server.lock").touch()  # of the running server
    assert len(leftovers(tmp_path / "bench", tmp_path / "tmp")) == 4


@pytest.mark.server
def test_some_rounds_leave_nothing_behind(label_studio: Connection) -> None:
    where = {"LABEL_STUDIO_URL": label_studio.url, "LABEL_STUDIO_API_KEY": label_studio.token}
    command = [sys.executable, str(Path(__file__).with_name("soak.py")), "--quick", "--minutes", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | where)
    rows = {
        line.split("|")[1].strip(): line.split("|")[2:4] for line in done.stdout.splitlines() if line.startswith("| ")
    }
    assert int(rows["rounds"][0]) >= 1, done.stdout + done.stderr[-2000:]
    assert rows["temporary files, work folders and locks left after a round"][1].strip() == "none"
