"""`benchmarks/gpu.py` as far as it goes without a GPU: its table, its time, its steps at tiny sizes on the CPU."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import gpu
from support.pictures import write_scenes
from support.tiny_trunk import tiny_model

NOTHING = argparse.Namespace(images=None, manifest=None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_cuda_it_ends_with_one_paragraph() -> None:
    with pytest.raises(SystemExit, match=r"sees no CUDA device here. Nothing was measured. Run it on a machine with"):
        gpu.main([])


@pytest.mark.parametrize("minutes", ["0.5", "9", "nan"])
def test_the_time_is_between_one_and_eight_minutes(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.parse(["--minutes", minutes])
    assert "it must be between 1 and 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("card", "peak"),
    [("NVIDIA H200", 989), ("NVIDIA H200 NVL", None), ("NVIDIA H100 PCIe", 756), ("NVIDIA H100 80GB HBM3", 989),
     ("NVIDIA H100 NVL", None), ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA L40S", 362), ("NVIDIA L4", 121),
     ("NVIDIA A10G", None), ("NVIDIA RTX A4000", None), ("NVIDIA RTX A1000", None), ("Tesla V100-PCIE-16GB", 112),
     ("Tesla T4", 65), ("Some New Card", None)],
)  # fmt: skip
def test_the_peak_of_a_card_is_that_of_its_full_name(card: str, peak: float | None) -> None:
    assert gpu.peak_of(card) == peak


def test_the_table_has_a_share_only_where_both_numbers_are_known() -> None:
    rows = [gpu.Row("a", "5 images/s", 2.0, 49.45), gpu.Row("b", "not measured", 0.0)]
    known, unknown = gpu.table(rows, "NVIDIA H200").splitlines(), gpu.table(rows, "Card").splitlines()
    assert known[2] == "| a | 5 images/s | 2.0 | 49.5 | 5% |" and known[3] == "| b | not measured | 0.0 | – | – |"
    assert unknown[2] == "| a | 5 images/s | 2.0 | 49.5 | – |"


def test_steps_share_the_time_and_hand_on_what_they_do_not_use() -> None:
    now, given = [0.0], {}

    def run(name: str, seconds: float) -> list[gpu.Row]:
        given[name] = seconds
        now[0] += 6 if name == "tests" else seconds
        return [gpu.Row(name, "", seconds)]

    gpu.run_steps(run, 1.0, lambda: now[0])
    assert given["tests"] == pytest.approx(12) and now[0] == pytest.approx(60)
    assert given["embed"] == pytest.approx((60 - 6) * 0.2 / 0.8)


def test_a_step_without_time_is_a_row_that_says_so() -> None:
    now = [0.0]

    def run(name: str, seconds: float) -> list[gpu.Row]:
        now[0] += 58
        return []

    rows = gpu.run_steps(run, 1.0, lambda: now[0])
    assert [(row.what, row.rate) for row in rows] == [
        (name, "not measured: no time left") for name in ("embed", "search", "train")
    ]


def test_a_step_that_fails_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = subprocess.CompletedProcess([], 3, stdout="some output\nout of memory\n")
    monkeypatch.setattr(gpu.subprocess, "run", lambda *_, **__: broken)
    assert gpu.in_process("search", 9, NOTHING)[0].rate == "failed (exit code 3): out of memory"


def test_a_step_that_takes_too_long_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(command: list[str], *, timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(gpu.subprocess, "run", slow)
    assert gpu.in_process("search", 9, NOTHING)[0].rate == "stopped after 9 s"


def test_the_best_references_are_those_of_a_plain_sort() -> None:
    rng = np.random.default_rng(0)
    queries, references = (torch.from_numpy(rng.normal(size=(n, 6)).astype(np.float32)) for n in (7, 50))
    scores, rows = gpu.best_of(queries, references, 5, tile=16)
    products = queries.numpy() @ references.numpy().T
    assert np.array_equal(rows.numpy(), np.argsort(-products, axis=1)[:, :5])
    assert scores.numpy() == pytest.approx(-np.sort(-products, axis=1)[:, :5], rel=1e-5)


def test_the_search_step_counts_its_arithmetic() -> None:
    (row,) = gpu.search(0.0, NOTHING, "cpu", (64, 32, 16))
    assert row.what == "exact search 64 × 32 × 16 with torch, the best 8" and "extrapolated" not in row.rate
    assert row.tflops == pytest.approx(2 * 64 * 32 * 16 / row.seconds / 1e12)


def test_the_embed_step_measures_files_and_the_trunk(tmp_path: Path) -> None:
    write_scenes(tmp_path / "in", 3, suffix=".jpg")
    given = argparse.Namespace(images=tmp_path / "in", manifest=None)
    files, alone = gpu.embed(0.0, given, "cpu", tiny_model(tmp_path), 2)
    assert "from files" in files.what and files.rate.endswith("images/s") and files.tflops is None
    assert "alone" in alone.what and alone.tflops is not None


def test_training_without_a_manifest_says_what_to_give() -> None:
    assert "give --manifest DIR" in gpu.train(1.0, NOTHING, "cpu")[0].rate


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that claims to have a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")


@pytest.mark.usefixtures("card")
def test_a_step_prints_its_rows_for_the_process_that_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = gpu.search
    monkeypatch.setattr(gpu, "search", lambda seconds, given, device: real(0.0, given, "cpu", (64, 32, 16)))
    gpu.main(["--step", "search", "--seconds", "1"])
    (row,) = [gpu.Row(**json.loads(line)) for line in capsys.readouterr().out.splitlines()]
    assert row.what.startswith("exact search 64 × 32 × 16")


@pytest.mark.usefixtures("card")
def test_all_steps_make_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, str]] = []
    monkeypatch.setattr(gpu, "in_process", lambda name, seconds, given: [gpu.Row(name, "5 a second", 2.0, 98.9)])
    monkeypatch.setattr(gpu, "write_result", lambda *given: written.append(given))
    gpu.main(["--minutes", "1"])
    ((name, text),) = written
    assert name == "gpu" and "NVIDIA H200, torch" in text and "peak 989 TFLOP/s" in text
    assert [line.split(" | ")[0] for line in text.splitlines() if "10%" in line] == [f"| {step}" for step in gpu.STEPS]


def test_as_a_command_it_prints_no_traceback() -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
    done = subprocess.run([sys.executable, str(script), "--minutes", "99"], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
