"""Forecasts of time against the time taken, and silences, of every long command, at a terminal.

    python benchmarks/forecasts.py DEMO [--only NAME …] [--keep DIR] [--quick]

DEMO is a finished workspace of `ndec demo`. It is copied to a temporary folder without its caches and results,
so that each command has work to do. Each command runs in a pseudo-terminal, as a person sees it. A forecast is the
first "0:00:40 left" of a progress bar, and the time taken counts from that moment to the end of the bar.

A silence is a time of more than 5 s without any output in which the command used more than 3 s of CPU time: on a busy
machine, waiting for a core is not the command's fault.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import asdict, dataclass, field
from fcntl import ioctl
from pathlib import Path
from typing import Any

from machine import machine, write_result

SILENT, BUSY = 5.0, 3.0  # seconds without output, seconds of CPU time in them
SHORT = 5  # forecasts of fewer seconds are not compared: they are shown in seconds
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BAR = re.compile(
    r"^\W{0,3}(?P<what>[^━╸╺]+?)\s+[━╸╺]+\s+(?P<done>[\d,.]+)/[\d,.]+\s.*?(?P<time>\d+:\d\d:\d\d)(?P<left> left)?"
)


@dataclass
class Forecast:
    """A forecast of `seconds`, made `at`, of a bar that ended at `end`."""

    what: str
    seconds: float
    at: float
    end: float


@dataclass
class Watched:
    """What one command showed, and when."""

    name: str
    seconds: float = 0.0
    cpu: float = 0.0
    code: int = 0
    forecasts: list[Forecast] = field(default_factory=list)
    silences: list[tuple[float, float, str]] = field(default_factory=list)  # seconds, CPU seconds, last words


def cpu_seconds(root: int) -> float:
    """CPU time of a process, its children and theirs, those that have ended included."""
    parents: dict[int, list[int]] = {}
    times: dict[int, float] = {}
    tick = os.sysconf("SC_CLK_TCK")
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            values = (folder / "stat").read_text().rpartition(") ")[2].split()
            parents.setdefault(int(values[1]), []).append(int(folder.name))
            times[int(folder.name)] = sum(map(int, values[11:15])) / tick
    total, open_ = 0.0, [root]
    while open_:
        process = open_.pop()
        total += times.get(process, 0.0)
        open_ += parents.get(process, [])
    return total


def watch(name: str, arguments: list[str], cwd: Path, log: Path, until: str = "") -> Watched:
    """Run a command in a pseudo-terminal; `until`: stop it when it has shown this text."""
    found = Watched(name)
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 180, 0, 0))
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "ndec_builder", *arguments], cwd=cwd, stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    last, last_cpu, last_words = start, 0.0, "(start)"
    bars: dict[str, tuple[float, Forecast | None]] = {}  # by name: the steps done, and its first forecast
    seen, rest, stopped = "", "", False
    with log.open("w") as file:
        while True:
            if not select.select([master], [], [], 0.5)[0]:
                continue
            now, cpu = time.monotonic(), cpu_seconds(process.pid)
            try:
                part = os.read(master, 65536).decode("utf-8", "replace")
            except OSError:
                part = ""
            if now - last > SILENT and cpu - last_cpu > BUSY:
                found.silences.append((now - last, cpu - last_cpu, last_words))
            found.cpu, last, last_cpu = max(found.cpu, cpu), now, cpu
            if not part:
                break
            *lines, rest = re.split(r"[\r\n]+", rest + part)
            for line in (*lines, rest):
                plain = ESCAPES.sub("", line).strip()
                if not plain:
                    continue
                last_words = plain[:100]
                file.write(f"{now - start:8.2f} {cpu:8.2f} {plain}\n")
                if bar := BAR.match(plain):
                    what, done = bar["what"].strip(), float(bar["done"].replace(",", ""))
                    before, forecast = bars.get(what, (0.0, None))
                    if done < before:
                        forecast = None  # another bar of the same name
                    if forecast is None and bar["left"]:
                        hours, minutes, seconds = map(int, bar["time"].split(":"))
                        forecast = Forecast(what, 3600 * hours + 60 * minutes + seconds, now, now)
                        found.forecasts.append(forecast)
                    elif forecast is not None:
                        forecast.end = now
                    bars[what] = done, forecast
            seen = (seen + part)[-4000:]
            if until and until in seen and not stopped:
                stopped = True
                os.killpg(process.pid, signal.SIGINT)
    os.close(master)
    found.code = process.wait()
    found.seconds = time.monotonic() - start
    return found


def commands(demo: Path, new: Path) -> list[tuple[str, Path, list[str], str]]:
    """(name, folder it runs in, arguments, text that ends it), in an order in which each has its input.

    demo: a demo without caches, runs and reports · new: an empty workspace.
    """
    files, data = demo / "files", ["--manifest", "manifests/demo-1.0.0"]
    model, asl, fused = ["--model", "efficientnet-lite0"], "runs/asl", "runs/fused"
    return [
        ("doctor", new, ["doctor"], ""),
        ("ingest", new, ["ingest", "basic", str(files / "basic")], ""),
        ("mine, first", new, ["mine", "--pool", str(files / "pool"), "--references", str(files / "reference")], ""),
        ("mine --split train", new, ["mine", "--split", "train"], ""),
        ("prelabel", new, ["prelabel"], ""),
        ("edit, first", new, ["edit", "--role", "reference", "--count", "400"], ""),
        ("edit", new, ["edit", "--role", "reference", "--count", "1600", "--seed", "1"], ""),
        ("embed", new, ["embed", "query"], ""),
        ("status", demo, ["status"], ""),
        ("annotate serve, first start", new, ["annotate", "serve"], "password:"),
        ("annotate recheck", demo, ["annotate", "recheck", "--distractors", "50"], ""),
        ("annotate resolve", demo, ["annotate", "resolve"], ""),
        ("annotate status", demo, ["annotate", "status"], ""),
        ("annotate relearn", demo, ["annotate", "relearn"], ""),
        ("annotate plan", demo, ["annotate", "plan", "--goal", "50"], ""),
        ("export", demo, ["export", "--name", "again", "--distractors", "300"], ""),
        ("export --materialize", demo, ["export", "--name", "packed", "--materialize", "tar"], ""),
        ("validate", demo, ["validate", "manifests/demo-1.0.0"], ""),
        ("validate --pixels --model", demo, ["validate", "manifests/demo-1.0.0", "--pixels", *model], ""),
        ("train-asl", demo, ["train-asl", *data], ""),
        ("train-asl --recipe fused", demo, ["train-asl", *data, "--recipe", "fused"], ""),
        ("benchmark", demo, ["benchmark", *data, *model], ""),
        ("benchmark, ASL", demo, ["benchmark", *data, "--checkpoint", asl, "--scorer", "asl"], ""),
        ("benchmark, fused", demo, ["benchmark", *data, *model, "--scorer", "fused", "--fused-model", fused], ""),
        ("export-results", demo, ["export-results", "reports/efficientnet-lite0-cosine", "--format", "trec"], ""),
    ]


def copy_of(demo: Path, folder: Path) -> Path:
    """A copy of the demo's workspace in which training and benchmarks have not run."""
    copied = folder / "demo"
    shutil.copytree(demo, copied, ignore=shutil.ignore_patterns("cache", "runs", "reports", "media", "packages"))
    return copied


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--only", nargs="+", default=[], help="names of commands; the others are left out")
    parser.add_argument(
        "--keep", type=Path, help="keep workspaces, outputs and measurements in this folder, and add to it"
    )
    parser.add_argument("--quick", action="store_true", help="print the tables only")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="forecasts-"))
    new, demo = folder / "new", folder / "demo"
    if not demo.exists():
        copy_of(options.demo, folder)
    if not new.exists():
        subprocess.run([sys.executable, "-m", "ndec_builder", "init", str(new)], check=True, stdout=subprocess.DEVNULL)
    (folder / "shown").mkdir(exist_ok=True)
    measured = folder / "measured.json"
    runs = [restored(values) for values in json.loads(measured.read_text())] if measured.is_file() else []
    for name, cwd, arguments, until in commands(demo, new):
        if options.only and name not in options.only:
            continue
        log = folder / "shown" / f"{re.sub(r'[^a-z]+', '-', name.lower())}.txt"
        runs = [run for run in runs if run.name != name]
        runs.append(watch(name, arguments, cwd, log, until))
        measured.write_text(json.dumps([asdict(run) for run in runs]))
        print(f"{name}: {runs[-1].seconds:.0f} s, {runs[-1].cpu:.0f} s of CPU, exit code {runs[-1].code}", flush=True)
    report(runs, options.quick)
    if not options.keep:
        shutil.rmtree(folder)


def restored(values: dict[str, Any]) -> Watched:
    return Watched(**values | {"forecasts": [Forecast(**forecast) for forecast in values["forecasts"]]})


def report(runs: list[Watched], quick: bool) -> None:
    rows = []
    for run in runs:
        for forecast in run.forecasts:
            taken = forecast.end - forecast.at
            if max(forecast.seconds, taken) < SHORT:
                continue
            ratio = max(forecast.seconds, 1) / max(taken, 1)
            rows.append([run.name, forecast.what, f"{forecast.seconds:.0f} s", f"{taken:.0f} s", f"{ratio:.2f}"])
    within = sum(0.5 <= float(row[-1]) <= 2 for row in rows)
    title = f"Forecasts of time: {within} of {len(rows)} within a factor of 2"
    silences = [[run.name, f"{wall:.0f} s", f"{cpu:.0f} s", words] for run in runs for wall, cpu, words in run.silences]
    after = [
        "", "Forecasts and times below 5 s are left out. Load of the machine at the end: "
        f"{os.getloadavg()[2]:.1f} processes on {os.cpu_count()} cores (mean of 15 minutes).",
        "", "## Silences", "",
        f"Times without output of more than {SILENT:.0f} s in which the command used more than {BUSY:.0f} s of CPU: "
        f"{len(silences) or 'none'} in {len(runs)} commands.",
        *([""] if silences else []),
        *table(["command", "silent", "CPU", "shown before"], silences),
        "", "## Commands", "",
        "`validate --model` ends with 1: some pictures of the demo's two halves have a cosine above 0.8.", "",
        *table(["command", "time", "CPU", "exit code"], [
            [run.name, f"{run.seconds:.0f} s", f"{run.cpu:.0f} s", str(run.code)] for run in runs
        ]),
    ]  # fmt: skip
    head = ["command", "forecast of", "forecast", "taken", "ratio"]
    lines = [f"# {title}", "", machine(), "", *table(head, rows), *after]
    if quick:
        print("\n".join(lines))
    else:
        write_result("forecasts", "\n".join(lines))


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a markdown table; none without rows."""
    cells = [[cell.replace("|", "/") for cell in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *cells]] if rows else []


if __name__ == "__main__":
    main()
