"""The virtual environment of the Label Studio server, which pins many packages, and its empty database."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ndec_builder.core.console import say, waiting
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import atomic_path

LABEL_STUDIO_VERSION = "1.23.2"  # the page's layout and the API calls are tested with this version
_MARKER = ".ndec-installed"
DATABASE = "label_studio.sqlite3"  # in the data folder
_SERVER_FILES = Path(__file__).parent / "server_files"
SETTINGS = {  # of every process of the server
    "PYTHONPATH": str(_SERVER_FILES),
    "PYTHONDONTWRITEBYTECODE": "1",  # the folder may be read-only
    "DJANGO_SETTINGS_MODULE": "ndec_label_studio_settings",
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
}


def default_environment() -> Path:
    """The folder of the server's environment.

    `$NDEC_LABEL_STUDIO`; else the one that `make install` made next to this environment (`.venv-label-studio` next to
    `.venv`), if it exists; else `label-studio-VERSION` in `$NDEC_CACHE` or the user's cache folder.
    """
    if named := os.environ.get("NDEC_LABEL_STUDIO"):
        return Path(named)
    neighbour = Path(f"{sys.prefix}-label-studio")
    if neighbour.is_dir():
        return neighbour
    cache = os.environ.get("NDEC_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(cache) if cache else home / "ndec") / f"label-studio-{LABEL_STUDIO_VERSION}"


def installed_version(env: Path) -> str | None:
    """Version of label-studio in a virtual environment, read from its metadata; None if it is not installed."""
    found = sorted(env.glob("lib*/python3*/site-packages/label_studio-*.dist-info"))
    return found[0].name.removeprefix("label_studio-").removesuffix(".dist-info") if found else None


def find_server(env: Path | None = None) -> Path:
    """Return the path of the `label-studio` program.

    Raises NdecError if the environment has none, or a different version than LABEL_STUDIO_VERSION.
    """
    env = env or default_environment()
    program, version = env / "bin" / "label-studio", installed_version(env)
    if version is None or not program.is_file():
        raise NdecError(
            f"the Label Studio server is not installed in {env}; run `ndec annotate install`, "
            "or set NDEC_LABEL_STUDIO to a virtual environment that has it"
        )
    if version != LABEL_STUDIO_VERSION:
        raise NdecError(
            f"{env} has Label Studio {version}, but ndec is tested with {LABEL_STUDIO_VERSION}; "
            f"run `ndec annotate install --upgrade`, or set NDEC_LABEL_STUDIO to a different folder"
        )
    return program


def install(env: Path | None = None, *, upgrade: bool = False) -> Path:
    """Make the environment and install the server into it; returns its folder. Does nothing if it is complete.

    The next call completes an install that was killed. `upgrade` replaces a different version with
    LABEL_STUDIO_VERSION. Raises NdecError if pip fails, or if a different version is installed without `upgrade`.
    """
    env = env or default_environment()
    found = installed_version(env)
    if found == LABEL_STUDIO_VERSION and (env / _MARKER).is_file():
        make_empty_database(env)
        return env
    if found not in (None, LABEL_STUDIO_VERSION) and not upgrade:
        find_server(env)
    (env / _MARKER).unlink(missing_ok=True)
    empty_database(env).unlink(missing_ok=True)  # a different version has different tables
    say(f"installing Label Studio {LABEL_STUDIO_VERSION} into {env} (about 1 GB, a minute or two)")
    _run([sys.executable, "-m", "venv", str(env)], "make a virtual environment")
    pip = [str(env / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, f"label-studio=={LABEL_STUDIO_VERSION}"], "install label-studio")
    find_server(env)
    (env / _MARKER).write_text(LABEL_STUDIO_VERSION + "\n", "utf-8")
    make_empty_database(env)
    return env


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise NdecError(
            f"could not {what} (exit code {done.returncode}): {' / '.join(lines)}; fix that and run it again"
        )


def empty_database(env: Path) -> Path:
    """An empty SQLite database for new workspaces, made once for this environment. It may not exist.

    Label Studio makes its tables in about 300 migrations, half a minute of CPU time. The file holds their result: no
    user, no token and no id that must differ between workspaces.
    """
    return env / ".ndec-empty.sqlite3"


def make_empty_database(env: Path) -> None:
    """Make it if it does not exist. A failure is reported and costs nothing but the time of later first starts."""
    scripts = sorted(env.glob("lib*/python3*/site-packages/label_studio/manage.py"))
    if empty_database(env).exists() or not scripts:
        return
    with tempfile.TemporaryDirectory(prefix="ndec-empty-") as folder, waiting("making an empty Label Studio database"):
        quick = {"NDEC_SQLITE": "PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF;"}  # nothing to lose yet
        done = subprocess.run(
            [str(env / "bin" / "python"), str(scripts[0]), "migrate", "--no-color", "--verbosity=0"],
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": folder, "LABEL_STUDIO_BASE_DATA_DIR": folder}
            | SETTINGS
            | quick,
            capture_output=True, text=True, cwd=folder,
        )  # fmt: skip
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()[-2:]
            say(f"no empty database was made, so first starts take longer: {' / '.join(lines)}")
            return
        with atomic_path(empty_database(env)) as temporary:
            shutil.copyfile(Path(folder) / DATABASE, temporary)


def copy_empty_database(env: Path, data: Path) -> None:
    """Copy it into a data folder without a database, readable by the owner only.

    Not next to the write-ahead log of a lost database: SQLite would replay it into the copy.
    """
    source = empty_database(env)
    if source.is_file() and not list(data.glob(f"{DATABASE}*")):
        with atomic_path(data / DATABASE, mode=0o600) as temporary:
            shutil.copyfile(source, temporary)
