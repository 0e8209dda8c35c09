"""The hostile files and the fuzzing at a small size; hostile.py and fuzz.py run the full size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from faults import fuzz, zoo
from faults.fuzz_targets import Target, targets

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
TARGETS = list(targets())


def test_each_of_the_hostile_files_is_embedded_or_listed_with_a_reason() -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "hostile.py"), "--quick"], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "0 crashed, 0 took more than 30 s" in done.stdout and "0 × code run" in done.stdout


def test_the_zoo_is_the_same_for_a_seed(tmp_path: Path) -> None:
    first, second = (zoo.build(tmp_path / name, 200, 5, large=False) for name in ("a", "b"))
    assert first.kinds == second.kinds and len(first.kinds) == 200
    for path in first.pictures.rglob("*"):
        if path.is_file() and not path.is_symlink():
            one, two = path.read_bytes(), (second.pictures / path.relative_to(first.pictures)).read_bytes()
            # an ICC profile holds the second in which it was made: 12 bytes
            assert len(one) == len(two) and sum(a != b for a, b in zip(one, two, strict=True)) <= 12


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name.replace("/", "."))
def test_no_parser_of_outside_bytes_fails_in_other_words_than_its_own(target: Target) -> None:
    found = fuzz.apart(target, 0.0, 20, 1)
    assert not found.failure, found
    assert found.inputs


def test_the_fuzzer_finds_what_it_should() -> None:
    """Parsers that fail on a certain byte, that crash, and that use all the memory."""
    import ctypes

    def fragile(data: bytes, folder: Path) -> None:
        assert b"\xff" not in data

    def deadly(data: bytes, folder: Path) -> None:
        ctypes.string_at(0)

    def greedy(data: bytes, folder: Path) -> None:
        bytearray(1 << 40)

    found = [fuzz.apart(Target("bad", lambda: [b"abc"], read), 0.0, 200, 1) for read in (fragile, deadly, greedy)]
    assert "AssertionError" in found[0].failure and "SIGSEGV" in found[1].failure and "MemoryError" in found[2].failure
