"""Six annotators at once, as fast as their clients can: pairs given to too many people, and lost labels.

    python benchmarks/annotators_at_once.py [--quick] [--seconds 60] [--database sqlite|postgresql|both]

Each client requests the next pair of its own project and labels it, while `ndec annotate pull` runs again and again. A
pair may reach only the people in the tasks table, and labels.parquet must hold every label that Label Studio confirmed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from annotation_load import NAMES, database, make_pairs  # noqa: E402
from report import write_report  # noqa: E402

from ndec_builder.annotation import pull, push  # noqa: E402
from ndec_builder.annotation.label_studio import projects  # noqa: E402
from ndec_builder.annotation.label_studio.connection import Connection, own_connection  # noqa: E402
from ndec_builder.annotation.label_studio.server import LabelStudioServer  # noqa: E402
from ndec_builder.annotation.settings import PullConfig, PushConfig  # noqa: E402
from ndec_builder.annotation.tables import AnnotationTables  # noqa: E402
from ndec_builder.core.storage import read_table  # noqa: E402
from ndec_builder.core.workspace import Workspace  # noqa: E402
from support.annotators import Annotator  # noqa: E402
from support.needs import free_port  # noqa: E402

PAIRS = 20_000


def race(workspace: Workspace, connection: Connection, seconds: float, url: str = "") -> dict[str, float]:
    """Let everybody label for `seconds`; counts of labels, of pairs beyond the overlap, of lost and of wrong labels."""
    config = PushConfig(workspace.root, annotators=tuple(NAMES), overlap=0.1, image_url="http://127.0.0.1:1", url=url)
    tasks = read_table(push.run(config)).to_pylist()
    there = projects.find_projects(connection.client())
    stop = threading.Event()
    people = {}
    for name in NAMES:
        number = there[projects.project_key(workspace, "test", "first", name)].id
        people[name] = Annotator(lambda: connection.url, connection.token, lambda number=number: number, stop)  # type: ignore[misc]
    threads = [threading.Thread(target=person.work) for person in people.values()]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    pulls = 0
    while time.monotonic() - begun < seconds:
        pull.run(PullConfig(workspace.root, url=url))
        pulls += 1
        time.sleep(min(2.0, max(0.0, seconds - (time.monotonic() - begun))))
    lasted = time.monotonic() - begun  # longer than asked for where the last pull took its time
    stop.set()
    for thread in threads:
        thread.join()
    labels = read_table(pull.run(PullConfig(workspace.root, url=url))).to_pylist()
    given_to: dict[str, set[str]] = defaultdict(set)
    handed_to: dict[str, set[str]] = defaultdict(set)
    for row in tasks:
        given_to[row["pair_id"]].add(row["annotator"])
    for name, person in people.items():
        for pair in person.handed:
            handed_to[pair].add(name)
    pulled = {(row["annotator"], row["pair_id"]): row["label"] for row in labels}
    saved = {(name, pair): label for name, person in people.items() for pair, label in person.saved.items()}
    latency = sorted(second for person in people.values() for second in person.seconds)
    return {
        "labels": len(saved),
        "a second": len(saved) / lasted,
        "slowest in a hundred, s": latency[int(0.99 * len(latency))] if latency else 0.0,
        "pulls meanwhile": pulls,
        "beyond the overlap": sum(not handed <= given_to[pair] for pair, handed in handed_to.items()),
        "lost": sum(key not in pulled for key in saved),
        "wrong": sum(pulled.get(key, label) != label for key, label in saved.items()),
        "not given by anybody": sum(key not in saved for key in pulled),
        "errors": sum(len(person.errors) for person in people.values()),
        "incidents": AnnotationTables(workspace, "test").incidents.num_rows,
    }


BAD = ("beyond the overlap", "lost", "wrong", "not given by anybody", "incidents")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    given = parser.parse_args()
    seconds = given.seconds or (10 if given.quick else 60)
    kinds = ("sqlite", "postgresql") if given.database == "both" else (given.database,)
    found = {}
    for kind in kinds:
        with tempfile.TemporaryDirectory(prefix="ndec-race-") as folder, database(kind) as address:
            workspace = Workspace(Path(folder) / "bench")
            make_pairs(workspace, 2000 if given.quick else PAIRS)
            with LabelStudioServer(workspace.label_studio, free_port(), database=address, wait=900) as server:
                found[kind] = race(workspace, own_connection(workspace, server.url, ""), seconds)
    names = next(iter(found.values()))
    rows = [(name, *(f"{found[kind][name]:.4g}" for kind in kinds), "0" if name in BAD else "") for name in names]
    title = f"Six annotators at once for {seconds:.0f} s"
    write_report("annotators_at_once", title, ("what", *kinds, "limit"), rows, given.quick)
    sys.exit(1 if any(result[name] for result in found.values() for name in BAD) else 0)


if __name__ == "__main__":
    main()
