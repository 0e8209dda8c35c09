"""Ingest and embed a collection of hostile files: each is embedded or listed with a reason, nothing else happens.

    python tests/faults/hostile.py [--count 2100] [--seed 0] [--quick]

Runs the command line over the pictures and over each archive, weights file and text. Records crashes, seconds, memory,
files written outside the workspace (Python's audit events, and a comparison of the surroundings before and after), and
a file that exists only if code from the collection was run. Writes results/hostile.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import record  # noqa: E402
from faults.forked import Command, Ended, convert_ahead, warm_up  # noqa: E402
from support.processes import fork  # noqa: E402

MEMORY = 8192  # MiB: the bound of a command's resident memory, with nine bombs just below the limit side by side
SECONDS = 30  # for one file
SETTINGS = """
[ingest]
max_reject_share = 1.0
[embed]
max_reject_share = 1.0
threads = 2
whitening_images = 64
"""
CODES = (0, 1, 2, 3)


@dataclass
class Watch:
    """What went wrong, over all commands."""

    crashed: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    outside: set[str] = field(default_factory=set)
    memory: float = 0.0
    commands: int = 0
    slowest: float = 0.0


class Ground:
    """Folders for one run: the zoo, the workspace, a home, a temporary and a current folder, watched from outside."""

    def __init__(self, folder: Path, count: int, seed: int, small: bool) -> None:
        self.folder, self.zoo, self.bench = folder, folder / "zoo", folder / "bench"
        self.log, self.watch = folder / "log.txt", Watch()
        builder = [sys.executable, str(Path(__file__).with_name("zoo.py")), str(self.zoo), f"--count={count}"]
        subprocess.run([*builder, f"--seed={seed}", *(["--small"] if small else [])], check=True, stdout=sys.stderr)
        self.kinds: dict[str, str] = json.loads((self.zoo / "kinds.json").read_text("ascii"))
        for name in ("bench", "home", "tmp", "here"):
            (folder / name).mkdir()
        (self.bench / "ndec.toml").write_text(SETTINGS, "utf-8")
        os.environ |= {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
        os.environ.pop("XDG_CACHE_HOME", None)
        tempfile.tempdir = None
        os.chdir(folder / "here")
        self.before = self.around()

    def around(self) -> dict[str, tuple[int, ...]]:
        """Size, time and number of every file that no command may touch."""
        found = {}
        for top in (self.zoo, self.folder / "home", self.folder / "tmp", self.folder / "here", Path("/etc")):
            for parent, folders, files in os.walk(top):
                for name in [*folders, *files]:
                    path = os.path.join(parent, name)  # noqa: PTH118 - bytes that are no Unicode
                    try:
                        status = os.lstat(path)
                    except OSError:
                        continue
                    if top != Path("/etc") or name in files:
                        found[path] = (status.st_size, status.st_mtime_ns, status.st_ino, status.st_mode)
        return found

    def changed(self) -> list[str]:
        after = self.around()
        return sorted(name for name in self.before.keys() | after.keys() if self.before.get(name) != after.get(name))

    def run(self, name: str, *arguments: str) -> tuple[Ended, str]:
        """One command; its end and what it said."""
        self.log.unlink(missing_ok=True)
        ended = Command([*arguments, "--workspace", str(self.bench)], self.log, threads=2, record=True).wait()
        text = self.log.read_text("utf-8", "replace")
        watch = self.watch
        watch.commands += 1
        watch.memory = max(watch.memory, ended.memory)
        if ended.code not in CODES or "Traceback" in text:
            watch.crashed.append(f"{name}: {ended.code} {text.strip().splitlines()[-1:]}")
            print(f"{name}: ended with {ended.code}\n{text[-2000:]}", file=sys.stderr, flush=True)
        allowed = (str(self.bench), os.devnull, str(self.folder / "tmp"), str(self.folder / "log."))
        watch.outside |= {path for path in ended.touched if not path.startswith(allowed)}
        return ended, text

    def one(self, name: str, *arguments: str) -> tuple[Ended, str]:
        """A command over one file: it may not take long."""
        ended, text = self.run(name, *arguments)
        self.watch.slowest = max(self.watch.slowest, ended.seconds)
        if ended.seconds > SECONDS:
            self.watch.slow.append(f"{name}: {ended.seconds:.0f} s")
        return ended, text


def pictures(ground: Ground) -> tuple[dict[str, Counter[str]], float]:
    """Ingest and embed all pictures; kind → how many were embedded, rejected or lost; the slowest file's seconds."""
    from ndec_builder.core.storage import read_table
    from ndec_builder.core.workspace import Workspace
    from ndec_builder.sources.listing import printable

    ground.run("ingest", "ingest", "pool", str(ground.zoo / "pictures"), "--kind", "folder")
    shard = str(max(8, -(-len(ground.kinds) // 4)))
    ground.run("embed", "embed", "pool", "--workers", "1", "--shard-size", shard)
    workspace = Workspace(ground.bench)
    images = {row["image_id"]: row["uri"] for row in workspace.read_images("pool").to_pylist()}
    vectors = workspace.embeddings("pool", "efficientnet-lite0")
    reasons: dict[str, str] = {}
    embedded: set[str] = set()
    if vectors.is_dir():
        for path in vectors.glob("part-*.parquet"):
            embedded |= {images[image_id] for image_id in read_table(path)["image_id"].to_pylist()}
        reasons |= {
            images[row["image_id"]]: row["reason"] for row in read_table(vectors / "rejects.parquet").to_pylist()
        }
    rejects = read_table(workspace.images("pool").with_name("pool-rejects.parquet")).to_pylist()
    listed = Counter(row["uri"] for row in rejects)
    tally: dict[str, Counter[str]] = defaultdict(Counter)
    for parent, folders, files in os.walk(ground.zoo / "pictures"):
        for name in [*files, *(name for name in folders if name in ground.kinds)]:
            uri = printable(workspace.uri_of(Path(parent) / name))
            kind = ground.kinds[name].split(" ")[0] if "sound" in ground.kinds[name] else ground.kinds[name]
            kind = next((k for k in ("truncated", "bit-flipped") if kind.startswith(k)), kind)
            if uri in embedded:
                tally[kind]["embedded"] += 1
            elif listed[uri] or reasons.get(uri):
                listed[uri] -= 1
                tally[kind]["rejected"] += 1
            else:
                tally[kind]["lost"] += 1
                print(f"lost: {uri!r} ({ground.kinds[name]})", file=sys.stderr, flush=True)
    if empty := [row["uri"] for row in rejects if not row["reason"]]:
        tally["a reject without a reason"]["lost"] += len(empty)
    return tally, slowest_file(ground.zoo / "pictures")


def slowest_file(folder: Path) -> float:
    """CPU seconds of the slowest picture, each opened in its own process."""
    from ndec_builder.sources.inspect_images import read_facts

    receive, send = os.pipe()
    child = fork()
    if child == 0:
        worst = 0.0
        for parent, _, files in os.walk(folder):
            for name in files:
                path = Path(parent) / name
                if path.is_file() and not path.is_symlink():
                    begun = time.process_time()
                    read_facts(str(path), "decode", 200_000_000)
                    worst = max(worst, time.process_time() - begun)
        os.write(send, f"{worst:.2f}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    return float(os.read(receive, 64) or b"inf")


def archives(ground: Ground, some: int) -> Counter[str]:
    """Each archive on its own: listed with rejects, or refused in one sentence."""
    from ndec_builder.core.storage import read_table
    from ndec_builder.core.workspace import Workspace

    found: Counter[str] = Counter()
    images = Workspace(ground.bench).images("reference")
    for path in _some(ground.zoo / "archives", some):
        for old in (images, images.with_name("reference-rejects.parquet")):
            old.unlink(missing_ok=True)
        kind = "tar" if path.suffix == ".tar" else "disc21"
        ended, _ = ground.one(path.name, "ingest", "reference", str(path), "--kind", kind)
        if not images.is_file():
            found["refused with a sentence"] += ended.code in (1, 2, 3)
            continue
        good = read_table(images).num_rows
        found["listed, the bad members as rejects"] += 1
        if good:
            ground.one(f"embed {path.name}", "embed", "reference", "--workers", "1")
    return found


def weights(ground: Ground, some: int) -> Counter[str]:
    """Each weights file under every name that ndec reads weights by: refused, nothing run."""
    found: Counter[str] = Counter()
    for path in _some(ground.zoo / "weights", some):
        names = [f"multigrain:{path}", f"isc21:{path}", f"timm:resnet18@{path}", str(path)]
        for model in names[: 1 if some < 100 else None]:
            ended, _ = ground.one(model, "embed", "pool", "--model", model, "--workers", "1")
            found["refused with a sentence" if ended.code in (1, 2, 3) else "taken"] += 1
    return found


def texts(ground: Ground) -> Counter[str]:
    found: Counter[str] = Counter()
    good = ground.zoo / "outside"
    for path in _some(ground.zoo / "texts", 10**6):
        for option in ("--ground-truth", "--predictions"):
            command = ["benchmark", "--queries", str(good), "--references", str(good)]
            other = ["--ground-truth", str(ground.zoo / "texts" / "ids.csv")] if option == "--predictions" else []
            ended, _ = ground.one(f"{option} {path.name}", *command, option, str(path), *other)
            found["refused with a sentence" if ended.code in (1, 2, 3) else "taken"] += 1
    return found


def _some(folder: Path, count: int) -> list[Path]:
    paths = sorted(folder.iterdir())
    return paths[:: max(1, -(-len(paths) // count))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2_100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="100 pictures, some of the others; writes no result file")
    given = parser.parse_args()
    quick = given.quick
    warm_up()
    if quick:
        convert_ahead()
    with tempfile.TemporaryDirectory(prefix="ndec-hostile-") as name:
        ground = Ground(Path(name).resolve(), 260 if quick else given.count, given.seed, quick)
        tally, slowest = pictures(ground)
        others = {
            "archives": archives(ground, 16 if quick else 10**6),
            "weights": weights(ground, 8 if quick else 10**6),
        }
        others["csv and json"] = texts(ground)
        changed = ground.changed()
        run_code = (ground.zoo / "code-was-run").exists() or bool(list(Path(name).rglob("ndec-was-here*")))
        os.chdir("/")
    watch, total = ground.watch, sum((counts for counts in tally.values()), Counter())
    rows: list[tuple[object, ...]] = [
        (kind, sum(counts.values()), counts["embedded"], counts["rejected"], counts["lost"])
        for kind, counts in sorted(tally.items())
    ]
    rows.append(("**all pictures**", sum(total.values()), total["embedded"], total["rejected"], total["lost"]))
    for what, counts in others.items():
        taken = counts["taken"] + counts["listed, the bad members as rejects"]
        rows.append((what, sum(counts.values()), f"{taken} taken", f"{counts['refused with a sentence']} refused", 0))
    outside = sorted({*watch.outside, *changed})
    fine = not (total["lost"] or watch.crashed or watch.slow or outside or run_code) and watch.memory <= MEMORY
    notes = [
        f"{watch.commands} commands: {len(watch.crashed)} crashed, {len(watch.slow)} took more than {SECONDS} s over "
        f"one file (slowest command over one file {watch.slowest:.1f} s, slowest picture {slowest:.1f} s of a core), "
        f"{len(outside)} writes outside the workspace, {int(run_code)} × code run.",
        "",
        f"Most memory of a command: {watch.memory:,.0f} MiB resident; the bound is {MEMORY:,} MiB.",
        "",
        *(f"* {line}" for line in [*watch.crashed, *watch.slow, *outside]),
    ]
    head = ("kind", "files", "embedded", "listed as rejects with a reason", "lost")
    record.write("hostile", "The zoo of hostile files", head, rows, notes, keep=not quick)
    sys.exit(not (fine and slowest < SECONDS))


if __name__ == "__main__":
    main()
