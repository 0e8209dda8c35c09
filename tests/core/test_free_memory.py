"""The memory that a process may still take is the least of machine, container and `ulimit -v`."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.executor import free_memory as module
from ndec_builder.core.executor.base import Failed
from ndec_builder.core.executor.free_memory import free_memory
from ndec_builder.core.executor.plan import Shard
from ndec_builder.core.executor.runner import perform
from support.odd_pictures import encoded
from support.pictures import scene


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8,000 bytes available and no container; returns the folder of the control groups."""
    (tmp_path / "meminfo").write_text("MemTotal: 16 kB\nMemAvailable: 8 kB\nHugePages_Total: 0\n")
    monkeypatch.setattr(module, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(module, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(module, "CGROUPS", tmp_path / "cgroup")
    return tmp_path / "cgroup"


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"memory.{name}").write_text(text)


def test_a_machine_without_limits(machine: Path) -> None:
    assert free_memory() == 8 * 1024


def test_a_container_counts_its_copies_of_files_as_free(machine: Path) -> None:
    (machine.parent / "own").write_text("0::/a/b\n")
    group(machine / "a" / "b", max="max\n", current="99\n")
    group(machine / "a", max="5000\n", current="3000\n", stat="anon 2000\ninactive_file 700\n")
    assert free_memory() == 5000 - 3000 + 700


def test_a_container_that_sees_only_its_own_group(machine: Path) -> None:
    (machine.parent / "own").write_text("0::/kubepods/pod1\n")
    group(machine, max="4000", current="1500")
    assert free_memory() == 2500


def test_control_groups_of_version_1(machine: Path) -> None:
    (machine.parent / "own").write_text("4:memory:/job\n3:cpuset:/job\n")
    group(machine / "memory" / "job", limit_in_bytes="6000", usage_in_bytes="5900", stat="total_inactive_file 50\n")
    assert free_memory() == 150


def test_more_in_use_than_allowed_is_no_free_memory(machine: Path) -> None:
    (machine.parent / "own").write_text("0::/\n")
    group(machine, max="10", current="20")
    assert free_memory() == 0


def test_a_system_that_does_not_tell(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEMINFO", machine / "none")
    monkeypatch.setattr(module, "_of_limit", lambda: iter(()))
    assert free_memory() is None


def test_a_limit_of_the_process() -> None:
    """The real one, in a process of its own."""
    limit = 1 << 30
    code = "from ndec_builder.core.executor.free_memory import free_memory; print(free_memory())"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )  # fmt: skip
    assert 0 < int(found.stdout) < limit


DECODE = """
import resource, sys
from ndec_builder.core.decode import decode
from ndec_builder.core.errors import LowMemoryError
from ndec_builder.core.executor.free_memory import STATM
data = open(sys.argv[1], "rb").read()
decode(data, max_pixels=10**9)
size = int(STATM.read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (100 << 20),) * 2)
try:
    decode(data, max_pixels=10**9)
except LowMemoryError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_picture_that_does_not_fit_into_memory_is_not_a_broken_one(tmp_path: Path) -> None:
    """A worker with too little memory must not leave a picture out that others embed."""
    path = tmp_path / "large.png"
    Image.new("L", (8000, 8000)).save(path)
    found = subprocess.run([sys.executable, "-c", DECODE, str(path)], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("decoding a picture of 8000 × 8000 pixels needs up to 1,091 MB of memory, and ")


def test_a_picture_that_asks_for_too_much_where_memory_is_free_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Image.Image) -> None:
        raise MemoryError

    data = encoded(scene(0), "BMP")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(DecodeError, match="cannot decode: MemoryError"):
        decode(data)


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")])
def test_a_shard_without_memory_is_tried_again_and_says_what_helps(error: Exception, tmp_path: Path) -> None:
    def work(shard: Shard) -> None:
        raise error

    failed = perform(work, tmp_path, Shard(0, 0, 1))  # type: ignore[arg-type]
    assert isinstance(failed, Failed) and failed.fatal is None
    assert failed.text.startswith(f"out of memory ({type(error).__name__}: {error}). Run fewer tasks on a machine")
