"""`ndec demo`: all stages on real pictures, with a real Label Studio in the middle.

The stages are the same as those of the other verbs. Only the labels differ: the truth of the demo's pairs is known by
construction, and the annotator `oracle` sends it through Label Studio's API, unless a person annotates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndec_builder.commands import COMMANDS
from ndec_builder.core.config import build, read_settings
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.executor.memory import use_few_arenas
from ndec_builder.core.locks import locked
from ndec_builder.core.schemas import SPLITS
from ndec_builder.core.storage import read_json, read_table, write_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.demo.corpus.originals import find_own
from ndec_builder.demo.settings import DemoConfig
from ndec_builder.demo.summary_table import DemoTable

if TYPE_CHECKING:
    from ndec_builder.annotation.label_studio.connection import Connection

MODEL = "efficientnet-lite0"
PERSON, ORACLE = "you", "oracle"  # annotators
LEAST_OWN = 40  # pictures of one's own: with fewer, one of the two splits gets too few pairs


@dataclass(frozen=True)
class DemoSize:
    """How many of each; chosen so that `full` takes at most 15 minutes on 2 cores, downloads included."""

    top_test: int
    top_train: int
    copies: int  # edited-copy queries
    distractors: int
    views: int  # cached views of each training image
    steps: int


DEMO_SIZES = {
    "full": DemoSize(top_test=450, top_train=400, copies=400, distractors=300, views=11, steps=800),
    "small": DemoSize(top_test=120, top_train=110, copies=100, distractors=80, views=4, steps=300),
}


def scaled_to(size: DemoSize, counts: Mapping[str, Any]) -> DemoSize:
    """The size, scaled down to a corpus of the user's own pictures, given the counts of its record.

    Each split mines four fifths as many pairs as the pool has counterparts for it: more would use up the pictures of
    the other split. Raises NdecError when a split has no counterparts.
    """
    parts = ("pool_natural", "pool_reverse_crops", "pool_edited_copies")
    pairs = {split: sum(counts[split][part] for part in parts) for split in SPLITS}
    if not all(pairs.values()):
        raise NdecError(
            f"only {counts['usable'] - counts['duplicates_dropped']} of {counts['originals']} pictures are different "
            f"and usable (no icons, no plain ones); at least {LEAST_OWN} are needed: add others to the folder"
        )
    return replace(
        size,
        top_test=min(size.top_test, max(1, round(0.8 * pairs["test"]))),
        top_train=min(size.top_train, max(1, round(0.8 * pairs["train"]))),
        copies=min(size.copies, max(10, round(0.57 * counts["reference"]))),
        distractors=min(size.distractors, counts["test"]["pool_distractors"]),
    )


def run(config: DemoConfig) -> DemoTable:
    """Run every stage in `config.out` and return the closing table. A second run resumes.

    Raises UsageError for a directory that holds anything but a demo, NdecError while another demo runs there.
    """
    use_few_arenas()  # one process runs all steps, and the threads of each would leave memory in arenas of their own
    with locked(config.out):
        return _run(config)


def _run(config: DemoConfig) -> DemoTable:
    started = time.monotonic()
    say(introduction(config))
    stage = _Stages(config.out, started)
    manifest, size = make_manifest(config, stage), DEMO_SIZES[config.size]
    fit = {"manifest": manifest, "views": size.views, "steps": size.steps, "seed": config.seed}
    asl = stage("train-asl: the paper's detector", "train-asl", **fit)
    asl_copies = stage("train-asl: the same with edited copies as views", "train-asl", recipe="asl-copies", **fit)
    fused = stage("train-asl: a scorer that fuses descriptor and geometry", "train-fused", **fit)

    # with few training images, none can be held out to choose a threshold on
    own = {"threshold": "auto"} if read_json(asl_copies / "checkpoint.json")["threshold"] is not None else {}

    def benchmark(name: str, **detector: Any) -> Path:
        report: Path = stage(f"benchmark: {name}", "benchmark", manifest=manifest, name=name, **detector)
        return report

    baseline = benchmark("baseline", model=MODEL)
    with_filter = {"scorer": "asl", "baseline": baseline}
    reports = {
        f"{MODEL}, whitened": baseline,
        "the same + ASL filter": benchmark("baseline-asl", model=MODEL, asl_checkpoint=asl, **with_filter),
        "ASL as in the paper": benchmark("asl", checkpoint=asl, **with_filter),
        f"asl-copies, {'own' if own else 'default'} threshold": benchmark(
            "asl-copies", checkpoint=asl_copies, **own, **with_filter
        ),
        "fused": benchmark("fused", model=MODEL, scorer="fused", fused_model=fused, baseline=baseline),
    }
    return DemoTable.collect(Workspace(config.out), manifest, reports, time.monotonic() - started)


def introduction(config: DemoConfig) -> str:
    """What the demo is about to do, and where its labels come from."""
    pictures = f"the pictures in {config.images}" if config.images else "pictures from Debian and PyPI packages"
    labels = (
        "You label the pairs yourself, in Label Studio."
        if config.annotate_yourself
        else "The labels are SIMULATED: the annotator oracle labels each pair in Label Studio from the known truth."
    )
    return (
        f"This demo runs every step of ndec on {pictures}.\n{labels}\n"
        f"It writes to {config.out}. You can stop it at any time; the same command continues."
    )


def make_manifest(config: DemoConfig, stages: _Stages | None = None) -> Path:
    """The stages up to the exported manifest, whose directory is returned. Raises UsageError as `run` does."""
    _check_own(config)
    _claim(config)
    stage = stages or _Stages(config.out, time.monotonic())
    with stage.servers(config) as connect:  # it starts while the first stages compute
        size = _mine(config, stage)
        stage.timed(
            "annotate: people or the oracle label the pairs in Label Studio", lambda: _annotate(config, stage, connect)
        )
    manifest = stage(
        "export: the decided pairs become a dataset",
        "export",
        name="demo",
        distractors=size.distractors,
        seed=config.seed,
    )
    stage("validate: check every count, hash and reference of the dataset", "validate", manifest=manifest)
    return manifest


def _mine(config: DemoConfig, stage: _Stages) -> DemoSize:
    """The stages up to the mined pairs; returns the size, scaled down to a corpus of the user's own pictures."""
    size, own = DEMO_SIZES[config.size], {"images": config.images, "group_by": config.group_by}
    corpus = stage(
        "corpus: collect pictures and plant copies with a known truth",
        "corpus",
        size=config.size,
        seed=config.seed,
        **own,
    )
    if config.images is not None:
        size = scaled_to(size, read_json(corpus)["counts"])
    stage(
        "edit: make edited copies of references, the true copies to find",
        "edit",
        role="reference",
        count=size.copies,
        seed=config.seed,
    )
    # mine test compares with these; if they were embedded after it, a resumed demo would mine and export again
    stage("embed: describe the training images (role basic)", "embed", role="basic")
    stage("mine: pool images that look like a reference (split test)", "mine", split="test", top=size.top_test)
    stage("mine: pool images that look like a training image (split train)", "mine", split="train", top=size.top_train)
    return size


def _check_own(config: DemoConfig) -> None:
    """Raise UsageError when the user's folder has fewer than LEAST_OWN pictures: at once, not after minutes."""
    if config.images is not None and (found := len(find_own(config.images))) < LEAST_OWN:
        raise UsageError(
            f"{config.images} holds {found} pictures; the demo needs at least {LEAST_OWN}, and a few hundred for "
            "numbers that mean something"
        )


def _claim(config: DemoConfig) -> None:
    """Mark the directory as this demo's. Raises UsageError when it holds other files or a demo with other settings."""
    mark = config.out / "demo.json"
    wanted = {"size": config.size, "seed": config.seed, "images": config.images and str(config.images.absolute())}
    if config.group_by != "auto":
        wanted["group_by"] = config.group_by
    if not mark.is_file():
        if config.out.is_dir() and any(config.out.iterdir()):
            raise UsageError(f"{config.out} is not empty and holds no demo; give another directory with --out")
        write_json(mark, wanted)
    elif (found := read_json(mark)) != wanted:
        raise UsageError(f"{config.out} holds a demo of {found}, not of {wanted}; give another directory with --out")
    _check_labels(config)


def _check_labels(config: DemoConfig) -> None:
    """Raise UsageError when the demo's pairs were given to the other kind of annotator: its labels would be mixed."""
    other = ORACLE if config.annotate_yourself else PERSON
    for split in SPLITS:
        path = Workspace(config.out).annotation(split) / "tasks.parquet"
        if path.is_file() and other in read_table(path, ["annotator"])["annotator"].to_pylist():
            whose = "SIMULATED labels by the oracle" if other == ORACLE else "pairs that you label"
            flag = "without" if config.annotate_yourself else "with"
            raise UsageError(
                f"the demo in {config.out} has {whose}, and they are not mixed; run it {flag} --annotate-yourself, or "
                "give another directory with --out"
            )


class _Stages:
    """Runs verbs in the demo's workspace with its settings and reports how long each took."""

    def __init__(self, workspace: Path, started: float) -> None:
        self.workspace, self.started = workspace, started
        self.settings = read_settings(workspace / "ndec.toml")

    def __call__(self, title: str, verb: str, **flags: Any) -> Path:
        command = COMMANDS[verb]
        fields = command.config_class().__dataclass_fields__
        fixed = {"workspace": self.workspace} if "workspace" in fields else {}
        config = build(command.config_class(), command.section, self.settings, **fixed, **flags)
        path: Path = self.timed(title, lambda: command.run(config))
        return path

    def servers(self, config: DemoConfig) -> AbstractContextManager[Callable[[], Connection]]:
        """Label Studio and the image server, which start meanwhile; the function waits for them."""
        from ndec_builder.annotation.label_studio.ports import check_port_is_free
        from ndec_builder.annotation.serve import launching
        from ndec_builder.annotation.settings import ServeConfig

        # the image server would name an option of `annotate serve`
        check_port_is_free(config.port + 1, "`--port NUMBER` (the demo uses NUMBER and the next one)")
        ports = {"port": config.port, "image_port": config.port + 1}
        return launching(build(ServeConfig, "annotate.serve", self.settings, workspace=config.out, **ports))

    def timed(self, title: str, work: Callable[[], Any]) -> Any:
        begun = time.monotonic()
        say(f"── {title}")
        result = work()
        now = time.monotonic()
        say(f"   {title.partition(':')[0]} took {now - begun:.0f} s; {now - self.started:.0f} s since the start")
        return result


def _annotate(config: DemoConfig, stage: _Stages, connect: Callable[[], Connection]) -> None:
    """Push, label, pull, resolve and recheck both splits until the recheck finds no new pair."""
    annotator = PERSON if config.annotate_yourself else ORACLE
    server = connect()
    for split in ("test", "train"):
        for _ in range(10):
            stage(f"push {split}", "push", split=split, annotators=(annotator,))
            _label(config, server, split, annotator, stage)
            stage(f"resolve {split}", "resolve", split=split)
            if split == "train" or not _recheck(config, stage, split):
                break
        else:
            raise NdecError("the recheck still finds new pairs after 10 rounds; lower `top` in [mine] of ndec.toml")


def _label(config: DemoConfig, server: Any, split: str, annotator: str, stage: _Stages) -> None:
    if not config.annotate_yourself:
        from ndec_builder.demo.corpus.known_truth import known_label
        from ndec_builder.demo.oracle import answer_all

        answer_all(Workspace(config.out), split, server, known_label(Workspace(config.out)), annotator)
        stage(f"pull {split}", "pull", split=split)
        return
    from ndec_builder.annotation.label_tables import keys
    from ndec_builder.annotation.tables import AnnotationTables

    say(f"Open {server.url}, log in as {server.user} (password in {server.secrets}), and label the {split} project.")
    while True:
        stage(f"pull {split}", "pull", split=split)
        tables = AnnotationTables(Workspace(config.out), split)
        tasks, skipped = set(keys(tables.tasks)), tables.skipped
        waiting = tasks - tables.labelled - skipped
        if not waiting:
            if skipped:
                say(f"   {number_of(len(skipped), 'pair was', 'pairs were')} skipped: no label decides there")
            return
        say(f"   {len(tasks) - len(waiting)} of {len(tasks)} pairs are labelled or skipped; looking again in 20 s")
        time.sleep(20)


def _recheck(config: DemoConfig, stage: _Stages, split: str) -> int:
    """Number of pairs that the recheck of the kept queries sent back to annotation."""
    path = stage(f"recheck {split}", "recheck", split=split)
    record = read_json(path.parent / "recheck.run.json")
    return int(record["counts"]["new_pairs"])
