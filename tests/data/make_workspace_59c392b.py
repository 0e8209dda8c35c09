"""Makes workspace_59c392b.tar.xz: a small workspace as the commands of commit 59c392b (version 0.1.0) left it.

    git worktree add OLD 59c392b
    PYTHONPATH=OLD python tests/data/make_workspace_59c392b.py

Both splits are mined, labelled by two people through a real Label Studio (one answer is changed later, one annotator's
labels are set aside), double-checked, resolved, searched again, exported as small-1.0.0, trained on and benchmarked.
After the last pull one more answer is changed and one pair is skipped, for the next version to find. Pictures and
workspace are named by relative paths, so no path of a machine gets into it.

Label Studio's database is kept with made-up credentials. Caches that cannot change a result are left out, and so are
reports and contact sheets. `expected.json` holds what the old version said.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from support.needs import free_port  # noqa: E402
from support.pictures import scene  # noqa: E402

SIZE = (192, 144)
LEFT_OUT = ("cache", "candidates/test/contact_sheet.html", "candidates/train/contact_sheet.html",
            "reports/baseline/report.html", "reports/baseline/figures", "reports/asl/report.html",
            "reports/asl/figures", "runs/asl/state.safetensors")  # fmt: skip
KEPT_OF_LABEL_STUDIO = {"label_studio.sqlite3", "secrets.json", "version.json"}
SECRETS = {"user": "annotator@ndec.local", "password": "made-up-for-tests", "token": "0123456789" * 4}
TRUNK = "tiny.pt@32"  # the shipped one would make a checkpoint of 1.3 MB
SETTINGS = """
[embed]
dim = 16
threads = 1
[train]
steps = 3
views = 3
identities = 4
pairs = 1
dim = 4
warmup = 1
threads = 1
keep_copies = 0.0
[benchmark]
replicates = 100
"""
MACHINE_PATHS = (b"/tmp", b"/home/", b"/root", b"/work")


def old(module: str) -> Any:
    """A module of the old version; this repository's code has other names."""
    return importlib.import_module(f"ndec_builder.{module}")


def ndec(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "ndec_builder", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"ndec {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def draw(folder: Path) -> None:
    """6 references, 6 basic images, 14 in the pool: of every three, a crop of a reference, one of a basic image and a
    picture of its own."""
    for role, first in (("reference", 0), ("basic", 100)):
        (folder / role).mkdir(parents=True)
        for number in range(6):
            scene(first + number, SIZE).save(folder / role / f"{role}-{number}.jpg", quality=80)
    (folder / "pool").mkdir()
    for number in range(14):
        seed = (number // 3, 100 + number // 3, 200 + number)[number % 3]
        edge = 1 + number // 2
        crop = scene(seed, SIZE).crop((edge, edge, SIZE[0] - edge, SIZE[1] - edge))
        crop.save(folder / "pool" / f"pool-{number:02d}.jpg", quality=80)


def answer(split: str, name: str, round_: str = "first", often: int = 4) -> None:
    """Label everything that is open for this annotator; annotators differ sometimes."""

    def label(query: str, reference: str) -> str:
        draw = random.Random(f"{query} {reference}").randrange(100)
        return "unrelated" if draw % often == 0 else "edited_copy" if draw % 5 == 1 else "hard_negative"

    workspace = old("core.workspace").Workspace(Path())
    connection = old("annotation.connection").connect(workspace)
    old("annotation.oracle").answer_all(workspace, split, connection, label, name, round_, threads=1)


def tasks_of(annotator: str) -> tuple[Any, list[Any]]:
    workspace = old("core.workspace").Workspace(Path())
    client = old("annotation.connection").connect(workspace).client()
    projects = old("annotation.projects")
    project = projects.find_projects(client)[projects.project_key(workspace, "test", "first", annotator)]
    listed = client.tasks.list(project=project.id, page_size=100, fields="all")
    return client, sorted(listed, key=lambda task: task.id)


def change_label(annotator: str, number: int) -> str:
    """The annotator corrects an answer that was pulled; returns the pair."""
    client, tasks = tasks_of(annotator)
    note = tasks[number].annotations[0]
    result = [{"from_name": "verdict", "to_name": "query", "type": "choices", "value": {"choices": ["unsure"]}}]
    client.annotations.update(id=note["id"], result=result)
    return str(tasks[number].data["pair_id"])


def skip_pair(annotator: str, number: int) -> str:
    """The annotator withdraws an answer that was pulled, with the button Skip; returns the pair."""
    client, tasks = tasks_of(annotator)
    client.annotations.update(id=tasks[number].annotations[0]["id"], was_cancelled=True)
    return str(tasks[number].data["pair_id"])


def save_trunk() -> None:
    """Random weights from a seed, as TorchScript."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.ReLU(), nn.Conv2d(8, 24, 3, stride=2, padding=1), nn.ReLU())
    torch.jit.script(nn.Sequential(*layers).eval()).save(TRUNK.partition("@")[0])


def build() -> None:
    save_trunk()
    Path("ndec.toml").write_text(SETTINGS, "utf-8")
    for role in ("basic", "reference", "pool"):
        ndec("ingest", role, f"pictures/{role}")
    for role in ("basic", "reference", "pool"):
        ndec("embed", role, "--workers", "1")
    ndec("edit", "--role", "reference", "--count", "6")
    ndec("mine", "--top", "12", "--workers", "1")
    ndec("mine", "--split", "train", "--top", "10", "--workers", "1")
    people = ("--annotator", "ann", "--annotator", "ben", "--overlap", "0.5")
    ndec("annotate", "push", "--gold", "0.2", *people)
    ndec("annotate", "push", "--split", "train", *people)
    for split in ("test", "train"):
        answer(split, "ann", often=4)
        answer(split, "ben", often=3)
        ndec("annotate", "pull", "--split", split)
    change_label("ann", 0)
    ndec("annotate", "pull")
    ndec("annotate", "resolve")
    ndec("annotate", "recheck")
    ndec("annotate", "push", *people)
    answer("test", "ann", often=4)
    answer("test", "ben", often=3)
    ndec("annotate", "pull")
    ndec("annotate", "send-back", "ben", "--split", "train", "--why", "labelled another set by mistake", "--to", "ann",
         "--by", "lead")  # fmt: skip
    ndec("annotate", "push", "--split", "train", "--annotator", "ann")
    answer("train", "ann", often=4)
    ndec("annotate", "pull", "--split", "train")
    for split in ("test", "train"):
        ndec("annotate", "resolve", "--split", split)
    ndec("annotate", "double-check", "--annotator", "dora")
    answer("test", "dora", "double_check", often=6)
    ndec("annotate", "pull")
    ndec("annotate", "resolve")
    ndec("export", "--name", "small", "--distractors", "2")
    ndec("validate", "manifests/small-1.0.0")
    ndec("benchmark", "--manifest", "manifests/small-1.0.0", "--model", "efficientnet-lite0", "--name", "baseline")
    ndec("train-asl", "--manifest", "manifests/small-1.0.0", "--recipe", "asl", "--name", "asl", "--backbone", TRUNK)
    ndec("benchmark", "--manifest", "manifests/small-1.0.0", "--checkpoint", "runs/asl", "--name", "asl")


def expected() -> dict[str, Any]:
    """What the old version says about labels and decisions, and what is done after its last pull."""
    said = {split: json.loads(ndec("annotate", "status", "--split", split, "--json")) for split in ("test", "train")}
    return said | {"changed_later": change_label("ann", 1), "skipped_later": skip_pair("ben", 2)}


def scrub(data: Path) -> None:
    """Replace every credential of Label Studio's data with made-up ones; keep only what its next start needs."""
    for path in data.iterdir():
        if path.name not in KEPT_OF_LABEL_STUDIO:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (data / "secrets.json").write_text(json.dumps(SECRETS), "utf-8")
    with contextlib.closing(sqlite3.connect(data / "label_studio.sqlite3", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("UPDATE htx_user SET password = '!'")
        database.execute("UPDATE authtoken_token SET key = ?", (SECRETS["token"],))
        database.execute("UPDATE organization SET token = 'made-up'")
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in tables:
            if name == "django_session" or name.startswith("token_blacklist"):
                database.execute(f"DELETE FROM {name}")
        database.execute("VACUUM")


def main() -> None:
    archive = HERE / "workspace_59c392b.tar.xz"
    with tempfile.TemporaryDirectory(prefix="old-workspace-") as name:
        root = Path(name) / "bench"
        root.mkdir()
        draw(root / "pictures")
        os.chdir(root)
        server = old("annotation.server").LabelStudioServer(root / "label_studio", free_port())
        with server:
            secrets = json.loads((root / "label_studio" / "secrets.json").read_text("utf-8"))
            os.environ |= {"LABEL_STUDIO_URL": server.url, "LABEL_STUDIO_API_KEY": secrets["token"]}
            build()
            (root / "expected.json").write_text(json.dumps(expected(), indent=1, sort_keys=True), "utf-8")
        scrub(root / "label_studio")
        for path in LEFT_OUT:
            shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink(missing_ok=True)
        for path in sorted(root.rglob("*")):
            if path.is_file() and any(found in path.read_bytes() for found in MACHINE_PATHS):
                print(f"{path.relative_to(root)} may name a folder of this machine", file=sys.stderr)
        os.chdir(HERE)
        with tarfile.open(archive, "w:xz") as tar:
            for path in sorted(root.rglob("*")):
                tar.add(path, path.relative_to(root).as_posix(), recursive=False, filter=_anonymous)
        if len(sys.argv) > 1:
            shutil.copytree(root, sys.argv[1])
    print(archive, archive.stat().st_size)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main()
