"""Leagues and peers that are stopped: nothing of an earlier league is mixed in, and no peer goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.evaluation.dataset import from_manifest
from ndec_builder.league.measures import league_numbers
from support.league_adapters import FOLDER_TOOL, GREYS, adapter, league

pytestmark = pytest.mark.slow


def test_pictures_of_a_killed_run_are_not_taken_for_those_of_this_one(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "out" / "league-pictures" / "queries" / "q000000.jpg"
    mine = tmp_path / "out" / "pictures" / "holiday.jpg"  # `--out` names a folder that the person uses already
    for path in (left, mine):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"of another dataset")
    seen: list[str] = []

    def stop(_entry: Any, _config: Any, _league: Any, folders: tuple[Path, Path], *_rest: Any) -> Any:
        seen.extend(sorted(path.stem for path in folders[0].iterdir()))
        raise NdecError("stopped here")

    monkeypatch.setattr("ndec_builder.league.run._row", stop)
    with pytest.raises(NdecError, match="stopped here"):
        league(small, tmp_path / "out", "clip")
    assert seen == [f"q{row:06}" for row in range(len(from_manifest(small.manifest).queries))]
    assert not (tmp_path / "out" / "league-pictures").exists() and mine.is_file()


def test_a_league_that_is_stopped_leaves_the_lists_and_numbers_of_the_one_before(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list is written with the numbers that are about it, not hours before them."""
    one, other = adapter(tmp_path, "one", GREYS.format(fails="none.png")), FOLDER_TOOL
    out = tmp_path / "out"
    league(small, out, one)
    before = {path.name: path.read_bytes() for path in (out / "predictions").iterdir()}
    changed = adapter(tmp_path, "one", other, compare="cosine", threshold=0.4)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ndec_builder.league.run.league_numbers", _second_time_interrupt())
        league(small, out, changed, adapter(tmp_path, "two", GREYS.format(fails="none.png")))
    assert {path.name: path.read_bytes() for path in (out / "predictions").iterdir()} == before
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ndec_builder.league.run.write_json", _interrupt)
        league(small, out, changed)
    assert (out / "predictions" / "one.csv").read_bytes() != before["one.csv"]
    assert not (out / "league.json").exists() and not (out / "run.json").exists()


def _second_time_interrupt() -> Any:
    calls = iter([league_numbers])

    def numbers(*arguments: Any, **named: Any) -> Any:
        return next(calls, _interrupt)(*arguments, **named)

    return numbers


def _interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_league_that_is_killed_leaves_no_peer_running(small: Any, tmp_path: Path, how: signal.Signals) -> None:
    write = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))"
    slow = adapter(tmp_path, "slow", f"def describe(path):\n    import os, time\n    {write}\n    time.sleep(60)\n")
    command = [sys.executable, "-m", "ndec_builder", "league", "--workspace", str(small.workspace)]
    command += ["--manifest", str(small.manifest), "--detector", slow, "--out", str(tmp_path / "out")]
    league = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not ((tmp_path / "pid").is_file() and (tmp_path / "pid").read_text()):
        assert league.poll() is None
        time.sleep(0.05)
    peer = Path("/proc", (tmp_path / "pid").read_text(), "cmdline")
    assert b"slow.py" in peer.read_bytes()
    league.send_signal(how)
    assert league.wait() != 0
    deadline = time.monotonic() + 50
    while peer.exists() and peer.read_bytes():  # empty: ended, and not yet collected by the system
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_slow_peer_is_stopped(small: Any, tmp_path: Path) -> None:
    slow = adapter(tmp_path, "slow", "def describe(path):\n    import time\n    time.sleep(60)\n")
    quick = adapter(tmp_path, "greys", GREYS.format(fails="-"))
    rows = league(small, tmp_path / "out", slow, quick, minutes=0.05)
    assert rows["slow"]["problem"].startswith("stopped after 0.05 minutes") and rows["greys"]["numbers"]
