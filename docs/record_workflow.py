"""Record the workflow of the README as an animated picture: `python docs/record_workflow.py DATA [OUT]`.

DATA is the folder `examples/data` of the Debian package opencv-doc. The commands run for real, on small folders made of
those pictures and of edited copies of them; so do Label Studio and Chromium. A script presses the keys and knows the
answers from the file names. Only the pauses are made up: a recording in real time would mostly show waiting.
"""

from __future__ import annotations

import base64
import contextlib
import html
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ndec_builder.annotation.label_studio import projects
from ndec_builder.annotation.label_studio.connection import Connection, connect_label_studio
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.demo.oracle import answer_all
from ndec_builder.edits.recipes import edit_image

OUT = Path(__file__).parent / "images" / "workflow.svg"
WIDTH, HEIGHT, COLUMNS, LINE = 960, 540, 112, 19  # px, px, characters, px
SHOWN = (1366, 769)  # of the browser
STYLE = (
    "text{font:14px ui-monospace,Menlo,Consolas,monospace;white-space:pre;fill:#d6deeb}.c{fill:#7fdbca}.t{fill:#8b98a9}"
)


@dataclass(frozen=True)
class Scene:
    """What is shown for some seconds: lines of a terminal, or a screenshot with a caption."""

    seconds: float
    lines: tuple[str, ...] = ()
    picture: bytes = b""


def make_folders(data: Path, out: Path) -> None:
    """references, pool and training: camera frames, two views of one scene, edited copies of every third reference."""
    frames = list(read_frames(data / "vtest.avi"))
    references = {f"street-{i:03d}": frames[i] for i in range(0, 780, 40)}
    references |= {f"board-{path.stem}": Image.open(path) for path in sorted(data.glob("left[01][0-9].jpg"))}
    pool = {f"street-{i:03d}": frames[i] for i in range(20, 780, 40)}
    pool |= {f"board-{path.stem}": Image.open(path) for path in sorted(data.glob("right[01][0-9].jpg"))}
    rng = np.random.default_rng(3)
    for name in sorted(references)[::3]:
        pool[f"{name}-edited"] = edit_image(references[name].convert("RGB"), "copy", rng).image
    others = ("pic1.png", "pic2.png", "pic3.png", "pic4.png", "pic5.png", "pic6.png", "building.jpg", "home.jpg")
    training = {Path(name).stem: Image.open(data / name) for name in others}
    for folder, pictures in {"references": references, "pool": pool, "training": training}.items():
        (out / folder).mkdir(parents=True)
        for name, picture in pictures.items():
            picture.convert("RGB").save(out / folder / f"{name}.jpg", quality=92)


def read_frames(path: Path) -> Iterator[Image.Image]:
    video = cv2.VideoCapture(str(path))
    while (found := video.read())[0]:
        yield Image.fromarray(np.ascontiguousarray(found[1][..., ::-1]))


def known_label(query: str, reference: str) -> str:
    if query == f"{reference}-edited":
        return "edited_copy"
    return "hard_negative" if query.split("-")[0] == reference.split("-")[0] else "unrelated"


def run(command: str, folder: Path) -> list[str]:
    """Run one ndec command; return what it prints, as the terminal would show it."""
    words = [sys.executable, "-m", "ndec_builder", *command.split()[1:]]
    done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in done.stdout.splitlines()]
    lines = [re.sub(r"(password: )(?!in )\S+", r"\1…", line) for line in lines]
    return [line.replace(str(folder.parent), "~") for line in lines if line]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Connection]:
    command = [sys.executable, "-m", "ndec_builder", "annotate", "serve"]
    with (folder / "serve.txt").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(300):
            with contextlib.suppress(NdecError):
                yield connect_label_studio(Workspace(folder))
                return
            if server.poll() is not None:
                break
            time.sleep(1)
        raise SystemExit(f"`ndec annotate serve` did not start: {(folder / 'serve.txt').read_text()[-2000:]}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGINT)
        server.wait(60)


def label_in_browser(browser: Any, workspace: Workspace, connection: Connection) -> list[Scene]:
    """alice labels four pairs with keys; a script answers the rest through the API."""
    account = read_json(workspace.root / "label_studio" / "accounts.json")["alice"]
    page = browser.new_page(viewport={"width": SHOWN[0], "height": SHOWN[1]})
    page.goto(connection.url)
    page.fill("input[name=email]", account["user"])
    page.fill("input[name=password]", account["password"])
    page.press("input[name=password]", "Enter")
    page.wait_for_selector("input[name=password]", state="detached")
    project = projects.find_projects(connection.client())[projects.project_key(workspace, "test", "first", "alice")]
    page.goto(f"{connection.url}/projects/{project.id}/data?labeling=1")
    page.wait_for_selector(".ndec img")
    scenes = []
    for key, seconds in (("", 5), ("c", 4), ("2", 3), ("", 3)):
        if key:
            page.keyboard.press(key)
        page.wait_for_timeout(2500)
        scenes.append(Scene(seconds, picture=page.screenshot()))
    answer_all(workspace, "test", connection, known_label, "alice", "first")
    return scenes


def photograph(browser: Any, path: Path, seconds: float) -> Scene:
    page = browser.new_page(viewport={"width": SHOWN[0], "height": SHOWN[1]})
    page.goto(path.as_uri())
    page.wait_for_timeout(1000)
    return Scene(seconds, picture=page.screenshot())


def record(data: Path, root: Path) -> list[Scene]:
    from playwright.sync_api import sync_playwright

    make_folders(data, root / "photos")
    bench, scenes = root / "my-bench", []

    def step(*commands: str, seconds: float, note: str = "") -> None:
        lines: list[str] = [f"# {note}"] if note else []
        for command in commands:
            lines += [f"$ {command}"]
            scenes.append(Scene(1.2, tuple(lines)))
            lines += run(command, root if command.startswith("ndec init") else bench)
        scenes.append(Scene(seconds, tuple(lines)))

    step("ndec init my-bench", seconds=1.5, note="Two folders: references, and a pool in which to find look-alikes")
    step(
        "ndec ingest basic ../photos/training",
        "ndec mine --pool ../photos/pool --references ../photos/references",
        seconds=6,
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        scenes.append(photograph(browser, bench / "candidates" / "test" / "contact_sheet.html", 6))
        with served(bench) as connection:
            step(
                "ndec annotate push --annotator alice", seconds=4, note="`ndec annotate serve` runs in another terminal"
            )
            scenes.extend(label_in_browser(browser, Workspace(bench), connection))
            step(
                "ndec annotate pull",
                "ndec annotate resolve",
                seconds=6,
                note="alice has labelled all pairs (here: a script)",
            )
        step("ndec edit --role reference --count 120", "ndec export --name my-bench --distractors 20", seconds=6)
        step("ndec benchmark --manifest manifests/my-bench-1.0.0 --model efficientnet-lite0", seconds=6)
        report = next((bench / "reports").glob("*/report.html"))
        scenes.append(photograph(browser, report, 8))
        browser.close()
    assert AnnotationTables(Workspace(bench), "test").labels.num_rows
    return scenes


def draw(scenes: list[Scene]) -> str:
    """One SVG in which each scene is visible for its seconds, again and again; it needs no script."""
    total, start, rules, groups = sum(scene.seconds for scene in scenes), 0.0, [], []
    for number, scene in enumerate(scenes):
        first, last = 100 * start / total, 100 * (start + scene.seconds) / total
        rules.append(
            f"@keyframes s{number}{{0%{{opacity:{int(number == 0)}}}{first:.3f}%{{opacity:1}}{last:.3f}%{{opacity:0}}}}"
        )
        rules.append(f"#s{number}{{opacity:0;animation:s{number} {total:.1f}s step-end infinite}}")
        groups.append(f'<g id="s{number}">{_picture(scene.picture) if scene.picture else _terminal(scene.lines)}</g>')
        start += scene.seconds
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="The workflow of ndec, from two folders to a report"><style>{STYLE}{"".join(rules)}'
        f'</style><rect width="100%" height="100%" rx="8" fill="#011627"/>{"".join(groups)}</svg>\n'
    )


def _terminal(lines: tuple[str, ...]) -> str:
    rows = [(line[:1], part) for line in lines for part in textwrap.wrap(line, COLUMNS, subsequent_indent="  ")]
    rows = rows[-(HEIGHT // LINE - 1) :]
    kinds = {"$": "c", "#": "t"}
    return "".join(
        f'<text x="16" y="{28 + LINE * row}" class="{kinds.get(mark, "")}">{html.escape(text)}</text>'
        for row, (mark, text) in enumerate(rows)
    )


def _picture(screenshot: bytes) -> str:
    image = Image.open(io.BytesIO(screenshot)).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=72, optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<image width="{WIDTH}" height="{HEIGHT}" href="data:image/jpeg;base64,{data}"/>'


def main() -> None:
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory(prefix="ndec-record-") as root:
        scenes = record(Path(sys.argv[1]).resolve(), Path(root))
    svg = draw(scenes)
    out = Path(sys.argv[2]) if len(sys.argv) == 3 else OUT
    out.write_text(svg, "utf-8")
    print(f"{out}: {len(scenes)} scenes, {sum(scene.seconds for scene in scenes):.0f} s, {len(svg) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
