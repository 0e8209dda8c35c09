"""The runner: same bytes for any workers, resume, shards set aside, workers that die, kills of the whole command."""

from __future__ import annotations

import functools
import gc
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.core.access.remote import RemoteReadError
from ndec_builder.core.errors import GapsError, NdecError
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.plan import Done, Plan, Shard, finished, mark, open_plan
from ndec_builder.core.executor.runner import Outcome, perform, run_shards
from ndec_builder.core.lazy import no_collections
from ndec_builder.core.storage import read_json, sha256_file, write_json
from support import shard_work

pytestmark = pytest.mark.slow

TEN = Plan(10, 3, "f" * 64)


def results(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.glob("shard-*.txt"))}


def calls(folder: Path) -> int:
    return len((folder / "calls.log").read_text().split())


@given(st.integers(0, 200), st.integers(1, 50))
def test_the_plan_covers_every_item_once(items: int, size: int) -> None:
    covered = [i for shard in Plan(items, size, "f").shards for i in range(shard.start, shard.stop)]
    assert covered == list(range(items))


def test_a_shard_of_nothing_is_refused() -> None:
    with pytest.raises(NdecError, match="shard_size is 0"):
        Plan(3, 0, "f")


def test_any_number_of_workers_gives_the_same_bytes_in_order(tmp_path: Path) -> None:
    for workers in (1, 2):
        folder = open_plan(tmp_path / str(workers), TEN)
        done = run_shards(folder, TEN, functools.partial(shard_work.square, folder), Engine(workers=workers))
        assert [shard.counts["items"] for shard in done] == [3, 3, 3, 1]
    assert results(open_plan(tmp_path / "1", TEN)) == results(open_plan(tmp_path / "2", TEN))


def test_workers_collect_garbage_once_they_have_loaded_the_task(tmp_path: Path) -> None:
    folder = open_plan(tmp_path, TEN)
    run_shards(folder, TEN, functools.partial(shard_work.collecting, folder), Engine(workers=2))
    assert {path.read_text() for path in folder.glob("shard-*.txt")} == {"True"}


def test_python_collects_garbage_after_loading_even_where_that_failed() -> None:
    with pytest.raises(ImportError), no_collections(), no_collections():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()


def test_finished_shards_are_not_done_again_unless_a_file_or_the_marker_is_gone(tmp_path: Path) -> None:
    folder = open_plan(tmp_path, TEN)
    work = functools.partial(shard_work.square, folder)
    run_shards(folder, TEN, work)
    run_shards(folder, TEN, work)
    assert calls(folder) == 4
    (folder / "shard-00002.txt").unlink()
    (folder / "shard-00003.done.json").write_text("[half")
    assert len(run_shards(folder, TEN, work)) == 4
    assert calls(folder) == 6


def test_shards_done_with_other_packages_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = open_plan(tmp_path, TEN)
    work = functools.partial(shard_work.square, folder)
    run_shards(folder, TEN, work)
    begun = read_json(folder / "plan.json")
    assert begun["packages"]["numpy"] == version("numpy")
    write_json(folder / "plan.json", begun | {"packages": begun["packages"] | {"numpy": "1.0"}})
    assert open_plan(tmp_path, TEN) == folder
    run_shards(folder, TEN, work)  # nothing is left to do: nothing is mixed
    assert capsys.readouterr().err == ""
    (folder / "shard-00002.txt").unlink()
    run_shards(folder, TEN, work)
    said = " ".join(capsys.readouterr().err.split())
    assert f"these shards were begun with numpy 1.0 (here {version('numpy')})" in said and calls(folder) == 5


def test_other_inputs_make_a_new_plan_and_the_old_one_goes(tmp_path: Path) -> None:
    folder = open_plan(tmp_path, TEN)
    run_shards(folder, TEN, functools.partial(shard_work.square, folder))
    other = open_plan(tmp_path, Plan(10, 3, "g" * 64))
    assert other != folder and not folder.exists() and not list(other.glob("*.done.json"))
    (other / "plan.json").write_text('{"items": 11}')  # markers of another plan prove nothing
    run_shards(other, Plan(10, 3, "g" * 64), functools.partial(shard_work.square, other))
    assert not list(open_plan(tmp_path, Plan(10, 3, "g" * 64)).glob("*.done.json"))


def test_a_poisoned_shard_is_set_aside_after_three_tries_and_only_it_is_tried_again(tmp_path: Path) -> None:
    folder = open_plan(tmp_path, TEN)
    work = functools.partial(shard_work.poisoned, folder)
    with pytest.raises(GapsError, match=r"aside after 3 tries: 1\. Shard 1 \(rows 3 to 5\) .*ValueError: poison"):
        run_shards(folder, TEN, work)
    assert (folder / "tries").read_text() == "xxx" and calls(folder) == 3
    assert read_json(folder / "shard-00001.failed.json")["tries"] == 3
    (folder / "fixed").touch()
    assert len(run_shards(folder, TEN, work)) == 4
    assert calls(folder) == 4 and not list(folder.glob("*.failed.json"))


def test_a_shard_that_kills_its_worker_is_found_and_set_aside_alone(tmp_path: Path) -> None:
    folder = open_plan(tmp_path, TEN)
    (folder / "deadly").touch()
    with pytest.raises(GapsError, match=r"tries: 1\. .*its worker process died of SIGSEGV"):
        run_shards(folder, TEN, functools.partial(shard_work.poisoned, folder), Engine(workers=2))
    assert (folder / "tries").read_text() == "xxx"
    assert sorted(results(folder)) == ["shard-00000.txt", "shard-00002.txt", "shard-00003.txt"]


def test_the_work_may_fail_for_a_while(tmp_path: Path) -> None:
    folder = open_plan(tmp_path, TEN)
    tries: list[int] = []

    def away(shard: Shard) -> Outcome:
        tries.append(shard.index)
        if shard.index == 0 and tries.count(0) < 3:
            raise RemoteReadError("the network is down")
        return shard_work.square(folder, shard)

    assert len(run_shards(folder, TEN, away)) == 4
    assert tries == [0, 1, 2, 3, 0, 0]  # behind the others: time passes


def test_what_a_person_must_mend_stops_the_run_at_once(tmp_path: Path) -> None:
    folder = open_plan(tmp_path, TEN)
    with pytest.raises(NdecError, match="disk is full") as caught:
        run_shards(folder, TEN, functools.partial(shard_work.stop, folder), Engine(workers=2))
    assert not isinstance(caught.value, GapsError)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 30), st.integers(1, 8), st.sets(st.integers(0, 29)))
def test_a_resumed_run_does_exactly_what_is_left(
    tmp_path_factory: pytest.TempPathFactory, items: int, size: int, before: set[int]
) -> None:
    plan = Plan(items, size, "f" * 64)
    folder = open_plan(tmp_path_factory.mktemp("plan"), plan)
    work = functools.partial(shard_work.square, folder)
    early = {shard.index for shard in plan.shards if shard.index in before}
    for shard in plan.shards:
        if shard.index in early:
            run_one(folder, plan, shard)
    (folder / "calls.log").write_text("")
    run_shards(folder, plan, work, Engine(here=True))
    assert {int(line) for line in (folder / "calls.log").read_text().split()} == {
        shard.index for shard in plan.shards
    } - early
    text = " ".join((folder / f"{shard.name}.txt").read_text() for shard in plan.shards)
    assert text == " ".join(str(i * i) for i in range(items))


def run_one(folder: Path, plan: Plan, shard: Shard) -> None:
    done = perform(functools.partial(shard_work.square, folder), folder, shard)
    assert isinstance(done, Done)
    mark(folder, plan, shard, done)
    assert finished(folder, plan, shard) == done


def command(output: Path, work: str, size: int, where: str) -> list[str]:
    return [sys.executable, "-m", "support.shard_work", str(output), work, str(size), where]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands below find the module of the works."""
    tests = Path(shard_work.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{tests}:{tests.parent}")


def test_killed_and_resumed_is_uninterrupted(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole, "slow", 2, "here"), check=True)
    folder = next((whole / "shards").iterdir())
    kills = 0
    while kills < 4:
        child = subprocess.Popen(command(killed, "slow", 2, "here"))
        wanted = 3 * kills
        wait_for(lambda: len(list(killed.glob("shards/*/*.done.json"))) > wanted)  # noqa: B023
        if child.poll() is not None:
            break
        child.kill()
        child.wait()
        kills += 1
    subprocess.run(command(killed, "slow", 2, "here"), check=True)
    assert kills >= 2
    assert results(killed / "shards" / folder.name) == results(folder)
    assert not list(killed.rglob("*partial*"))


def test_a_shard_that_killed_the_command_itself_is_isolated_by_the_next(tmp_path: Path) -> None:
    output = tmp_path / "out"
    folder = open_plan(output, Plan(40, 10, "f" * 64))
    (folder / "deadly").touch()
    first = subprocess.run(command(output, "poisoned", 10, "local"), capture_output=True, text=True)
    assert first.returncode == -signal.SIGSEGV  # four shards: no process was started for them
    second = subprocess.run(command(output, "poisoned", 10, "local"), capture_output=True, text=True)
    assert "GapsError" in second.stderr and "tries: 1." in second.stderr
    assert len(results(folder)) == 3


def test_workers_that_cannot_start_stop_the_run(tmp_path: Path) -> None:
    folder = open_plan(tmp_path, TEN)
    work = functools.partial(shard_work.square, folder)
    with pytest.raises(NdecError, match="worker processes cannot start"):
        run_shards(folder, TEN, Unloadable("raise SystemExit(3)", work), Engine(workers=2))


def test_a_worker_killed_while_it_starts_is_only_one_try(tmp_path: Path) -> None:
    folder = open_plan(tmp_path, TEN)
    once = f"import os, pathlib; pathlib.Path({str(folder / 'once')!r}).touch(exist_ok=False)"
    killed = f"""
try:
    {once}
    os.kill(os.getpid(), 9)
except FileExistsError:
    pass
"""
    work = functools.partial(shard_work.square, folder)
    assert len(run_shards(folder, TEN, Unloadable(killed, work), Engine(workers=2))) == 4


def load(script: str, work: object) -> object:
    exec(script)
    return work


class Unloadable:
    """Runs a script when a worker process unpickles it, and is the work then."""

    def __init__(self, script: str, work: object) -> None:
        self.script, self.work = script, work

    def __reduce__(self) -> tuple[object, tuple[str, object]]:
        return load, (self.script, self.work)

    def __call__(self, shard: Shard) -> Outcome:
        raise AssertionError


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_workers_end_when_the_command_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    output = tmp_path / "out"
    before = signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    try:  # under `nohup`, tests and their processes ignore SIGHUP
        child = subprocess.Popen(command(output, "forever", 2, "processes"))
    finally:
        if before is not None:
            signal.signal(number, before)
    wait_for(lambda: bool(list(output.glob("shards/*/pid"))))
    worker = int(next(output.glob("shards/*/pid")).read_text())
    child.send_signal(number)
    child.wait()
    wait_for(lambda: not alive(worker))


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
