"""A large annotation on a real Label Studio: seconds and memory of push, pull and status.

    python benchmarks/annotation_load.py [--quick] [--pairs N] [--database postgresql]

150,000 pairs for six annotators, a tenth of them for two; then 1,000 labels through the API (not measured), a pull of
all new labels and, after 200 more, an incremental pull; status; and a push with nothing to do. No images are needed,
because nobody opens the page.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from report import write_report  # noqa: E402

from ndec_builder.annotation.label_studio import projects  # noqa: E402
from ndec_builder.annotation.label_studio.connection import Connection, own_connection  # noqa: E402
from ndec_builder.annotation.label_studio.server import LabelStudioServer, running_state  # noqa: E402
from ndec_builder.annotation.label_studio.server_snapshot import ServerSnapshot  # noqa: E402
from ndec_builder.annotation.tables import AnnotationTables  # noqa: E402
from ndec_builder.core.schemas import CANDIDATES, pair_id, table_of  # noqa: E402
from ndec_builder.core.storage import read_table, write_table  # noqa: E402
from ndec_builder.core.workspace import Workspace  # noqa: E402
from support.annotators import Annotator  # noqa: E402
from support.needs import free_port  # noqa: E402
from support.postgres import find_binaries, postgres  # noqa: E402

PAIRS, QUICK_PAIRS, PEOPLE = 150_000, 3_000, 6
NAMES = [f"person-{i + 1}" for i in range(PEOPLE)]


def make_pairs(workspace: Workspace, count: int) -> None:
    """A candidates table of `count` pairs: ids as long as real ones."""
    queries = [f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}" for i in range(count)]
    rows = [
        {"pair_id": pair_id("test", q, f"r{i:09d}"), "split": "test", "query_id": q, "reference_id": f"r{i:09d}",
         "score": 1 - i / count, "score_normalized": 1 - i / count, "rank": i + 1}
        for i, q in enumerate(queries)
    ]  # fmt: skip
    write_table(workspace.candidates("test") / "candidates.parquet", table_of(CANDIDATES, rows))


@contextlib.contextmanager
def database(kind: str) -> Iterator[str]:
    """The setting `database`; a PostgreSQL of our own for the time of the run."""
    if kind == "sqlite":
        yield ""
        return
    binaries = find_binaries()
    if binaries is None:
        raise SystemExit("PostgreSQL is not installed here: the package is called `postgresql`")
    with postgres(binaries) as (address, password):
        os.environ["NDEC_DATABASE_PASSWORD"] = password
        yield address


def peak_memory(pid: int) -> float:
    """Largest resident size so far of a process and its children, GB."""
    kilobytes = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            text = status.read_text()
            facts = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
            if int(facts["Pid"]) == pid or int(facts["PPid"]) == pid:
                kilobytes += int(facts.get("VmHWM", "0 kB").split()[0])
    return kilobytes * 1024 / 1e9


def ndec(*arguments: str) -> tuple[float, float]:
    """Run a verb in a process of its own: (seconds, largest memory of any such process so far in GB)."""
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "ndec_builder", "annotate", *arguments], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9


def give_labels(connection: Connection, workspace: Workspace, count: int) -> int:
    """`count` labels through the API by all six people; returns how many were saved."""
    there = projects.find_projects(connection.client())
    numbers = [there[projects.project_key(workspace, "test", "first", name)].id for name in NAMES]
    stop = threading.Event()
    people = [
        Annotator(lambda: connection.url, connection.token, lambda number=number: number, stop) for number in numbers
    ]  # type: ignore[misc]
    threads = [threading.Thread(target=person.work) for person in people]
    for thread in threads:
        thread.start()
    while sum(len(person.saved) for person in people) < count and any(thread.is_alive() for thread in threads):
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    return sum(len(person.saved) for person in people)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    given = parser.parse_args()
    pairs = given.pairs or (QUICK_PAIRS if given.quick else PAIRS)
    many, few = (100, 50) if given.quick else (1000, 200)
    with tempfile.TemporaryDirectory(prefix="ndec-load-") as folder, database(given.database) as address:
        workspace = Workspace(Path(folder) / "bench")
        make_pairs(workspace, pairs)
        place = ("--workspace", str(workspace.root))
        with LabelStudioServer(
            workspace.label_studio, free_port(), image_url="http://127.0.0.1:8701", database=address
        ) as s:
            connection = own_connection(workspace, s.url, "http://127.0.0.1:8701")
            people = [part for name in NAMES for part in ("--annotator", name)]
            push, memory = ndec("push", *place, *people, "--overlap", "0.1")
            tasks = read_table(workspace.annotation("test") / "tasks.parquet")
            again, _ = ndec("push", *place, *people, "--overlap", "0.1")
            saved = give_labels(connection, workspace, many)
            pull, _ = ndec("pull", *place)
            saved += give_labels(connection, workspace, few)
            incremental, _ = ndec("pull", *place)
            status, pull_memory = ndec("status", *place)
            state = running_state(workspace.label_studio)
            server = peak_memory(state["pid"]) if state else 0.0
            labels = read_table(workspace.annotation("test") / "labels.parquet")
            held = sum(len(ServerSnapshot(AnnotationTables(workspace, "test")).tasks_of(p.id)) for p in
                       projects.find_projects(connection.client()).values())  # fmt: skip
            right = labels.num_rows == saved and held == tasks.num_rows
            right = right and AnnotationTables(workspace, "test").incidents.num_rows == 0
    rows = [
        ("pairs pushed", f"{pairs:,} ({tasks.num_rows:,} tasks)", ""),
        ("push", f"{push:.0f} s", "≤ 360 s at 150,000 pairs"),
        ("push again, nothing to do", f"{again:.1f} s", ""),
        (f"pull after {many:,} new labels", f"{pull:.1f} s", "≤ 10 s"),
        (f"pull after {few} more", f"{incremental:.1f} s", "≤ 10 s"),
        ("status", f"{status:.1f} s", "≤ 2 s"),
        ("peak memory, ndec", f"{max(memory, pull_memory):.2f} GB", "≤ 2 GB"),
        ("peak memory, Label Studio", f"{server:.2f} GB", "≤ 2 GB"),
        ("labels saved = labels pulled, tasks sent = tasks there", "yes" if right else "NO", "yes"),
    ]
    name = "annotation_load" + ("_postgresql" if given.database == "postgresql" else "")
    write_report(name, f"Annotation at scale ({given.database})", ("what", "measured", "limit"), rows, given.quick)
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
