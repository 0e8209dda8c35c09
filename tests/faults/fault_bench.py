"""A small workspace before and after each command, and the changes that a fault made to it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faults.forked import Command, Ended
from faults.small_bench import take_pictures
from faults.stages_bench import SETTINGS, hashes, leftovers


@dataclass(frozen=True)
class Found:
    """What one fault did to one command. fine: it said what was wrong, and the next run gave the right bytes."""

    fault: str
    command: str
    fine: bool
    said: str


class Bench:
    """Workspaces before each verb, and the hashes after it, from a run in a good world."""

    def __init__(self, folder: Path, demo: Path | None, size: int) -> None:
        self.folder, self.root, self.log = folder, folder / "bench", folder / "log.txt"
        pictures = take_pictures(folder / "in", demo, references=size, basic=size, pool=2 * size)
        manifest = str(self.root / "manifests" / "small-1.0.0")
        self.pictures = pictures
        self.verbs: dict[str, tuple[str, ...]] = {
            "ingest": ("ingest", "pool", str(pictures / "pool")),
            "edit": ("edit", "--count", "8"),
            "embed": ("embed", "pool", "--workers", "1", "--shard-size", "24"),
            "mine": ("mine", "--top", "12", "--workers", "1"),
            "export": ("export", "--name", "small", "--materialize", "tar"),
            "train-asl": ("train-asl", "--manifest", manifest, "--steps", "16"),
            "benchmark": ("benchmark", "--manifest", manifest, "--model", "efficientnet-lite0"),
        }
        self.after: dict[str, dict[str, str]] = {}
        self._run_whole()

    def run(self, *arguments: str, prepare: Callable[[], None] | None = None) -> tuple[Ended, str]:
        self.log.unlink(missing_ok=True)
        ended = Command([*arguments, "--workspace", str(self.root)], self.log, prepare=prepare).wait()
        return ended, self.log.read_text("utf-8", "replace")

    def must(self, *arguments: str) -> None:
        ended, text = self.run(*arguments)
        if ended.code:
            raise SystemExit(f"ndec {' '.join(arguments)} ended with {ended.code}:\n{text[-2000:]}")

    def _run_whole(self) -> None:
        self.root.mkdir()
        (self.root / "ndec.toml").write_text(SETTINGS, "utf-8")
        for role in ("reference", "basic"):
            self.must("ingest", role, str(self.pictures / role))
        for verb, arguments in self.verbs.items():
            if verb == "embed":
                self.must("embed", "reference", "--workers", "1")
            if verb == "export":
                self.must("mine", "--split", "train", "--top", "8", "--workers", "1")
                decide(self.root)
            shutil.copytree(self.root, self.folder / "before" / verb)
            self.must(*arguments)
            self.after[verb] = hashes(self.root)
        shutil.rmtree(self.root)

    def reset(self, verb: str) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.folder / "before" / verb, self.root)

    def same_as_whole(self, verb: str) -> str:
        """Run the verb in a good world; empty, or what is wrong then."""
        ended, text = self.run(*self.verbs[verb])
        if ended.code:
            return f"the next run ended with {ended.code}: {last_line(text)}"
        found, wanted = hashes(self.root), self.after[verb]
        wrong = [name for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name)]
        left = leftovers(self.root)
        return f"differs or is left over: {', '.join([*wrong, *map(str, left)])}" if wrong or left else ""


def decide(root: Path) -> None:
    """Decisions as people's labels would give them: every third pair unrelated, the others hard negatives."""
    from ndec_builder.core.schemas import DECISIONS, table_of
    from ndec_builder.core.storage import read_table, write_table
    from ndec_builder.core.workspace import Workspace

    for split in ("test", "train"):
        mined = Workspace(root).candidates(split) / "candidates.parquet"
        if not mined.is_file():
            continue
        pairs = read_table(mined)["pair_id"].to_pylist()
        rows = [
            {"pair_id": pair, "decision": "hard_negative" if number % 3 else "unrelated", "basis": "agreed",
             "labels": 1, "agreement": 1.0}
            for number, pair in enumerate(sorted(pairs))
        ]  # fmt: skip
        write_table(Workspace(root).annotation(split) / "decisions.parquet", table_of(DECISIONS, rows))


def last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.startswith("ndec:")] or text.strip().splitlines()[-1:]
    return lines[-1] if lines else "(nothing)"


def explained(ended: Ended, text: str, *words: str) -> bool:
    """Exit code 1 with one paragraph that has one of these words, no traceback."""
    return ended.code == 1 and "Traceback" not in text and any(word in last_line(text) for word in words)
