from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.core.errors import GapsError, NdecError
from ndec_builder.core.shards import Outcome, Shard, plan, run_shards
from ndec_builder.core.storage import sha256_file, write_text


def square(directory: Path, shard: Shard) -> Outcome:
    """The work of the tests: squares of the shard's items; each run is counted in a side file."""
    with (directory / "calls.log").open("a") as log:
        log.write(f"{shard.index}\n")
    write_text(directory / f"{shard.name}.txt", " ".join(str(i * i) for i in range(shard.start, shard.stop)))
    return Outcome((f"{shard.name}.txt",), {"items": shard.stop - shard.start})


def slow(directory: Path, shard: Shard) -> Outcome:
    time.sleep(0.05)
    return square(directory, shard)


def poisoned(directory: Path, shard: Shard) -> Outcome:
    if shard.index == 1 and not (directory / "mended").exists():
        (directory / "tries").open("a").write("x")
        raise ValueError("poison")
    return square(directory, shard)


def results(directory: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(directory.glob("part-*.txt"))}


def calls(directory: Path) -> int:
    return len((directory / "calls.log").read_text().split())


@given(st.integers(0, 200), st.integers(1, 50))
def test_the_plan_covers_every_item_once(items: int, size: int) -> None:
    covered = [i for shard in plan(items, size) for i in range(shard.start, shard.stop)]
    assert covered == list(range(items))


def test_a_shard_of_nothing_is_refused() -> None:
    with pytest.raises(NdecError, match="shard_size is 0"):
        plan(3, 0)


def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path) -> None:
    for workers in (1, 2):
        (tmp_path / str(workers)).mkdir()
        counts = run_shards(
            tmp_path / str(workers),
            plan(10, 3),
            functools.partial(square, tmp_path / str(workers)),
            "f",
            workers=workers,
        )
        assert counts == {"items": 10}
    assert results(tmp_path / "1") == results(tmp_path / "2")


def test_finished_shards_are_not_done_again_unless_the_fingerprint_or_a_file_changed(tmp_path: Path) -> None:
    work = functools.partial(square, tmp_path)
    run_shards(tmp_path, plan(10, 3), work, "f")
    run_shards(tmp_path, plan(10, 3), work, "f")
    assert calls(tmp_path) == 4
    (tmp_path / "part-00002.txt").unlink()
    assert run_shards(tmp_path, plan(10, 3), work, "f") == {"items": 10}
    assert calls(tmp_path) == 5
    run_shards(tmp_path, plan(10, 3), work, "other")
    assert calls(tmp_path) == 9


def test_a_poisoned_shard_is_set_aside_after_three_tries_and_only_it_is_tried_again(tmp_path: Path) -> None:
    work = functools.partial(poisoned, tmp_path)
    with pytest.raises(GapsError, match="shard 1 failed with ValueError: poison"):
        run_shards(tmp_path, plan(10, 3), work, "f")
    assert (tmp_path / "tries").read_text() == "xxx"
    assert calls(tmp_path) == 3
    (tmp_path / "mended").touch()
    assert run_shards(tmp_path, plan(10, 3), work, "f") == {"items": 10}
    assert calls(tmp_path) == 4


SCRIPT = """
import functools, sys
from pathlib import Path
import importlib.util
spec = importlib.util.spec_from_file_location("shard_work", sys.argv[2]); module = importlib.util.module_from_spec(spec)
sys.modules["shard_work"] = module; spec.loader.exec_module(module)
from ndec_builder.core.shards import plan, run_shards
directory = Path(sys.argv[1])
run_shards(directory, plan(40, 2), functools.partial(module.slow, directory), "f")
"""


def test_killed_and_resumed_is_uninterrupted(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    command = [sys.executable, "-c", SCRIPT]
    subprocess.run([*command, str(whole), __file__], check=True)
    kills = 0
    while kills < 5:
        child = subprocess.Popen([*command, str(killed), __file__], start_new_session=True)
        time.sleep(1.2 + 0.07 * kills)
        if child.poll() is not None:
            break
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        kills += 1
    subprocess.run([*command, str(killed), __file__], check=True)
    assert kills >= 1
    assert results(killed) == results(whole)
    assert not list(killed.glob(".*partial*.json"))
