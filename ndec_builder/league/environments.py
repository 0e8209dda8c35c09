"""The virtual environments of the peers. Each is separate, so that the pins of a peer change nothing else."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError, UsageError, nearest

ADAPTERS = Path(__file__).parent / "adapters"
_MARKER = ".ndec-installed"
_CONSTANTS = ("REQUIRES", "COMPARE", "THRESHOLD", "THRESHOLD_SOURCE", "LIMITS")
COMPARISONS = ("hamming", "cosine", "distance", "decision")


@dataclass(frozen=True)
class Peer:
    """A detector of others. requires: what pip installs, the tool first · compare: what its values are (`COMPARISONS`)
    · threshold: its authors' default in its own unit, None if they name none · source: where they say so."""

    name: str
    adapter: Path
    requires: tuple[str, ...]
    compare: str
    threshold: float | None
    source: str
    limits: str

    @property
    def distances(self) -> bool:
        """Whether lower values of the tool are more alike; its scores are minus these values."""
        return self.compare in ("hamming", "distance")

    @property
    def score_threshold(self) -> float | None:
        """The default as a score, where higher is more alike."""
        return None if self.threshold is None else -self.threshold if self.distances else self.threshold

    @property
    def environment(self) -> Path:
        """The folder of its environment; peers that need the same packages share one."""
        first = re.sub(r"[^a-z0-9.]+", "-", self.requires[0].lower())
        return environments_folder() / first

    @property
    def python(self) -> Path:
        """The peer's own Python; ndec's for an adapter that requires nothing."""
        return self.environment / "bin" / "python" if self.requires else Path(sys.executable)

    def version(self) -> str | None:
        """The installed version of the tool; None if it is not installed, empty if it requires nothing."""
        if not self.requires:
            return ""
        name = _distribution(self.requires[0])
        for path in sorted(self.environment.glob("lib*/python3*/site-packages/*.dist-info")):
            found, _, version = path.name.removesuffix(".dist-info").rpartition("-")
            if _distribution(found) == name:
                return version
        return None

    @property
    def tested_version(self) -> str:
        """The version that the adapter was written for."""
        return self.requires[0].partition("==")[2] if self.requires else ""

    @property
    def tool(self) -> str:
        """The name of the package."""
        return self.requires[0].partition("==")[0] if self.requires else ""


def environments_folder() -> Path:
    """`$NDEC_LEAGUE`, else `league` in `$NDEC_CACHE` or the user's cache folder."""
    if named := os.environ.get("NDEC_LEAGUE"):
        return Path(named)
    cache = os.environ.get("NDEC_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(cache) if cache else home / "ndec") / "league"


def built_in() -> tuple[str, ...]:
    """Names of the peers that come with ndec."""
    return tuple(path.stem for path in sorted(ADAPTERS.glob("*.py")) if path.stem != "__init__")


def find_peer(name: str) -> Peer:
    """The peer of a built-in name or of an adapter file. Raises UsageError for an unknown name or a bad file.

    The constants are read without running the file: it imports its tool only in the tool's own environment.
    """
    path = Path(name) if name.endswith(".py") else ADAPTERS / f"{name}.py"
    if not path.is_file():
        raise UsageError(
            f"there is no detector {name!r}{nearest(name, list(built_in()), '.')} Known: {', '.join(built_in())}; or "
            "the file of an adapter"
        )
    try:
        tree = ast.parse(path.read_text("utf-8"))
        values: dict[str, Any] = {
            target.id: ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and target.id in _CONSTANTS
        }
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"the adapter {path} cannot be read: {error}; its constants must be plain values") from None
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    missing = [constant for constant in _CONSTANTS if constant not in values]
    if missing or not functions & {"describe", "run"}:
        lacks = missing or ["a function describe(path) or run(folder)"]
        raise UsageError(f"the adapter {path} lacks {', '.join(lacks)}; see ndec_builder/league/adapters/pdq.py")
    if values["COMPARE"] not in COMPARISONS:
        raise UsageError(f"COMPARE of {path} is {values['COMPARE']!r}; it must be one of {', '.join(COMPARISONS)}")
    return Peer(
        path.stem, path, tuple(values["REQUIRES"]), values["COMPARE"], values["THRESHOLD"],
        values["THRESHOLD_SOURCE"], values["LIMITS"],
    )  # fmt: skip


def install(name: str) -> Path:
    """Make the environment of a peer and install it; returns the folder. Does nothing if it is complete.

    Raises UsageError for an unknown name, NdecError if pip fails, as without a network.
    """
    peer = find_peer(name)
    if not peer.requires:
        raise UsageError(f"{name} requires nothing, so there is nothing to install; it runs with ndec's own Python")
    folder, wanted = peer.environment, " ".join(peer.requires) + "\n"
    marker = folder / _MARKER
    if marker.is_file() and marker.read_text("utf-8") == wanted:
        return folder
    marker.unlink(missing_ok=True)
    say(f"installing {' '.join(peer.requires)} into {folder}")
    # The environment gets no pip of its own, which would take longer than what it is for; ndec's installs into it.
    own = importlib.util.find_spec("pip") is None
    without = [] if own else ["--without-pip"]
    _run([sys.executable, "-m", "venv", *without, str(folder)], "make a virtual environment")
    pip = [str(peer.python), "-m", "pip"] if own else [sys.executable, "-m", "pip", "--python", str(peer.python)]
    _run([*pip, "install", "--quiet", "--disable-pip-version-check", *peer.requires], f"install {name}")
    marker.write_text(wanted, "utf-8")
    return folder


def _distribution(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>!~ \[]", requirement)[0]).lower()


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise NdecError(
            f"could not {what} (exit code {done.returncode}): {' / '.join(lines)}; the package index must be "
            "reachable. Fix that and run it again"
        )
