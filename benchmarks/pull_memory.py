"""Peak memory of `ndec annotate pull` with many tasks and labels; a local server generates Label Studio's answers.

    python benchmarks/pull_memory.py [--quick] [--sizes N ...] [--before DIR] [--before-sizes N ...]

The server answers as Label Studio 1.23.2 does (the fields of a task were copied from one), but makes each page when it
is requested. Ten annotators have a tenth of the tasks each, and every task has a label. The first pull appends all
labels, the second compares all of them again (`--all`). --before: a checkout of an older version, measured at
--before-sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow as pa

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from report import write_report  # noqa: E402

from ndec_builder.annotation.label_studio import projects  # noqa: E402
from ndec_builder.core.schemas import LABELS, TASKS  # noqa: E402
from ndec_builder.core.storage import read_table, write_table  # noqa: E402
from ndec_builder.core.workspace import Workspace  # noqa: E402

PEOPLE, MIB, LIMIT = 10, 2**20, 500e6
NAMES = [f"person-{number}" for number in range(PEOPLE)]
IMAGES = "http://127.0.0.1:8701/key/0123456789abcdef/pair"
USER = {"id": 1, "email": "lead@example.org", "username": "lead", "first_name": "", "last_name": "", "avatar": None}


def pair_of(number: int) -> str:
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}"


def record(task: Any, project: Any, ids: str, pair: str, tag: str, moment: str, label: str) -> dict[str, Any]:
    """A task with one annotation, with every field that Label Studio sends."""
    result = [{"from_name": "verdict", "to_name": "query", "type": "choices", "value": {"choices": [label]}}]
    shown = f"[{{from_name: verdict, to_name: query, type: choices, value: {{choices: [{label}]}}}}]"
    annotation = {
        "id": task, "result": result, "created_username": " lead@example.org, 1", "created_ago": "5 minutes",
        "completed_by": 1, "was_cancelled": False, "ground_truth": False, "created_at": moment, "updated_at": moment,
        "draft_created_at": None, "lead_time": 4.2, "import_id": None, "last_action": None, "bulk_created": False,
        "task": task, "project": project, "updated_by": 1, "parent_prediction": None, "parent_annotation": None,
        "last_created_by": None,
    }  # fmt: skip
    return {
        "id": task, "predictions": [], "annotations": [annotation], "drafts": [], "annotators": [1], "inner_id": task,
        "cancelled_annotations": 0, "total_annotations": 1, "total_predictions": 0, "completed_at": moment,
        "annotations_results": shown,
        "predictions_results": "", "predictions_score": None, "file_upload": None, "storage_filename": None,
        "annotations_ids": ids, "predictions_model_versions": "", "avg_lead_time": 4.2, "draft_exists": False,
        "updated_by": [{"user_id": 1}], "meta": {}, "created_at": moment, "updated_at": moment, "is_labeled": True,
        "data": {"pair_id": pair, "query": f"{IMAGES}/{pair}.{tag}/query", "pictures": tag,
                 "reference": f"{IMAGES}/{pair}.{tag}/reference", "position": task},
        "overlap": 1, "comment_count": 0, "unresolved_comment_count": 0,
        "last_comment_updated_at": None, "project": project, "comment_authors": [],
    }  # fmt: skip


def template(wanted: Sequence[str] | None) -> str:
    """The JSON of a task as a format for `%`: encoding a million records takes longer than the pull."""
    names = ("task", "project", "ids", "pair", "tag", "moment", "label")
    made = record(*(f"<{name}>" for name in names))
    text = json.dumps({name: made[name] for name in wanted} if wanted else made).replace("%", "%%")
    for name in ("task", "project"):  # numbers
        text = text.replace(f'"<{name}>"', f"%({name})d")
    for name in names:
        text = text.replace(f"<{name}>", f"%({name})s")
    return text


def values(task: int, project: int) -> dict[str, Any]:
    """What the fields of a task depend on."""
    moment = f"2026-11-{1 + task % 28:02d}T12:{task // 60 % 60:02d}:{task % 60:02d}.123456Z"
    given = {"task": task, "project": project, "ids": str(task), "moment": moment}
    pair = pair_of(task)
    return given | {"pair": pair, "tag": pair[:8], "label": LABELS[task % 4]}


class Server(ThreadingHTTPServer):
    """Projects 1 to PEOPLE with `tasks` labelled tasks each."""

    def __init__(self, workspace: Workspace, tasks: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.daemon_threads = True
        self.tasks = tasks
        self.listed = [
            {"id": number, "title": projects.project_title(workspace, "test", "first", name),
             "description": f"ndec-key: {projects.project_key(workspace, 'test', 'first', name)}",
             "task_number": tasks, "num_tasks_with_annotations": tasks, "label_config": projects.labelling_page(False)}
            for number, name in enumerate(NAMES, 1)
        ]  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        self._answer(
            self._find(place.path.strip("/").split("/")[1:], {k: v[0] for k, v in parse_qs(place.query).items()})
        )

    def do_PATCH(self) -> None:
        """A new description: how many answers the workspace stores."""
        project = self.server.listed[int(self.path.strip("/").split("/")[2]) - 1]
        project |= json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(project)

    def _answer(self, found: Any) -> None:
        body = found if isinstance(found, bytes) else json.dumps(found or {"detail": "Invalid page."}).encode()
        self.send_response(200 if found is not None else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _find(self, path: list[str], query: dict[str, str]) -> Any:
        if path == ["version"]:
            return {"release": "1.23.2"}
        if path[0] == "current-user":
            return USER
        if path[0] == "users":
            return [USER]
        if path[0] == "projects":
            listed = self.server.listed
            every = {"count": len(listed), "next": None, "previous": None, "results": listed}
            return listed[int(path[1]) - 1] if len(path) > 1 else every if query.get("page", "1") == "1" else None
        project, size, page = int(query["project"]), int(query["page_size"]), int(query.get("page", 1))
        count, first = self.server.tasks, (project - 1) * self.server.tasks
        numbers = range(first + (page - 1) * size, first + min(page * size, count))
        text = template(query["include"].split(",") if "include" in query else None)
        tasks = ", ".join(text % values(number + 1, project) for number in numbers)
        totals = f'"total_annotations": {count}, "total_predictions": 0, "total": {count}'
        return f'{{{totals}, "tasks": [{tasks}]}}'.encode() if tasks else None

    def log_message(self, format: str, *args: object) -> None:
        pass


def make_tasks(workspace: Workspace, count: int) -> None:
    """The tasks table of a push of `count` pairs to ten annotators."""
    numbers = np.arange(count)
    pairs = [pair_of(number + 1) for number in range(count)]
    columns = {
        "pair_id": pairs, "round": ["first"] * count, "batch": np.ones(count, np.int32), "query_id": pairs,
        "annotator": [NAMES[number * PEOPLE // count] for number in range(count)],
        "position": numbers.astype(np.int32), "reference_id": [f"r{number:09d}" for number in range(count)],
        "is_gold": np.zeros(count, bool),
    }  # fmt: skip
    write_table(workspace.annotation("test") / "tasks.parquet", pa.table(columns).select(TASKS.names).cast(TASKS))


def pull(code: Path, workspace: Workspace, url: str, *more: str) -> tuple[float, float]:
    """Run the command of a checkout: (peak MiB, seconds of CPU)."""
    env = os.environ | {"PYTHONPATH": str(code), "LABEL_STUDIO_URL": url, "LABEL_STUDIO_API_KEY": "made-up"}
    command = [sys.executable, "-m", "ndec_builder", "annotate", "pull", "--workspace", str(workspace.root), *more]
    process = subprocess.Popen(command, env=env, cwd=code, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the pull ended with {process.returncode}")
    return usage.ru_maxrss * 1024 / MIB, usage.ru_utime + usage.ru_stime


def measure(code: Path, count: int, everything: bool) -> tuple[list[tuple[float, float]], bool]:
    """Peak memory and CPU time of each pull, and whether every label is in the table with its value."""
    with tempfile.TemporaryDirectory(prefix="ndec-pull-") as folder:
        workspace = Workspace(Path(folder) / "bench")
        make_tasks(workspace, count)
        with Server(workspace, count // PEOPLE) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{server.server_address[1]}"
            found = [pull(code, workspace, url, *more) for more in ((), ("--all",))[: 1 + everything]]
            server.shutdown()
        labels = read_table(workspace.annotation("test") / "labels.parquet", ["pair_id", "label"])
        wanted = pa.table({"pair_id": [pair_of(n + 1) for n in range(count)], "label": [LABELS[(n + 1) % 4] for n in
                           range(count)]}).sort_by("pair_id")  # fmt: skip
        return found, labels.sort_by("pair_id").equals(wanted.cast(labels.schema))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--before", type=Path)
    parser.add_argument("--before-sizes", type=int, nargs="*", default=[100_000])
    given = parser.parse_args()
    sizes = [2_000] if given.quick else given.sizes
    runs = [("59c392b", given.before, size, False) for size in given.before_sizes if given.before]
    runs += [("this version", ROOT, size, True) for size in sizes]
    rows, good = [], True
    for name, code, size, everything in runs:
        begun = time.monotonic()
        found, same = measure(code.absolute(), size, everything)
        good = good and same and (code != ROOT or max(memory for memory, _ in found) * MIB <= LIMIT)
        cells = [cell for memory, seconds in found for cell in (f"{memory:.0f}", f"{seconds:.0f}")]
        rows.append((name, f"{size:,}", *cells, *[""] * (4 - len(cells)), "yes" if same else "NO"))
        print(*rows[-1], f"{time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    head = ("version", "tasks = labels", "first pull, MiB", "s of CPU", "pull --all, MiB", "s of CPU",
            "every label stored")  # fmt: skip
    write_report(
        "pull_memory", f"Memory of ndec annotate pull (limit: 500 MB = {LIMIT / MIB:.0f} MiB)", head, rows, given.quick
    )
    sys.exit(not good)


if __name__ == "__main__":
    main()
