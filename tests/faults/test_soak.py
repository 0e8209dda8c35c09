"""The soak test at a small size, and that its verdicts can be negative."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from faults.soak import floor_rise, leftovers, parts_of_memory, slope
from ndec_builder.annotation.label_studio.connection import Connection

pytestmark = pytest.mark.slow

ROUNDS = np.arange(200)


@pytest.mark.parametrize(("a_round", "grows"), [(0.0, False), (0.3, True)])
def test_a_leak_is_told_from_noise(a_round: float, grows: bool) -> None:
    """Noise as an allocator makes it: it wanders. A leak of 0.3 MiB a round stands out of it."""
    chance = np.random.default_rng(5)
    wander = np.convolve(chance.normal(0, 4, len(ROUNDS) + 9), np.ones(10) / 10, "valid")
    found, low, high = slope(ROUNDS, 900 + wander + a_round * ROUNDS)
    assert low < found < high and bool(low > 0) is grows
    assert abs(found - a_round) < 0.04
    hump = np.where((ROUNDS > 83) & (ROUNDS < 122), 90.0, 0.0)  # something large was held for a while
    assert abs(floor_rise(ROUNDS, 900 + wander + hump + a_round * ROUNDS) - a_round) < 0.06


def test_memory_is_attributed_to_the_mapping_that_holds_it() -> None:
    heap, arena, maps = parts_of_memory()
    reserved = mmap.MAP_PRIVATE | 0x4000  # MAP_NORESERVE, as allocators use it; the kernel does not join the two then
    with mmap.mmap(-1, 2**30, flags=reserved) as large, mmap.mmap(-1, 2**24, flags=mmap.MAP_PRIVATE) as small:
        large[: 2**23] = bytes(2**23)
        small[:] = bytes(2**24)
        after = parts_of_memory()
    assert after[1] - arena == pytest.approx(8, abs=2)
    assert after[2] - maps == pytest.approx(16, abs=4)
    assert after[0] - heap == pytest.approx(0, abs=4)


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
