"""Steps that take long say how far they are: each bar moves while the step runs."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from ndec_builder.candidates import contact_sheet
from ndec_builder.cli.assist import doctor
from ndec_builder.core import console
from ndec_builder.evaluation.metrics.bootstrap import intervals
from support.pictures import write_scenes


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each bar moved."""
    moved: dict[str, int] = {}

    def track(items: Iterable[Any], total: int, what: str) -> Iterator[Any]:
        for item in items:
            moved[what] = moved.get(what, 0) + 1
            assert moved[what] <= total
            yield item

    monkeypatch.setattr(contact_sheet, "track", track)
    monkeypatch.setattr(doctor, "track", track)
    return moved


def test_the_contact_sheet_counts_its_pictures(tmp_path: Path, steps: dict[str, int]) -> None:
    paths = write_scenes(tmp_path / "in", 3)
    images = {path.stem: {"uri": str(path), "rotation": 0} for path in paths}
    pair = {"pair_id": "p", "rank": 1, "score": 0.5, "duplicate_of": None, "query_id": paths[0].stem}
    pairs = [pair | {"reference_id": path.stem} for path in paths[1:]]
    contact_sheet.write_contact_sheet(
        tmp_path / "sheet.html", pairs, images, images, str, title="t", roles=("pool", "reference")
    )
    assert steps["contact sheet"] == 3


def test_doctor_counts_its_checks(steps: dict[str, int]) -> None:
    findings = doctor.check_machine()
    assert steps["checking this machine"] == len(findings) == 10


def test_the_bootstrap_counts_its_replicates(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[float] = []
    monkeypatch.setattr(console.Progress, "advance", lambda self, task, steps=1: moved.append(steps))
    intervals(lambda weights: {"n": weights.sum(0).astype(np.float64)}, groups=4, replicates=300)
    assert sum(moved) == 300 and len(moved) > 1


def on_the_screen(written: str) -> list[str]:
    """The lines that a terminal shows after `written`: new lines, returns, one line up, erased lines."""
    lines, row = [""], 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", written):
        if token == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif token == "\x1b[1A":
            row -= 1
        elif token == "\x1b[2K":
            lines[row] = ""
        elif token != "\r" and not token.startswith("\x1b"):
            lines[row] = token
    return [line.rstrip() for line in lines if line.strip()]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    written = io.StringIO()
    screen = Console(file=written, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(console, "stderr", screen)
    return written


def test_a_step_is_shown_until_a_bar_takes_its_place_and_again_after_it(terminal: io.StringIO) -> None:
    def shown() -> str:
        return " ".join(on_the_screen(terminal.getvalue()))

    with console.waiting("the step"):
        assert "the step" in shown()
        for number in console.track(range(2), 2, "the bar"):
            assert "the bar" in shown() and "the step" not in shown(), number
        assert "the step" in shown()
        console.say("a message")
        assert "the step" in shown() and "a message" in shown()
        with console.waiting("a part"):
            assert "a part" in shown() and "the step" not in shown()
    bar, message = on_the_screen(terminal.getvalue())
    assert "the bar" in bar and "2/2" in bar and message == "a message"


def test_a_step_inside_a_bar_is_not_shown(terminal: io.StringIO) -> None:
    for _ in console.track(range(1), 1, "the bar"):
        with console.waiting("the step"):
            pass
    assert "the step" not in terminal.getvalue() and not console.Bars.shown


def test_an_error_leaves_no_step_on_the_screen(terminal: io.StringIO) -> None:
    with pytest.raises(KeyError), console.waiting("outer"), console.waiting("inner"):
        raise KeyError
    assert on_the_screen(terminal.getvalue()) == [] and not console.Bars.shown


def test_a_bar_that_was_never_shown_ends_without_an_empty_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """rich 13.7 printed one for each step into a log."""
    monkeypatch.setattr(Progress, "stop", lambda self: self.console.print())  # as it does there
    assert list(console.track([1, 2], 2, "counting")) == [1, 2]
    assert capsys.readouterr().err == ""
