"""The soak test at a small size, and that its verdicts can be negative."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from faults.soak import ENOUGH, FLAT, Sample, assess, floor_rise, leftovers, slope
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


@pytest.mark.parametrize(
    ("rounds", "begins", "verdicts"),
    [
        (600, 600, ["flat", "flat"]),
        (600, 450, ["flat", "GROWS"]),  # it begins late: a small slope over the second half
        (600, 0, ["GROWS", "GROWS"]),
        (ENOUGH - 1, 0, ["GROWS", ""]),  # its last third would be too short for a verdict
    ],
)
def test_a_long_soak_has_a_verdict_on_its_last_third(rounds: int, begins: int, verdicts: list[str]) -> None:
    grown = np.maximum(0, np.arange(rounds) - begins) * 1.5 * FLAT
    samples = [Sample(n, 490 + more, 240, 9, 13, 270, 40, 0, 230, 4, 245, 10**6) for n, more in enumerate(grown)]
    rows, fine = assess(samples, SimpleNamespace(labelled=1), 0.3)
    assert [row[2] for row in rows if "of ndec, MiB a round: slope of its floor" in str(row[0])] == verdicts
    assert fine is ("GROWS" not in verdicts)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="a later pathlib does not intern names")
def test_names_that_come_and_go_double_the_dictionary_of_interned_strings_once() -> None:
    """In a process of its own, whose dictionary is not large already. Its next rebuilding is in round 734."""
    paths = os.pathsep.join(str(path) for path in (Path(__file__).parents[2], Path(__file__).parents[1]))
    code = "import json; from faults.interned import changes; print(json.dumps(changes(800)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=os.environ | {"PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr
    (_, before), (_, doubled), (_, last) = json.loads(done.stdout)
    assert 3 < doubled - before < 4.5
    assert abs(last - doubled) < 1


MAPPINGS = """
import json, mmap
from faults.process_memory import parts_of_memory
before = parts_of_memory()
reserved = mmap.MAP_PRIVATE | 0x4000  # MAP_NORESERVE, as allocators use it; the kernel does not join the two then
with mmap.mmap(-1, 2**30, flags=reserved) as large, mmap.mmap(-1, 2**24, flags=mmap.MAP_PRIVATE) as small:
    large[: 2**23] = bytes(2**23)
    small[:] = bytes(2**24)
    after = parts_of_memory()
print(json.dumps([b - a for a, b in zip(before, after)]))
"""


def test_memory_is_attributed_to_the_mapping_that_holds_it() -> None:
    """In a process of its own: Arrow's threads, left by other tests, fill their mapping meanwhile."""
    paths = os.pathsep.join(str(path) for path in (Path(__file__).parents[2], Path(__file__).parents[1]))
    done = subprocess.run(
        [sys.executable, "-c", MAPPINGS], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths}
    )
    assert done.returncode == 0, done.stderr
    heap, arena, maps = json.loads(done.stdout)
    assert (arena, maps, heap) == pytest.approx((8, 16, 0), abs=2)


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
