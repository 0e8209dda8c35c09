"""Kill embedding and mining at random times; the result files must equal those of an uninterrupted run.

    python tests/faults/kill_mining.py [--quick] [--seed N]

Each row of the table is one way to run (workers, shard size, engine). The command or one of its workers is killed with
SIGKILL at random times, and the same command runs again each time. The last row loses one of two Ray nodes. Writes
tests/faults/results/kill_mining.md; the rows with Ray need the extra `cluster`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from ndec_builder.core.storage import sha256_file  # noqa: E402

BATCH = 8
DEFAULT = "efficientnet-lite0"
RECORDS = ("run.json", "inputs.json")  # they tell of the run: seconds, sizes and times of the files that were read


@dataclass(frozen=True)
class Way:
    """How a run is done. nodes: on a Ray cluster of two, one of which is lost. model: empty: a tiny one."""

    workers: int
    shard_size: int
    engine: str = "local"
    nodes: bool = False
    kills: int = 5
    model: str = DEFAULT


FULL = (Way(1, 16), Way(2, 32), Way(5, 8), Way(2, 64, "ray", kills=5), Way(2, 8, "ray", nodes=True, kills=1))
QUICK = (Way(2, 8, kills=2, model=""),)


@dataclass(frozen=True)
class Result:
    way: Way
    command_kills: int
    worker_kills: int
    same: bool
    leftovers: int
    seconds: float


def work(workspace: Path, workers: int, shard_size: int, engine: str, model: str, address: str) -> None:
    """What is killed: embed both roles, then mine."""
    from ndec_builder.candidates.mine import run as mine
    from ndec_builder.candidates.settings import MineConfig
    from ndec_builder.embeddings.embed import run as embed
    from ndec_builder.embeddings.settings import EmbedConfig

    for role in ("reference", "pool"):
        some = workers if role == "pool" or model == DEFAULT else 1  # a tiny model: starting them takes longest
        embed(
            EmbedConfig(
                workspace, role, model, batch_size=BATCH, shard_size=shard_size, workers=some, engine=engine, threads=1,
                ray_address=address, whitening_images=64,
            )
        )  # fmt: skip
    mine(MineConfig(workspace, model=model, top=40))


def prepare(folder: Path, references: int, pool: int) -> Path:
    """A workspace of drawn scenes; some pool pictures are crops of references. Nothing is embedded yet."""
    from PIL import Image

    from ndec_builder.sources.ingest import run as ingest
    from ndec_builder.sources.settings import IngestConfig
    from support.pictures import write_scenes

    write_scenes(folder / "in" / "reference", references)
    write_scenes(folder / "in" / "pool", pool, first_seed=1000)
    for path in sorted((folder / "in" / "reference").iterdir())[::3]:
        with Image.open(path) as picture:
            picture.crop((4, 4, picture.width - 4, picture.height - 4)).save(
                folder / "in" / "pool" / f"crop-{path.name}"
            )
    for role in ("reference", "pool"):
        ingest(IngestConfig(workspace=folder / "bench", role=role, source=folder / "in" / role))
    return folder / "bench"


def hashes(workspace: Path) -> dict[str, str]:
    """sha256 of every result file, records of the run aside."""
    files = [path for top in ("embeddings", "candidates") for path in sorted((workspace / top).rglob("*"))]
    return {
        str(path.relative_to(workspace)): sha256_file(path)
        for path in files
        if path.is_file() and path.name not in RECORDS and not path.name.endswith(".lock")
    }


def start(workspace: Path, way: Way, address: str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--work", str(workspace), str(way.workers), str(way.shard_size), way.engine]
    command += [way.model or f"{workspace.parent / 'tiny.pt'}@32"]
    with (workspace / "log.txt").open("ab") as log:
        return subprocess.Popen([*command, address], stdout=log, stderr=log)


def workers_of(process: int) -> list[int]:
    """Ids of the worker processes of a command: its children that run Python's spawn."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process and b"spawn_main" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except (OSError, ValueError):
            continue
    return found


def kill_and_resume(workspace: Path, way: Way, shards: int, chance: random.Random) -> Result:
    """Kills at random shards of the embedding, the last one while it is mining."""
    began, commands, workers = time.monotonic(), 0, 0
    child = start(workspace, way)
    for point in [*sorted(chance.sample(range(shards), way.kills - 1)), shards]:
        while progress(workspace, way) < point and child.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        if child.poll() is not None:
            break
        victim = chance.choice([child.pid, child.pid, *workers_of(child.pid)])
        os.kill(victim, signal.SIGKILL)
        if victim == child.pid:
            commands += 1
            child.wait()
            child = start(workspace, way)
        else:
            workers += 1
    if child.wait() != 0:
        raise SystemExit(f"the run after the kills failed:\n{(workspace / 'log.txt').read_text()[-2000:]}")
    return finish(workspace, way, commands, workers, began)


def shards_of(workspace: Path, way: Way) -> dict[str, int]:
    from ndec_builder.core.workspace import Workspace

    rows = {role: Workspace(workspace).read_images(role).num_rows for role in ("reference", "pool")}
    return {role: -(-count // way.shard_size) for role, count in rows.items()}


def progress(workspace: Path, way: Way) -> int:
    """Shards embedded so far, both roles together; their markers are gone when a role is finished."""
    done = 0
    for role, shards in shards_of(workspace, way).items():
        folder = workspace / "embeddings" / role
        finished = any(folder.glob("*/run.json"))
        done += shards if finished else len(list(folder.rglob("*.done.json")))
    return done


def lose_a_node(workspace: Path, way: Way) -> Result:
    from support.two_nodes import two_nodes

    began = time.monotonic()
    with two_nodes() as nodes:
        child = start(workspace, way, nodes.address)
        while len(list((workspace / "embeddings" / "pool").rglob("*.done.json"))) < 3 and child.poll() is None:
            time.sleep(0.02)
        nodes.lose_the_second()
        if child.wait() != 0:
            raise SystemExit(f"the run failed:\n{(workspace / 'log.txt').read_text()[-2000:]}")
    return finish(workspace, way, 0, 0, began)


def finish(workspace: Path, way: Way, commands: int, workers: int, began: float) -> Result:
    leftovers = [path for path in workspace.rglob("*") if ".partial" in path.name or path.name == "shards"]
    found, wanted = hashes(workspace), hashes(workspace.parent / "whole")
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            print(f"{way}: {name} differs", file=sys.stderr, flush=True)
    return Result(way, commands, workers, found == wanted, len(leftovers), time.monotonic() - began)


def run(ways: tuple[Way, ...], references: int, pool: int, seed: int) -> list[Result]:
    from support.tiny_trunk import tiny_model

    with tempfile.TemporaryDirectory(prefix="kill-mining-") as name:
        folder = Path(name)
        bench = prepare(folder, references, pool)
        shutil.copytree(bench, folder / "whole")
        tiny_model(folder)
        first = start(folder / "whole", Way(1, 64, model=ways[0].model))
        if first.wait() != 0:
            raise SystemExit(f"the uninterrupted run failed:\n{(folder / 'whole' / 'log.txt').read_text()[-2000:]}")
        results = []
        for number, way in enumerate(ways):
            workspace = folder / f"way-{number}"
            shutil.copytree(bench, workspace)
            chance = random.Random(seed + number)
            shards = sum(shards_of(workspace, way).values())
            results.append(
                lose_a_node(workspace, way) if way.nodes else kill_and_resume(workspace, way, shards, chance)
            )
            print(results[-1], file=sys.stderr, flush=True)
        return results


def table(results: list[Result], images: int, seed: int) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    columns = "engine | workers | shard size | kills of the command | kills of a worker | nodes lost | same bytes"
    lines = [
        "# Embedding and mining under kill -9",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.strip() or 'unknown'}, {os.cpu_count()} cores "
        f"{platform.machine()}; {images} images, batches of {BATCH}, seed {seed}.",
        "Compared: sha256 of every file under embeddings/ and candidates/ but run.json and inputs.json, with an "
        "uninterrupted run of 1 worker and shards of 64.",
        "",
        f"| {columns} | files left over | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        lines.append(
            f"| {r.way.engine} | {r.way.workers} | {r.way.shard_size} | {r.command_kills} | {r.worker_kills} | "
            f"{int(r.way.nodes)} | {'yes' if r.same else 'NO'} | {r.leftovers} | {r.seconds:.0f} |"
        )
    kills = sum(r.command_kills + r.worker_kills for r in results)
    lines += ["", f"{kills} kills in all; {sum(r.same for r in results)} of {len(results)} ways gave the same bytes."]
    return "\n".join(lines) + "\n"


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        workspace, workers, shard_size, engine, model, address = sys.argv[2:]
        with contextlib.ExitStack() as stack:
            if address:
                from support.two_nodes import on_loopback

                stack.enter_context(on_loopback())
            work(Path(workspace), int(workers), int(shard_size), engine, model, address)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 kills on few images, a tiny model, no Ray")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sizes = (48, 64) if arguments.quick else (160, 240)
    results = run(QUICK if arguments.quick else FULL, *sizes, arguments.seed)
    text = table(results, sum(sizes) + -(-sizes[0] // 3), arguments.seed)
    print(text)
    if not arguments.quick:
        target = Path(__file__).parent / "results" / "kill_mining.md"
        target.parent.mkdir(exist_ok=True)
        target.write_text(text)
    sys.exit(not all(result.same and not result.leftovers for result in results))


if __name__ == "__main__":
    main()
