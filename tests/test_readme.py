"""Every command of the README but the two `make` lines is run, in order, on small folders of pictures."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ndec_builder.annotation.label_studio.connection import connect_label_studio
from ndec_builder.annotation.label_studio.environment import find_server
from ndec_builder.core.errors import NdecError
from ndec_builder.core.workspace import Workspace
from ndec_builder.demo.oracle import answer_all
from ndec_builder.edits.recipes import edit_image
from support.needs import free_port, missing
from support.pictures import scene
from support.processes import ends_with_us, folder_in_memory
from support.warm import Warm

pytestmark = pytest.mark.slow

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines() if line.strip()
]
SERVE = "ndec annotate serve"
# The README's numbers are those of a real project; the folders of the test are small.
SMALLER = {"--top": "24", "--count": "12", "--distractors": "3"}


def write_photos(root: Path) -> None:
    """Folders as a user has them: references, a pool with copies, wholes of which a reference is a crop, others."""
    rng = np.random.default_rng(0)
    for folder in ("references", "pool", "training", "queries"):
        (root / folder).mkdir(parents=True)
    for i in range(60):
        picture = scene(1000 + i, (240, 180))
        name, side = f"p{i:03d}", ("references" if i < 30 else "training")
        if i % 3 == 0:  # the gallery holds a crop, the pool the whole: a hard negative
            picture.crop((16, 12, 228, 172)).save(root / side / f"{name}.png")
            picture.save(root / "pool" / f"whole-{name}.png")
        else:
            picture.save(root / side / f"{name}.png")
        if i % 3 == 1:
            edit_image(picture, "copy", rng).image.save(root / "pool" / f"copied-{name}.jpg")
    for i in range(30):
        scene(5000 + i, (240, 180)).save(root / "pool" / f"other-{i:03d}.png")
    rows = ["query_id,reference_id"]
    for i in (1, 2, 4):
        edit_image(scene(1000 + i, (240, 180)), "light", rng).image.save(root / "queries" / f"q{i}.jpg")
        rows.append(f"q{i},p{i:03d}")
    (root / "ground_truth.csv").write_text("\n".join(rows) + "\n")


def answer(query_id: str, reference_id: str) -> str:
    """The correct label of a pair, derived from the names of its pictures."""
    kind, _, name = query_id.partition("-")
    if name != reference_id:
        return "unrelated"
    return {"whole": "hard_negative", "copied": "edited_copy"}[kind]


def smaller(command: str) -> list[str]:
    words = shlex.split(command)
    assert words[0] == "ndec"
    for i, word in enumerate(words[:-1]):
        if word in SMALLER:
            words[i + 1] = SMALLER[word]
    return words[1:]


@pytest.fixture
def bench() -> Iterator[Path]:
    """The folder `photos` in an empty directory."""
    with folder_in_memory("ndec-readme") as folder:
        write_photos(folder / "photos")
        yield folder


def adapt_settings(path: Path) -> None:
    """Free ports, and a short training: written into the file that `ndec init` made."""
    text = path.read_text("utf-8")
    for heading, values in {
        "[annotate.serve]": f"port = {free_port()}\nimage_port = {free_port()}",
        "[train]": "steps = 60\nviews = 3",
        "[benchmark]": "replicates = 100",
    }.items():
        assert f"{heading}\n" in text
        text = text.replace(f"{heading}\n", f"{heading}\n{values}\n")
    path.write_text(text, "utf-8")


def start_server(workspace: Path) -> subprocess.Popen[bytes]:
    """Run `ndec annotate serve` as in the README and wait until it answers."""
    said = workspace.parent / "serve.txt"
    with said.open("wb") as log:
        command = [sys.executable, "-m", "ndec_builder", *smaller(SERVE)]
        server = subprocess.Popen(command, cwd=workspace, stderr=log, start_new_session=True, preexec_fn=ends_with_us())
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and server.poll() is None:
        try:
            connect_label_studio(Workspace(workspace))
            return server
        except NdecError:
            time.sleep(1)
    server.kill()
    raise AssertionError(f"`{SERVE}` did not start: {said.read_text()[-2000:]}")


def label_everything(workspace: Path) -> None:
    """alice answers all that is pushed to her, through Label Studio's API."""
    connection = connect_label_studio(Workspace(workspace))
    answer_all(Workspace(workspace), "test", connection, answer, "alice", "first")


@pytest.mark.server
@pytest.mark.timeout(900)
def test_every_command_of_the_readme(bench: Path, warm: Warm) -> None:
    try:
        find_server()
    except NdecError as error:
        missing(str(error))
    directory, server = follow(warm, bench)
    assert server.returncode == 0
    report = directory / "reports" / "efficientnet-lite0-cosine"
    assert json.loads((report / "metrics.json").read_text("utf-8"))["uap"]["value"] is not None
    assert (report / "report.html").is_file()


def follow(warm: Warm, directory: Path) -> tuple[Path, subprocess.Popen[bytes]]:
    """Run all commands; returns the workspace, and the server, which has ended."""
    server = None
    try:
        for command in COMMANDS:
            if command.startswith("cd "):
                directory = directory / command.removeprefix("cd ")
                adapt_settings(directory / "ndec.toml")
            elif command == SERVE:
                server = start_server(directory)
            else:
                done = warm.run(smaller(command), directory, {"LABEL_STUDIO_URL": ""})
                assert done.returncode == 0, f"`{command}` failed:\n{done.text[-3000:]}"
                if "annotate" in command and "push" in command:
                    label_everything(directory)
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)
            server.wait(60)
    assert server is not None
    return directory, server
