"""Random sequences of mine, push, label, pull, resolve, recheck, ingest and export, checked against the labels.

Everything is the real code, but a fake Label Studio and no network that describes pictures. What people said is kept
by the bytes of the two pictures they saw, so a picture that is replaced or renamed has no label of another one.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

from ndec_builder.annotation import pull, push, resolve
from ndec_builder.annotation.label_studio.connection import Connection
from ndec_builder.annotation.records.pictures import pictures_tag
from ndec_builder.annotation.settings import PullConfig, PushConfig, ResolveConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.candidates import mine, recheck
from ndec_builder.candidates.settings import MineConfig, RecheckConfig
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import GROUND_TRUTH, LABELS, table_of
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.manifests import export
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.sources import ingest
from ndec_builder.sources.settings import IngestConfig
from support.described_bench import Bench, describe
from support.fake_label_studio import TOKEN, FakeLabelStudio
from support.pictures import scene

GALLERY = {"test": "reference", "train": "basic"}
SIZES = {"pool": 16, "reference": 5, "basic": 4}
STEPS = {
    "mine": 4, "push": 4, "label": 6, "relabel": 2, "skip": 1, "pull": 5, "resolve": 5, "recheck": 2, "ingest": 3,
    "export": 4,
}  # fmt: skip
Said = dict[tuple[str, str, str], str]  # split, bytes of the pool picture, bytes of the other one → label


@dataclass
class Sequence:
    """One workspace, its server, and what people said. `steps` is the log of a failure."""

    root: Path
    seed: int
    steps: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    said: Said = field(default_factory=dict)  # on the server
    pulled: Said = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random, self.server, self.bench = random.Random(self.seed), FakeLabelStudio(), Bench(self.root)
        self.server.set_clock(None)  # labels are compared with the times of ingests
        self.workspace, self.next, self.versions = self.bench.workspace, 1000 * (self.seed + 1), 0
        self.pictures = {role: {f"{role}{n}": self._scene() for n in range(count)} for role, count in SIZES.items()}
        self.pictures["query"] = {"copy": self._scene()}
        self.seen: dict[int, tuple[str, str, str]] = {}  # task → the pictures that its page shows
        for role in self.pictures:
            self._add(role)
        truth = [{"query_id": "copy", "reference_id": "reference0"}]  # a dataset needs a positive query
        write_table(self.workspace.ground_truth, table_of(GROUND_TRUTH, truth))

    def run(self, steps: int) -> None:
        """Stops at the first fault."""
        connection = Connection(self.server.url, TOKEN, "http://fake/key/k")
        with (
            mock.patch.object(push, "connect_label_studio", lambda *_: connection),
            mock.patch.object(pull, "connect_label_studio", lambda *_: connection),
        ):
            start = [(name, "test") for name in ("mine", "push", "label", "pull", "resolve")]
            more = [(name, self.random.choice(["test", "test", "train"])) for name in [*self._chosen(steps), "export"]]
            for name, split in [*start, *more]:
                try:
                    getattr(self, f"_{name}")(split)
                    self.counts[name] += 1
                except NdecError as error:
                    self.counts["refused"] += 1
                    self.steps.append(f"  refused: {error}")
                if self.faults:
                    return

    def _chosen(self, steps: int) -> list[str]:
        return self.random.choices(list(STEPS), list(STEPS.values()), k=steps)

    def _scene(self) -> Any:
        self.next += 1
        return scene(self.next, (48, 32))

    def _add(self, role: str) -> None:
        folder, pictures = self.workspace.files(role), self.pictures[role]
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.png"):
            old.unlink()
        for name, picture in pictures.items():
            picture.save(folder / f"{name}.png")
        ingest.run(IngestConfig(self.root, role, folder, group_by="none", workers=1))
        self.bench.embed(role, list(pictures), [describe(picture) for picture in pictures.values()])

    def _bytes(self, role: str) -> dict[str, str]:
        table = self.workspace.read_images(role, ["image_id", "sha256"])
        return dict(zip(table["image_id"].to_pylist(), table["sha256"].to_pylist(), strict=True))

    def _mine(self, split: str) -> None:
        top, per_query = self.random.randint(1, 9), self.random.choice([1, 1, 2, 0])
        self.steps.append(f"mine {split} --top {top} --max-per-query {per_query}")
        mine.run(MineConfig(self.root, split, top=top, max_per_query=per_query, geometry=False, workers=1))

    def _push(self, split: str) -> None:
        self.steps.append(f"push {split}")
        before = AnnotationTables(self.workspace, split).labels.num_rows
        push.run(PushConfig(self.root, split, annotators=("ann",), overlap=0.0))
        if AnnotationTables(self.workspace, split).labels.num_rows != before:  # it pulls first if a picture was removed
            self._is_pulled(split)
        self._check_tasks(split)

    def _check_tasks(self, split: str) -> None:
        """After a push, each pair that ann has waits with today's pictures, once, or has a label or a skip of hers."""
        tables = AnnotationTables(self.workspace, split)
        mined = {pair for table in tables.mined for pair in table["pair_id"].to_pylist()}
        labelled, waiting = set(tables.counting_labels["pair_id"].to_pylist()), Counter[str]()
        known = set(tables.labels["pair_id"].to_pylist())
        labelled |= {  # on the server, and not pulled yet
            task["data"]["pair_id"]
            for task in self._tasks(split, answered=True)
            if self._today(split, task["data"]["pair_id"], tables) in (None, task["data"].get("pictures"))
        }
        for task in self._tasks(split, answered=False):
            pair = task["data"]["pair_id"]
            row = next(row for row in tables.tasks.to_pylist() if row["pair_id"] == pair)
            today = self._today(split, pair, tables)
            if task["data"].get("pictures") == today:
                waiting[pair] += 1
            elif today is not None:
                self.faults.append(f"{pair} waits with a picture that was replaced")
            self.seen.setdefault(task["id"], (split, *self._pictures_now(split, row)))
        for row in tables.tasks.to_pylist():
            pair, images = row["pair_id"], self._pictures_now(split, row)
            skipped = (pair, "first", "ann") in tables.skipped
            wanted = "" not in images and pair not in labelled and not skipped and (pair in mined or pair not in known)
            if waiting[pair] > 1 or (wanted and not waiting[pair]):
                self.faults.append(f"{pair} waits {waiting[pair]} times after a push")

    def _today(self, split: str, pair: str, tables: AnnotationTables) -> str | None:
        row = next(row for row in tables.tasks.to_pylist() if row["pair_id"] == pair)
        return pictures_tag(*(sha or None for sha in self._pictures_now(split, row)))

    def _pictures_now(self, split: str, row: dict[str, Any]) -> tuple[str, str]:
        return (
            self._bytes("pool").get(row["query_id"], ""),
            self._bytes(GALLERY[split]).get(row["reference_id"], ""),
        )

    def _tasks(self, split: str, answered: bool) -> list[dict[str, Any]]:
        state = self.server.state()
        return [
            task
            for _, task in sorted(state["tasks"].items())
            if f"split {split}," in state["projects"][task["project"]]["description"]
            and any(not one["was_cancelled"] for one in task["annotations"]) == answered
        ]

    def _answer(self, split: str, tasks: list[dict[str, Any]], skip: bool = False) -> None:
        pairs = {
            row["pair_id"]: row for row in read_table(self.workspace.annotation(split) / "tasks.parquet").to_pylist()
        }
        for task in tasks:
            row, seen = pairs[task["data"]["pair_id"]], self.seen[task["id"]]
            if "" in seen or (seen[1:] != self._pictures_now(split, row) and self.random.random() < 0.5):
                continue  # the page shows no picture, so nobody labels the pair; else it was opened before
            label = None if skip else self.random.choice(LABELS)
            self.steps.append(f"  {row['query_id']} × {row['reference_id']}: {label or 'skipped'}")
            self.server.label(task["project"], task["data"]["pair_id"], label, task=task["id"])
            if label:
                self.said[seen] = label

    def _label(self, split: str) -> None:
        found = self._tasks(split, answered=False)
        self._answer(split, self.random.sample(found, self.random.randint(0, len(found))))

    def _relabel(self, split: str) -> None:
        found = self._tasks(split, answered=True)
        self._answer(split, self.random.sample(found, min(len(found), 2)))

    def _skip(self, split: str) -> None:
        found = [task for task in self._tasks(split, answered=False) if not task["annotations"]]
        self._answer(split, found[:1], skip=True)

    def _pull(self, split: str) -> None:
        self.steps.append(f"pull {split}")
        pull.run(PullConfig(self.root, split))
        self._is_pulled(split)

    def _is_pulled(self, split: str) -> None:
        self.pulled |= {key: label for key, label in self.said.items() if key[0] == split}

    def _resolve(self, split: str) -> None:
        self.steps.append(f"resolve {split}")
        resolve.run(ResolveConfig(self.root, split))

    def _recheck(self, split: str) -> None:
        self.steps.append("recheck")
        recheck.run(RecheckConfig(self.root, workers=1))

    def _ingest(self, split: str) -> None:
        role, kind = self.random.choice(["pool", "pool", "reference", "basic"]), self.random.choice(
            ["remove", "add", "replace", "rename"]
        )  # fmt: skip
        names = sorted(self.pictures[role])[1:]  # the first reference is that of the positive query
        if len(names) < 3 and kind == "remove":
            return
        name = self.random.choice(names)
        self.steps.append(f"ingest {role}: {kind} {name}")
        if kind in ("remove", "rename"):
            picture = self.pictures[role].pop(name)
        if kind == "add":
            self.pictures[role][f"{role}{self.next}"] = self._scene()
        elif kind == "replace":
            self.pictures[role][name] = self._scene()
        elif kind == "rename":
            self.pictures[role][f"{role}-again{self.next}"] = picture
            self.next += 1
        self._add(role)
        if self.random.random() < 0.5:  # pages that were open before
            self._label(self.random.choice(["test", "train"]))

    def _export(self, split: str) -> None:
        """Export; if that is refused, do what the message of a stale workspace says, and export again."""
        try:
            self._export_now()
        except NdecError as error:
            self.steps.append(f"  refused: {error}")
            for name in GALLERY:
                if self.workspace.candidate_files(name):
                    for step in (self._mine, self._push, self._label, self._pull, self._resolve):
                        step(name)
            self._export_now()

    def _export_now(self) -> None:
        self.versions += 1
        count = self.random.choice([0, 3, 50])
        self.steps.append(f"export --distractors {count}")
        config = ExportConfig(self.root, name="d", version=f"1.{self.versions}.0", distractors=count)
        self._check(export.run(replace(config, confirmed_copies=self.random.random() < 0.8)))

    def _check(self, directory: Path) -> None:
        """Every role against what people said, and the counts against the pool."""
        data, info = open_manifest(directory), read_json(directory / "manifest.json")
        pool, references, basic = (self._bytes(role) for role in ("pool", "reference", "basic"))
        queries = {row["query_id"]: row["kind"] for row in data.table("queries").to_pylist()}
        matches = {row["query_id"]: row["reference_id"] for row in data.table("ground_truth").to_pylist()}
        shown = {sha for _, sha, _ in self.pulled}
        for name in sorted(set(queries) & set(pool)):
            kind, own = queries[name], {
                reference: self.pulled.get(("test", pool[name], sha)) for reference, sha in references.items()
            }  # fmt: skip
            if kind == "distractor" and pool[name] in shown:
                self.faults.append(f"{name} is a distractor, and people labelled it")
            if kind == "hard_negative":
                wrong = [
                    f"{reference} {label}" for reference, label in own.items() if label in ("edited_copy", "unsure")
                ]
                if wrong or "hard_negative" not in own.values():
                    self.faults.append(f"{name} is a hard negative; labels: {wrong or own}")
            if (match := matches[name]) is not None and own.get(match) != "edited_copy":
                self.faults.append(f"{name} is a copy of {match}, and people said {own.get(match)}")
        for row in data.table("train_pairs").to_pylist():
            label = self.pulled.get(("train", pool[row["latter_id"]], basic[row["former_id"]]))
            if label != "hard_negative":
                self.faults.append(f"train pair {row['latter_id']} × {row['former_id']}: people said {label}")
        self._check_counts(info, queries, set(pool))

    def _check_counts(self, info: dict[str, Any], queries: dict[str, str], pool: set[str]) -> None:
        if Counter(queries.values()) != Counter({k: n for k, n in info["counts"]["queries"].items() if n}):
            self.faults.append(f"counts of queries {info['counts']['queries']}, rows {Counter(queries.values())}")
        used = {name for name in set(queries) & pool if queries[name] != "distractor"}
        paired = set()
        for path in self.workspace.candidate_files("test"):
            paired |= set(read_table(path, ["query_id"])["query_id"].to_pylist())
        pool_bytes, references = self._bytes("pool"), self._bytes("reference")
        for row in read_table(self.workspace.annotation("test") / "tasks.parquet").to_pylist():
            shown = pool_bytes.get(row["query_id"], ""), references.get(row["reference_id"], "")
            if ("test", *shown) in self.pulled:
                paired.add(row["query_id"])
        dropped = sum(info["dropped"]["test_pool_images"].values())
        if dropped + len(used) != len(paired & pool):
            self.faults.append(
                f"{len(paired & pool)} pool images in pairs; {len(used)} are queries, {dropped} are counted as left out"
            )


def run_sequence(root: Path, seed: int, steps: int = 24) -> Sequence:
    """A finished sequence; equal seeds give equal ones."""
    sequence = Sequence(root, seed)
    with sequence.server:
        sequence.run(steps)
    return sequence
