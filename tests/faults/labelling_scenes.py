"""The commands of the small labelling project, the state before each, and what simulated people answer."""

from __future__ import annotations

from pathlib import Path

from faults.labelling_bench import Bench, Scene
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.schemas import CANDIDATES, IMAGES, pair_id, table_of
from ndec_builder.core.storage import sha256_file, write_json, write_table
from ndec_builder.core.workspace import Workspace
from support.pictures import scene
from support.replaced_picture import replace_picture

PAIRS = 10


def simulated_label(pair: str) -> str:
    """What every simulated annotator answers."""
    return ("hard_negative", "edited_copy", "unrelated", "hard_negative")[int(pair, 16) % 4]


def other_label(pair: str) -> str:
    return "unsure" if simulated_label(pair) == "hard_negative" else "hard_negative"


def make_world(root: Path) -> None:
    """Small real images, and candidate pairs in both roles."""
    workspace = Workspace(root)
    for role, first in (("pool", 0), ("reference", 50)):
        rows = []
        for number in range(PAIRS + 4):
            path = workspace.files(role) / f"{role}-{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            scene(first + number, (160, 128)).save(path)
            row = {"image_id": path.stem, "role": role, "uri": workspace.uri_of(path), "sha256": sha256_file(path)}
            rows.append(row | {"width": 160, "height": 128, "format": "PNG", "rotation": 0, "group": path.stem})
        write_table(workspace.images(role), table_of(IMAGES, rows))
    names = [(f"pool-{number:02d}", f"reference-{number:02d}") for number in range(PAIRS)]
    rows = [
        {"pair_id": pair_id("test", *pair), "split": "test", "query_id": pair[0], "reference_id": pair[1],
         "score": 1 - rank / 100, "score_normalized": 1 - rank / 100, "rank": rank}
        for rank, pair in enumerate(names, 1)
    ]  # fmt: skip
    directory = workspace.candidates("test")
    write_table(directory / "candidates.parquet", table_of(CANDIDATES, rows))
    write_json(directory / "run.json", {"config": {"model": "none"}, "cut": 0.9, "counts": {"pairs": len(rows)}})


PEOPLE = ("--annotator", "ann", "--annotator", "ben")
PUSH = ("annotate", "push", *PEOPLE, "--overlap", "0.4", "--gold", "0.2")
EXPORT = ("export", "--name", "small", "--distractors", "2", "--materialize", "tar")


def _fresh(bench: Bench) -> None:
    make_world(bench.root)


def _labelled(bench: Bench) -> None:
    """Both annotators labelled some pairs, which were pulled; then they labelled more, and skipped one."""
    make_world(bench.root)
    bench.must(*PUSH)
    for name in ("ann", "ben"):
        bench.label(name, 0, 3, simulated_label)
    bench.must("annotate", "pull")
    for name in ("ann", "ben"):
        bench.label(name, 3, 4, simulated_label)
    bench.label("ben", 4, 5, lambda _: None)


def _changed(bench: Bench) -> None:
    """As above; and one label was corrected, one skipped later, one deleted, and one open task deleted."""
    _labelled(bench)
    first, second, third, *_ = bench.pairs("ann")
    project = bench.project("ann")
    bench.server.label(project, first, other_label(first))
    bench.server.label(project, second, None)
    bench.server.delete_label(project, third)
    bench.server.delete_task(project, bench.pairs("ann")[-1])


def _skipped(bench: Bench) -> None:
    _labelled(bench)
    bench.must("annotate", "pull")


def _pulled(bench: Bench) -> None:
    _changed(bench)
    for name in ("ann", "ben"):
        bench.label(name, 4, None, simulated_label)
    bench.must("annotate", "pull")


def _resolved(bench: Bench) -> None:
    make_world(bench.root)
    bench.must("annotate", "push", *PEOPLE, "--overlap", "0.4")
    for name in ("ann", "ben"):
        bench.label(name, 0, None, simulated_label)
    bench.must("annotate", "pull")
    bench.must("annotate", "resolve")


def _replaced(bench: Bench) -> None:
    """A picture was replaced of a pair whose label was pulled, of one that was not, and of an open one."""
    _labelled(bench)
    tasks = AnnotationTables(Workspace(bench.root), "test").tasks
    given = dict(zip(tasks["pair_id"].to_pylist(), tasks["query_id"].to_pylist(), strict=True))
    mined = [pair for pair in bench.pairs("ann") if given[pair].startswith("pool-")]
    for seed, pair in enumerate([mined[0], mined[2], mined[-1]], 400):
        replace_picture(Workspace(bench.root), "pool", given[pair], seed)


def _exported(bench: Bench) -> None:
    """The same version exists, but one of its files was damaged."""
    _resolved(bench)
    bench.must(*EXPORT)
    damaged = bench.root / "manifests" / "small-1.0.0" / "ground_truth.csv"
    damaged.write_bytes(damaged.read_bytes()[:20])


SCENES = (
    Scene("push", PUSH, _fresh),
    Scene("push: replaced", PUSH, _replaced),
    Scene("pull", ("annotate", "pull"), _changed),
    Scene("resolve", ("annotate", "resolve", "--posterior"), _pulled),
    Scene("handover: leave", ("annotate", "leave", "ben"), _labelled),
    Scene("handover: newcomer", ("annotate", "push", *PEOPLE, "--annotator", "cat", "--overlap", "0.4"), _skipped),
    Scene("send-back", ("annotate", "send-back", "ben", "--why", "simulated", "--to", "cat"), _skipped),
    Scene("export", EXPORT, _resolved),
    Scene("export again", EXPORT, _exported),
)
