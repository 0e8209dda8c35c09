"""Run commands with a full disk, without write permission, with jumping clocks, twice at once, and with bad servers.

    python tests/faults/bad_worlds.py [--demo DIR] [--quick] [--json]

Each command runs in its own process with one fault. The same command without the fault must then give the same bytes
as a run that never had it. Writes tests/faults/results/bad_worlds.md.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import record  # noqa: E402
from faults.fault_bench import Bench, Found, explained, last_line  # noqa: E402
from faults.forked import Command, convert_ahead, warm_up  # noqa: E402
from faults.proxy import Proxy  # noqa: E402
from faults.stages_bench import hashes, label_studio, wrong_tasks  # noqa: E402

NOBODY = 65_534
LIMIT = 1_024  # bytes of a file: the disk is full
SHARE = 0.2  # of a remote store's reads that fail


def full_disk(bench: Bench, verbs: list[str]) -> Iterator[Found]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))

    for verb in verbs:
        bench.reset(verb)
        ended, text = bench.run(*bench.verbs[verb], prepare=limit)
        wrong = bench.same_as_whole(verb)
        yield Found(
            "full disk (file size limit)",
            verb,
            explained(ended, text, "free some space") and not wrong,
            wrong or last_line(text),
        )


def small_disk(bench: Bench) -> Iterator[Found]:
    """The workspace on a tmpfs that is too small; then it is made larger and the same command runs again."""
    bench.reset("ingest")
    disk = bench.root / "images"
    kept = bench.folder / "kept"
    shutil.move(disk, kept)
    disk.mkdir()
    used = sum(-(-path.stat().st_size // 4096) for path in kept.iterdir())  # pages
    mount = ["mount", "-t", "tmpfs", "-o", f"size={4 * (used + 2)}k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        return  # not root, or a container that may not mount
    try:
        for path in kept.iterdir():
            shutil.copyfile(path, disk / path.name)
        ended, text = bench.run(*bench.verbs["ingest"])
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        wrong = bench.same_as_whole("ingest")
        yield Found(
            "full disk (tmpfs)",
            "ingest",
            explained(ended, text, "free some space") and not wrong,
            wrong or last_line(text),
        )
    finally:
        subprocess.run(["umount", str(disk)], check=True)
        shutil.rmtree(kept)


def read_only(bench: Bench, verbs: list[str]) -> Iterator[Found]:
    def nobody() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)

    bench.folder.chmod(0o755)
    for verb in verbs:
        bench.reset(verb)
        paths = [bench.root, *bench.root.rglob("*")]
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        ended, text = bench.run(*bench.verbs[verb], prepare=nobody)
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)
        wrong = bench.same_as_whole(verb)
        fine = explained(ended, text, "get permission", "may write to") and not wrong
        yield Found("read-only folder", verb, fine, wrong or last_line(text))


def jumping_clock(bench: Bench, verbs: list[str]) -> Iterator[Found]:
    """Wall clocks jump by years at every look, and files carry times of the future and of 1980."""
    for verb in verbs:
        bench.reset(verb)
        chance = random.Random(verb)
        for path in bench.root.rglob("*"):
            moment = chance.choice((315_532_800, time.time() + 10**8))
            os.utime(path, (moment, moment))
        ended, _ = bench.run(*bench.verbs[verb], prepare=jump)
        wrong = bench.same_as_whole(verb)
        yield Found("clock that jumps", verb, ended.code == 0 and not wrong, wrong or "same bytes")


def jump() -> None:
    """The wall clock of Python's time and datetime is wrong by years, in a different way each time."""
    import datetime as module

    chance, real = random.Random(7), time.time

    def wrong() -> float:
        return real() + chance.uniform(-3e8, 3e8)

    class Wrong(module.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return module.datetime.fromtimestamp(wrong(), tz)

    time.time, time.time_ns = wrong, lambda: int(wrong() * 1e9)  # type: ignore[assignment]
    for name, loaded in list(sys.modules.items()):
        if name.startswith("ndec_builder") and getattr(loaded, "datetime", None) is module.datetime:
            loaded.datetime = Wrong  # type: ignore[attr-defined]


def two_at_once(bench: Bench, verbs: list[str]) -> Iterator[Found]:
    """The first command is stopped while it holds its lock; the second must say so; then the first continues.

    It names the first one, unless that was stopped between taking the lock and writing its name into it.
    """
    for verb in verbs:
        first = _stopped_in_the_middle(bench, verb)
        ended, text = bench.run(*bench.verbs[verb])
        os.kill(first.pid, signal.SIGCONT)
        done = first.wait()
        wrong = bench.same_as_whole(verb) if done.code == 0 else f"the first one ended with {done.code}"
        said = explained(ended, text, f"process {first.pid} of", "another process is writing")
        fine = said and "wait until it ends" in text and not wrong
        yield Found("two commands at once", verb, fine, wrong or last_line(text))


def _stopped_in_the_middle(bench: Bench, verb: str) -> Command:
    """A command that was stopped while it holds a lock; on a busy machine it may be through before it is stopped."""
    command = [*bench.verbs[verb], "--workspace", str(bench.root)]
    while True:
        bench.reset(verb)
        first = Command(command, bench.folder / "first.txt")
        while not any(bench.root.rglob(".*.lock")) and not first.has_ended():
            time.sleep(0.001)
        if not first.has_ended():
            os.kill(first.pid, signal.SIGSTOP)
            if any(map(_is_held, bench.root.rglob(".*.lock"))):  # not between making the file and locking it
                return first
            os.kill(first.pid, signal.SIGCONT)
        first.wait()


def _is_held(lock: Path) -> bool:
    """Whether a process holds the lock on this file."""
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def flaky_store() -> None:
    """Register flaky://PATH: local files of which each read fails with a chance of SHARE, as a busy store's does."""
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    chance = random.Random(3)

    class Flaky(LocalFileSystem):  # type: ignore[misc]
        protocol = ("flaky",)

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return str(LocalFileSystem._strip_protocol(path.removeprefix("flaky://")))

        def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
            if chance.random() < SHARE:
                raise OSError("503 slow down")
            return super()._open(path, mode, **options)

    fsspec.register_implementation("flaky", Flaky, clobber=True)


def store_that_fails(bench: Bench) -> Iterator[Found]:
    """Pictures in a remote store of which 20 % of the reads fail: none is rejected, and the vectors are the same."""
    bench.reset("embed")
    listed = bench.folder / "remote.txt"
    paths = sorted((bench.pictures / "pool").iterdir())
    listed.write_text("".join(f"flaky://{path}\n" for path in paths), "utf-8")
    ingest = ("ingest", "pool", str(listed), "--kind", "list", "--look", "decode")
    ended, text = bench.run(*ingest, prepare=flaky_store)
    said = "" if ended.code == 0 else last_line(text)
    if not said:
        ended, text = bench.run(*bench.verbs["embed"], prepare=flaky_store)
        said = "" if ended.code == 0 else last_line(text)
    found = hashes(bench.root / "embeddings")
    wanted = {n.removeprefix("embeddings/"): s for n, s in bench.after["embed"].items() if n.startswith("embeddings/")}
    wrong = [name for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name)]
    said = said or (f"differs: {wrong}" if wrong else "same bytes, no reject")
    yield Found(f"store that fails {SHARE:.0%} of its reads", "ingest, embed", ended.code == 0 and not wrong, said)


def bad_label_studio(bench: Bench) -> Iterator[Found]:
    """Label Studio gone, cut off in the middle of a push, and slow."""
    from urllib.parse import urlsplit

    address = os.environ["LABEL_STUDIO_URL"]
    place = urlsplit(address)
    assert place.hostname and place.port
    push = ("annotate", "push", "--annotator", "ann")

    def through(url: str) -> Callable[[], None]:
        return lambda: os.environ.__setitem__("LABEL_STUDIO_URL", url)

    bench.reset("export")
    shutil.rmtree(bench.root / "annotation")
    with Proxy("127.0.0.1", 1) as gone:
        ended, text = bench.run(*push, prepare=through(gone.url))
    yield Found("Label Studio is gone", "push", explained(ended, text, "no Label Studio answers"), last_line(text))
    for number, after in enumerate((900, 2_500, 4_500, 7_000)):
        with Proxy(place.hostname, place.port, cut_after=after) as cut:
            ended, text = bench.run(*push, prepare=through(cut.url))
        if number == 0 or ended.code:
            fine = explained(ended, text, "no Label Studio answers", "stopped answering", "answered HTTP")
            yield Found(f"Label Studio cut off after {after} bytes", "push", fine, last_line(text))
    with Proxy(place.hostname, place.port, delay=0.15) as slow:
        ended, text = bench.run(*push, prepare=through(slow.url))
        pull, _ = bench.run("annotate", "pull", prepare=through(slow.url))
    wrong = wrong_tasks(bench.root)
    fine = ended.code == 0 and pull.code == 0 and not wrong
    yield Found("slow Label Studio, after the cuts", "push, pull", fine, ", ".join(wrong) or "each task there once")


def run(demo: Path | None, quick: bool) -> list[Found]:
    warm_up()
    if quick:
        convert_ahead()
    with tempfile.TemporaryDirectory(prefix="ndec-faults-") as name, label_studio(Path(name)):
        bench = Bench(Path(name), demo, 12 if quick else 32)
        everything = list(bench.verbs)
        some = ["ingest", "embed", "export"]
        found: list[Found] = []
        for results in (
            full_disk(bench, everything),
            small_disk(bench),
            read_only(bench, some if quick else everything),
            jumping_clock(bench, some if quick else everything),
            two_at_once(bench, some if quick else everything),
            store_that_fails(bench),
            bad_label_studio(bench),
        ):
            for one in results:
                print(one, file=sys.stderr, flush=True)
                found.append(one)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, help="workspace of a finished demo whose pictures are used")
    parser.add_argument("--quick", action="store_true", help="fewer pictures and verbs; writes no result file")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = run(given.demo, given.quick)
    if given.json:
        print(json.dumps([vars(one) for one in found]))
    else:
        rows = [(one.fault, one.command, "yes" if one.fine else "NO", one.said[:200]) for one in found]
        head = ("fault", "command", "as it should be", "what it said, or found")
        notes = [
            f"{sum(one.fine for one in found)} of {len(found)} as they should be: one paragraph with exit code 1 (or "
            "no harm), and the same command in a good world then gives the bytes of a run that never saw a fault.",
            "",
            "The clock is what Python's `time` and `datetime` say and the times of files, not the system's; the store "
            "is a local folder behind fsspec.",
        ]  # fmt: skip
        record.write("bad_worlds", "Bad worlds", head, rows, notes, keep=not given.quick)
    sys.exit(not all(one.fine for one in found))


if __name__ == "__main__":
    main()
