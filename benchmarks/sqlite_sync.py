"""What waiting for the disk costs: Label Studio on SQLite with `synchronous=FULL`, as ndec sets it, and with NORMAL.

    python benchmarks/sqlite_sync.py [--quick] [--labels N]

Two servers run at once, on copies of one database, and one client saves a label on each in turn, as the page does: get
the next task, save its annotation. Both meet the same load, so their difference is the cost. Afterwards the same is
done with bare transactions of the size of one label, without a server. FULL is needed because in WAL mode NORMAL may
lose the last confirmed labels at a power cut.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sqlite3
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from report import write_report  # noqa: E402

from ndec_builder.annotation.label_studio import server  # noqa: E402
from ndec_builder.annotation.label_studio.connection import own_connection  # noqa: E402
from ndec_builder.annotation.label_studio.projects import create_project  # noqa: E402
from ndec_builder.core.workspace import Workspace  # noqa: E402
from support.annotators import Annotator  # noqa: E402
from support.needs import free_port  # noqa: E402

ARCHIVE = ROOT / "tests" / "data" / "workspace_59c392b.tar.xz"  # a small database, so that no server makes its tables
SETTINGS = "ndec_label_studio_settings.py"
MODES = ("NORMAL", "FULL")
FILES = server._SERVER_FILES


@contextlib.contextmanager
def labelling(folder: Path, mode: str, labels: int) -> Iterator[Callable[[], None]]:
    """A server in this mode with `labels` open tasks; the function that it yields saves one label."""
    workspace, files = Workspace(folder / mode), folder / f"server-files-{mode}"
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(workspace.root, filter="data")
    shutil.copytree(FILES, files)
    text = (files / SETTINGS).read_text("utf-8")
    assert "PRAGMA synchronous=FULL" in text
    (files / SETTINGS).write_text(text.replace("synchronous=FULL", f"synchronous={mode}"), "utf-8")
    server._SERVER_FILES = files
    with server.LabelStudioServer(workspace.label_studio, free_port(), image_url="http://127.0.0.1:1") as started:
        connection = own_connection(workspace, started.url, "http://127.0.0.1:1")
        client = connection.client()
        project = create_project(client, workspace, "test", "first", "sync", "http://127.0.0.1:1").id
        tasks = [
            {"data": {"pair_id": f"{number:016x}", "query": "/q", "reference": "/r", "position": number}}
            for number in range(labels)
        ]
        client.projects.import_tasks(id=project, request=tasks)
        person = Annotator(lambda: started.url, connection.token, lambda: project, threading.Event())

        def save(session: object) -> None:
            if not person._one(session):  # type: ignore[arg-type]
                raise SystemExit(f"no task is left, or {person.errors}")

        import requests

        with requests.Session() as session:
            session.headers["Authorization"] = f"Token {connection.token}"
            yield lambda: save(session)
        assert len(person.saved) == labels and not person.errors


def in_turn(works: dict[str, Callable[[], None]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each call; the order within a round alternates."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        for name in sorted(works, reverse=bool(number % 2)):
            begun = time.perf_counter()
            works[name]()
            seconds[name].append(time.perf_counter() - begun)
    return {name: np.array(values) for name, values in seconds.items()}


@contextlib.contextmanager
def transactions(folder: Path, mode: str) -> Iterator[Callable[[], None]]:
    """A database in this mode; the function that it yields commits one row of the size of an annotation."""
    database = sqlite3.connect(folder / f"bare-{mode}.sqlite3", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(f"PRAGMA synchronous={mode}")
    database.execute("CREATE TABLE annotation (id INTEGER PRIMARY KEY, result TEXT)")

    def commit() -> None:
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO annotation (result) VALUES (?)", ("x" * 500,))
        database.execute("COMMIT")

    with contextlib.closing(database):
        yield commit


def row(name: str, found: dict[str, np.ndarray]) -> list[str]:
    cells = [f"{1000 * np.median(found[m]):.1f} ({1000 * np.quantile(found[m], 0.9):.1f})" for m in MODES]
    difference = 1000 * (found["FULL"] - found["NORMAL"])
    draws = np.random.default_rng(0).choice(difference, (2000, len(difference)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return [name, str(len(difference)), *cells, f"{np.median(difference):+.1f} [{low:+.1f}, {high:+.1f}]"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--labels", type=int)
    given = parser.parse_args()
    labels = given.labels or (20 if given.quick else 300)
    with tempfile.TemporaryDirectory(prefix="ndec-sync-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)  # on a disk: memory has nothing to wait for
        works = {mode: stack.enter_context(labelling(folder, mode, labels)) for mode in MODES}
        saved = in_turn(works, labels)
        bare = in_turn({mode: stack.enter_context(transactions(folder, mode)) for mode in MODES}, 10 * labels)
    rows = [row("label saved by Label Studio (next task, annotation)", saved), row("one bare transaction", bare)]
    head = ("what", "pairs of runs", *(f"{mode}: median (90 %) in ms" for mode in MODES), "FULL − NORMAL, ms [95 %]")
    write_report("sqlite_sync", "SQLite: waiting for the disk at every label", head, rows, given.quick)


if __name__ == "__main__":
    main()
