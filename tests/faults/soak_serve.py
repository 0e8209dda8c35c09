"""Memory of `ndec annotate serve` over many requests: the process that people leave running for weeks.

    python tests/faults/soak_serve.py --demo DIR [--requests 30000] [--quick]

It copies a finished demo's workspace, starts the real command (Label Studio included) and asks its image server for the
pictures of all pairs again and again from four threads, as browsers do. Of 100 requests one asks for an aligned view,
two have a wrong key, two name no pair and ten are HEAD. Every 500 requests the tables get a new change time, so that
the server reads them again. `ndec annotate status` runs as a new process each time and is not measured.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
import requests  # noqa: E402

from faults import record  # noqa: E402
from faults.process_memory import handles_of, memory_of, processor_seconds, tree_of  # noqa: E402
from faults.soak import floor_rise, slope  # noqa: E402
from ndec_builder.annotation.label_studio.credentials import image_key  # noqa: E402
from ndec_builder.annotation.label_studio.server import running_state  # noqa: E402
from ndec_builder.annotation.tables import AnnotationTables  # noqa: E402
from ndec_builder.core.workspace import Workspace  # noqa: E402
from support.needs import free_port  # noqa: E402
from support.processes import ends_with_us  # noqa: E402

LIMIT = 0.5  # MiB per 1,000 requests in the second half; a person who labels makes about 1,000 an hour
EVERY = 500  # requests between two samples


class Browser:
    """Asks for pictures; counts the answers by kind and status."""

    def __init__(self, workspace: Workspace, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.key = image_key(workspace.label_studio)
        tables = [AnnotationTables(workspace, split).require_tasks() for split in ("test", "train")]
        self.pairs = sorted({pair for table in tables for pair in table["pair_id"].to_pylist()})
        self.answers: Counter[str] = Counter()
        self._own, self._lock = threading.local(), threading.Lock()

    def ask(self, number: int) -> None:
        chance = random.Random(number)
        pair, side = chance.choice(self.pairs), chance.choice(("query", "reference"))
        kind, method, path = "picture", "GET", f"/key/{self.key}/pair/{pair}/{side}"
        match number % 100:
            case 0:
                kind, path = "view", f"/key/{self.key}/pair/{pair}/flip.webp"
            case 1 | 2:
                kind, path = "wrong key", f"/key/wrong/pair/{pair}/{side}"
            case 3 | 4:
                kind, path = "no such pair", f"/key/{self.key}/pair/none/{side}"
            case rest if rest < 15:
                kind, method = "HEAD", "HEAD"
        if not hasattr(self._own, "session"):
            self._own.session = requests.Session()
        answer = self._own.session.request(method, self.base + path, timeout=120)
        with self._lock:
            self.answers[f"{kind} {answer.status_code}"] += 1


def wait_for(workspace: Workspace, port: int, command: subprocess.Popen[bytes]) -> int:
    """The process number of Label Studio, as soon as both servers answer."""
    for _ in range(600):
        if command.poll() is not None:
            raise SystemExit(f"serve ended with {command.returncode}")
        try:
            state = running_state(workspace.label_studio)
            pages = (f"http://127.0.0.1:{port}/guideline", state["url"]) if state else ()
            if state and all(requests.get(page, timeout=5).ok for page in pages):
                return int(state["pid"])
        except (requests.RequestException, OSError):
            pass
        time.sleep(0.5)
    raise SystemExit("serve did not answer")


def measure(demo: Path, count: int) -> tuple[list[list[object]], bool]:
    with tempfile.TemporaryDirectory(prefix="ndec-soak-serve-") as name:
        root = Path(name) / "bench"
        shutil.copytree(demo, root)
        workspace, port = Workspace(root), free_port()
        words = [sys.executable, "-m", "ndec_builder", "annotate", "serve", "--workspace", str(root)]
        words += ["--port", str(free_port()), "--image-port", str(port)]
        env = os.environ | {"PYTHONPATH": str(ROOT)}  # this code, not an installed one
        with subprocess.Popen(words, stdout=sys.stderr, preexec_fn=ends_with_us(), cwd=name, env=env) as command:
            try:
                return sample(workspace, port, command, count)
            finally:
                command.send_signal(signal.SIGINT)
                command.wait(60)


def sample(
    workspace: Workspace, port: int, command: subprocess.Popen[bytes], count: int
) -> tuple[list[list[object]], bool]:
    studio = tree_of(wait_for(workspace, port, command))
    browser, memory, server, handles = Browser(workspace, port), [memory_of(command.pid)], [], []
    server.append(sum(map(memory_of, studio)))
    with ThreadPoolExecutor(4) as pool:
        for begin in range(0, count, EVERY):
            for _ in pool.map(browser.ask, range(begin, begin + EVERY)):
                pass
            for path in (*workspace.root.glob("images/*.parquet"), *workspace.root.glob("annotation/*/*.parquet")):
                os.utime(path)
            memory.append(memory_of(command.pid))
            server.append(sum(map(memory_of, studio)))
            handles.append(handles_of(command.pid))
            print(begin + EVERY, f"{memory[-1]:.1f} MiB", file=sys.stderr, flush=True)
    half = len(handles) // 2
    kept = np.array(memory[half + 1 :])
    steps = np.arange(len(kept)) * EVERY / 1000
    rise, (line, low, high) = floor_rise(steps, kept), slope(steps, kept)
    before, after = max(handles[:half]), max(handles[half:])
    expected = {"picture 200", "view 200", "wrong key 403", "no such pair 404", "HEAD 200"}
    odd = {kind: number for kind, number in browser.answers.items() if kind not in expected}
    answers = ", ".join(f"{number:,} × {kind}" for kind, number in browser.answers.most_common())
    seen = ", ".join(f"{value:.1f}" for value in (memory[0], memory[1], kept[0], kept[-1]))
    second = "MiB per 1,000 requests in the second half"
    rows: list[list[object]] = [
        ["requests", f"{count:,}", ""],
        ["answers", answers, odd or "as expected"],
        ["CPU seconds of ndec", f"{processor_seconds([command.pid]):.0f}", ""],
        [f"memory of ndec, MiB: at the start, after {EVERY}, at half, at the end", seen, ""],
        [f"{second}: all samples", f"{line:+.3f} [{low:+.3f}, {high:+.3f}]", ""],
        [f"{second}: floor", f"{rise:+.3f}", "flat" if rise < LIMIT else "GROWS"],
        ["open files: most in each half", f"{before}, {after}", "flat" if after <= before else "GROWS"],
        ["memory of Label Studio, which gets no requests, MiB: start, end", f"{server[0]:.1f}, {server[-1]:.1f}", ""],
    ]  # fmt: skip
    return rows, rise < LIMIT and after <= before and not odd


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, required=True, help="workspace of a finished demo")
    parser.add_argument("--requests", type=int, default=30_000)
    parser.add_argument("--quick", action="store_true", help="2,000 requests; writes no result file")
    given = parser.parse_args()
    rows, fine = measure(given.demo, 2_000 if given.quick else given.requests)
    notes = [
        f"Memory is anonymous MiB. Flat: its floor rises by less than {LIMIT} MiB per 1,000 requests in the second "
        "half. One request of 100 asks for an aligned view; tables are read again every 500 requests.",
    ]
    title = "Memory of `ndec annotate serve` over many requests"
    record.write("soak_serve", title, ("what", "measured", "verdict"), rows, notes, keep=not given.quick)
    sys.exit(not fine)


if __name__ == "__main__":
    main()
