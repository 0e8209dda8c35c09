"""Kill server, database, `push` and `pull` with SIGKILL at random times: no label is lost, no pair assigned twice.

    python tests/faults/kill_annotation.py [--quick] [--kills 50] [--minutes M] [--seed 0] [--database KIND]

Two annotators label through the API without a pause while pairs are added. One of the processes is killed after a
random part of its usual time, and the same command runs again. With PostgreSQL, its main process or all of its
processes are killed too, and it starts again on its data while Label Studio keeps running. At the end the labels that
Label Studio confirmed are compared with labels.parquet, its tasks with the tasks table, and each labels.parquet with
the start of the next one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from annotation_load import make_pairs  # noqa: E402
from report import write_report  # noqa: E402

from ndec_builder.annotation.label_studio import projects  # noqa: E402
from ndec_builder.annotation.label_studio.connection import own_connection  # noqa: E402
from ndec_builder.annotation.label_studio.server import LabelStudioServer, running_state  # noqa: E402
from ndec_builder.annotation.tables import AnnotationTables  # noqa: E402
from ndec_builder.core.storage import read_table  # noqa: E402
from ndec_builder.core.workspace import Workspace  # noqa: E402
from support.annotators import Annotator  # noqa: E402
from support.needs import free_port  # noqa: E402
from support.postgres import Postgres, find_binaries, running_postgres  # noqa: E402

NAMES = ("ann", "ben")
PATIENCE = 900.0  # seconds: on a busy machine a start of Label Studio takes minutes
FIRST, MORE = 300, 40  # pairs at the start, and added before each kill of a push


@dataclass
class Fault:
    """One run: what was killed, and what was found afterwards."""

    kills: Counter[str] = field(default_factory=Counter)
    ended_before: Counter[str] = field(default_factory=Counter)  # the process was faster than the kill
    rewritten: int = 0  # times that labels.parquet did not begin with what it held before


class Bench:
    """A workspace, its server, and two annotators who never stop."""

    def __init__(self, root: Path, server: LabelStudioServer, seed: int, database: Postgres | None = None) -> None:
        self.database = database
        self.workspace, self.server, self.random = Workspace(root), server, random.Random(seed)
        self.pairs, self.fault, self.typical = FIRST, Fault(), {"push": 4.0, "pull": 4.0}
        self.stop = threading.Event()
        self.numbers: dict[str, int] = {}
        token = own_connection(self.workspace, server.url, "").token
        self.people = {
            name: Annotator(lambda: server.url, token, lambda name=name: self.numbers.get(name), self.stop, True, 0.05)  # type: ignore[misc]
            for name in NAMES
        }
        self.threads = [threading.Thread(target=person.work, daemon=True) for person in self.people.values()]

    def command(self, verb: str) -> subprocess.Popen[bytes]:
        annotators = [part for name in NAMES for part in ("--annotator", name)] if verb == "push" else []
        arguments = [sys.executable, "-m", "ndec_builder", "annotate", verb, "--workspace", str(self.workspace.root)]
        log = (self.workspace.root / "commands.log").open("ab")
        with log:
            return subprocess.Popen([*arguments, *annotators], stdout=log, stderr=log)

    def finish(self, verb: str) -> None:
        """Run the command to its end."""
        begun = time.monotonic()
        code = self.command(verb).wait(PATIENCE)
        if code != 0:
            log = (self.workspace.root / "commands.log").read_text(errors="replace")
            raise AssertionError(f"`{verb}` ended with {code} after a kill: {log[-1500:]}")
        self.typical[verb] = time.monotonic() - begun

    def kill_command(self, verb: str) -> None:
        if verb == "push":
            self.pairs += MORE
            make_pairs(self.workspace, self.pairs)
        before = AnnotationTables(self.workspace, "test").labels
        process = self.command(verb)
        # The first half is Python loading libraries: kills there prove little.
        time.sleep(self.random.uniform(0.4, 1.05) * self.typical[verb])
        if process.poll() is None:
            process.kill()
            self.fault.kills[verb] += 1
        else:
            self.fault.ended_before[verb] += 1
        process.wait()
        self.finish(verb)
        after = AnnotationTables(self.workspace, "test").labels
        self.fault.rewritten += not after.slice(0, before.num_rows).equals(before)

    def kill_server(self) -> None:
        """End the server in the middle of labelling, and half the time of a push or pull too; start it again."""
        self.pairs += MORE
        make_pairs(self.workspace, self.pairs)
        verb = self.random.choice(["push", "pull", ""])
        process = self.command(verb) if verb else None
        time.sleep(self.random.uniform(0.2, 1.0) * self.typical.get(verb, 2.0))
        state = running_state(self.server.data)
        assert state is not None
        os.killpg(state["pid"], signal.SIGKILL)
        self.fault.kills["server"] += 1
        if process is not None:
            process.wait(PATIENCE)
        self.server.stop()
        self.server.start()
        self.finish("push")
        self.finish("pull")

    def kill_database(self) -> None:
        """End PostgreSQL in the middle of labelling, and half the time of a push or pull too; start it again."""
        assert self.database is not None
        self.pairs += MORE
        make_pairs(self.workspace, self.pairs)
        verb = self.random.choice(["push", "pull"])
        process = self.command(verb)
        time.sleep(self.random.uniform(0.4, 1.0) * self.typical[verb])
        self.database.kill(everything=self.random.random() < 0.5)
        self.fault.kills["database"] += 1
        time.sleep(self.random.uniform(0.0, 2.0))
        self.database.start()
        process.wait(PATIENCE)
        self._wait_for_label_studio()
        self.finish("push")
        self.finish("pull")

    def _wait_for_label_studio(self) -> None:
        """Each of its threads notices at its next request that its connection to the database is gone."""
        client, deadline, good = own_connection(self.workspace, self.server.url, "").client(), time.monotonic() + 120, 0
        while good < 20:
            try:
                projects.find_projects(client)
                good += 1
            except Exception:
                if time.monotonic() > deadline:
                    raise
                good = 0
                time.sleep(0.2)

    def find_projects(self) -> None:
        client = own_connection(self.workspace, self.server.url, "").client()
        there = projects.find_projects(client)
        self.numbers = {name: there[projects.project_key(self.workspace, "test", "first", name)].id for name in NAMES}

    def run(self, victims: Iterable[str], kills: int | None = None, minutes: float = 1e9) -> dict[str, int]:
        """Kill in this order until there were `kills` real ones or the time is up; returns what was found.

        `victims`: server, database, push or pull.
        """
        deadline = time.monotonic() + 60 * minutes
        make_pairs(self.workspace, self.pairs)
        self.finish("push")
        self.find_projects()
        for thread in self.threads:
            thread.start()
        for victim in victims:
            if time.monotonic() > deadline or (kills is not None and self.fault.kills.total() >= kills):
                break
            time.sleep(self.random.uniform(0.0, 0.5))
            if victim == "server":
                self.kill_server()
            elif victim == "database":
                self.kill_database()
            else:
                self.kill_command(victim)
        self.stop.set()
        for thread in self.threads:
            thread.join(120)
        self.finish("push")
        self.finish("pull")
        return self.compare()

    def compare(self) -> dict[str, int]:
        client = own_connection(self.workspace, self.server.url, "").client()
        tasks = read_table(self.workspace.annotation("test") / "tasks.parquet").to_pylist()
        labels = AnnotationTables(self.workspace, "test").labels.to_pylist()
        pulled = {(row["annotator"], row["pair_id"]): row["label"] for row in labels}
        saved = {(name, p): label for name, person in self.people.items() for p, label in person.saved.items()}
        there: Counter[tuple[str, str]] = Counter()
        for name, number in self.numbers.items():
            for task in client.tasks.list(project=number, page_size=1000, include="id,data"):
                there[name, task.data["pair_id"]] += 1
        given = Counter((row["annotator"], row["pair_id"]) for row in tasks)
        return {
            "labels confirmed": len(saved),
            "lost labels": sum(key not in pulled for key in saved),
            "wrong labels": sum(pulled.get(key, label) != label for key, label in saved.items()),
            "labels twice in the table": len(labels) - len(pulled),
            "table rewritten": self.fault.rewritten,
            "pairs in the table": len(given),
            "pairs given out twice": sum(number > 1 for number in given.values()),
            "double tasks": sum(number > 1 for number in there.values()),
            "missing tasks": sum(key not in there for key in given),
            "tasks of nobody": sum(key not in given for key in there),
            "false incidents": AnnotationTables(self.workspace, "test").incidents.num_rows,
            "tracebacks of ndec": (self.workspace.root / "commands.log").read_text(errors="replace").count("Traceback"),
        }


BAD = (
    "lost labels", "wrong labels", "labels twice in the table", "table rewritten", "pairs given out twice",
    "double tasks", "missing tasks", "tasks of nobody", "false incidents", "tracebacks of ndec",
)  # fmt: skip


@contextlib.contextmanager
def started(kind: str) -> Iterator[Postgres | None]:
    """A PostgreSQL of our own for the time of the run; None for SQLite."""
    if kind == "sqlite":
        yield None
        return
    binaries = find_binaries()
    if binaries is None:
        raise SystemExit("PostgreSQL is not installed here: the package is called `postgresql`")
    with running_postgres(binaries) as server:
        os.environ["NDEC_DATABASE_PASSWORD"] = server.password
        yield server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9, help="start no further kill after so long")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    given = parser.parse_args()
    count = given.kills or (4 if given.quick else 50)
    # A command may end before it is killed: then the next one makes up for it.
    victims = ("push", "pull", "server", "pull", "push")
    if given.database == "postgresql":
        victims = ("database", "push", "database", "pull", "database")
    order = islice(cycle(victims), 3 * count)
    with tempfile.TemporaryDirectory(prefix="ndec-kills-") as folder, started(given.database) as database:
        root = Path(folder) / "bench"
        root.mkdir()
        server = LabelStudioServer(
            Workspace(root).label_studio,
            free_port(),
            image_url="http://i",
            wait=PATIENCE,
            database=database.address if database else "",
        )
        begun = time.monotonic()
        try:
            with server:
                bench = Bench(root, server, given.seed, database)
                found = bench.run(order, count, given.minutes)
        except KeyboardInterrupt:
            raise SystemExit("interrupted: nothing was compared, and no table is written") from None
    kills, early = bench.fault.kills, bench.fault.ended_before
    rows = [("kills", f"{kills.total()}: " + ", ".join(f"{n} of {v}" for v, n in sorted(kills.items())), str(count))]
    rows.append(("ended before the kill", str(early.total()), ""))
    rows += [(name, str(value), "0" if name in BAD else "") for name, value in found.items()]
    rows.append(("seconds", f"{time.monotonic() - begun:.0f}", ""))
    victim = "database" if database else "server"
    title = f"kill -9 of {victim}, push and pull ({given.database}, seed {given.seed})"
    name = "kill_annotation" + ("_postgresql" if given.database == "postgresql" else "")
    write_report(name, title, ("what", "found", "limit"), rows, given.quick, Path(__file__).parent / "results")
    sys.exit(1 if any(found[name] for name in BAD) or kills.total() < count else 0)


if __name__ == "__main__":
    main()
