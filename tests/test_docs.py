"""The docs site builds with strict links and stays small. Its commands and code blocks run, or at least parse."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import typer.main
from PIL import Image
from test_readme import SMALLER, answer, write_photos

from ndec_builder.annotation.label_studio.connection import Connection
from ndec_builder.cli import app
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.demo.oracle import answer_all
from support.needs import missing
from support.one_backbone import one_backbone

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
# In the order in which a reader follows them. Training pairs come before the export, so that one dataset has both.
FOLLOWED = [
    "quickstart", "how-to/training-pairs", "how-to/annotation-team", "how-to/test-set", "how-to/train-asl",
    "how-to/compare-detector", "how-to/publish", "how-to/paper-tables", "how-to/cluster",
]  # fmt: skip
SERVED = ("ndec annotate serve", "ndec init")  # the session's server is running, and the fixture makes the workspace


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def run_commands(page: Path) -> list[str]:
    """The lines of a page's ```sh blocks. A test runs them."""
    return [line for block in blocks(page, "sh") for line in block.splitlines() if line.strip()]


def shown_commands(page: Path) -> list[str]:
    """`ndec …` lines of indented blocks. They need a cluster, a release or hours, so the tests only parse them."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8").replace("\\\n", ""), flags=re.DOTALL)
    found = re.findall(r"^ {4,}((?:torchrun \S+ \S+ -m ndec_builder|ndec) .*)$", text, re.MULTILINE)
    return [re.split(r" {3,}", line)[0] for line in found]


def words_of(command: str) -> list[str]:
    """Arguments of a command as a page writes it, with the first of `a|b` and without `[optional]`."""
    command = re.sub(r"\[[^\]]*\]", "", command.replace("torchrun --nproc-per-node 2 -m ndec_builder", "ndec"))
    words = [re.sub(r"(?<=\w)\|.*", "", word) for word in shlex.split(command.replace("'", '"'))]
    assert words[0] == "ndec"
    return words[1:]


def found(words: list[str]) -> tuple[Any, list[str]]:
    """The command at the beginning of the words, and the remaining words."""
    command: Any = typer.main.get_group(app)
    while hasattr(command, "commands"):
        assert words and words[0] in command.commands, f"{words[:1]} is not a command"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def parse(words: list[str]) -> None:
    """Parse with the real command line, without running. Raises click's UsageError."""
    command, rest = found(words)
    command.make_context("ndec", list(rest))


RUN = [(page, line) for page in PAGES for line in run_commands(page) if line.startswith("ndec")]
SHOWN = [(page, line) for page in PAGES for line in shown_commands(page)]


def name_of(value: object) -> str:
    return value.stem if isinstance(value, Path) else str(value)[:60]


@pytest.mark.parametrize(("page", "line"), RUN, ids=name_of)
def test_every_command_that_is_run_parses(page: Path, line: str) -> None:
    for command in line.split(" && "):
        parse(words_of(command))


@pytest.mark.parametrize(("page", "line"), SHOWN, ids=name_of)
def test_every_command_that_is_only_shown_exists_with_its_options(page: Path, line: str) -> None:
    for text in line.split(" && "):
        command, rest = found(words_of(text.split("…")[0]))
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in rest if word.startswith("--")} <= known


def test_the_parser_of_this_test_can_fail() -> None:
    for wrong in (["mine", "--topp", "3"], ["fetch"], ["nothing"]):
        with pytest.raises(Exception, match=r"topp|Missing|not a command"):
            parse(wrong)
    assert len(RUN) > 40 and len(SHOWN) > 20


def test_every_python_file_that_a_page_names_exists() -> None:
    files = [path.as_posix() for path in ROOT.rglob("*.py") if not path.relative_to(ROOT).parts[0].startswith(".")]
    named = {(page.name, name) for page in PAGES for name in re.findall(r"(\w[\w/]*\.py)\b", page.read_text("utf-8"))}
    assert len(named) > 20
    assert [(page, name) for page, name in sorted(named) if not any(file.endswith(f"/{name}") for file in files)] == []


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    if shutil.which("mkdocs") is None and not (Path(sys.executable).parent / "mkdocs").exists():
        missing("mkdocs is not installed: `pip install 'ndec-builder[docs]'`")
    target = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)],
        cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr[-3000:]
    return target


def test_links_work_in_a_plain_checkout() -> None:
    """Pages that the site generates do not exist there, so no page may link to them."""
    folders = ("docs", "annotation", "manifests", "findings", "benchmarks", "tests")
    pages = [*ROOT.glob("*.md"), *(page for folder in folders for page in (ROOT / folder).rglob("*.md"))]
    assert len(pages) > 40
    broken = {}
    for page in pages:
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        targets = [target for target in re.findall(r"\]\(([^)#\s]+)", text) if not re.match(r"https?:|mailto:", target)]
        if gone := [target for target in targets if not (page.parent / target).exists()]:
            broken[page.relative_to(ROOT).as_posix()] = gone
    assert broken == {}


def test_the_site_builds_with_strict_links_and_shows_what_is_generated(site: Path) -> None:
    def text(name: str) -> str:
        return (site / name).read_text("utf-8")

    assert "max_per_reference" in text("reference/settings.html")
    assert "ndec annotate double-check" in text("reference/commands.html")
    assert "NormRatioLoss" in text("reference/python.html") and "exp(1 − ‖x_i‖ / ‖x_j‖)" in text(
        "reference/python.html"
    )
    assert "reference_covered" in text("reference/formats.html") and "hard_kind" in text("reference/formats.html")
    assert "9,000,000 × 1,000,000 × 512" in text("sizing.html")
    for result in (ROOT / "benchmarks" / "results").glob("*.md"):
        title = result.read_text("utf-8").splitlines()[0].removeprefix("# ")
        assert title in text("performance.html")


def test_pages_load_nothing_from_other_sites_and_every_picture_has_an_alt_text(site: Path) -> None:
    for page in site.rglob("*.html"):
        html = page.read_text("utf-8")
        assert not re.search(r'<(script|img|link)[^>]+(src|href)="https?://', html), page
        assert all(re.search(r'alt="[^"]', picture) for picture in re.findall(r"<img [^>]*>", html)), page


@pytest.mark.browser
def test_no_page_is_wider_than_a_phone_or_loads_more_than_three_megabytes(site: Path) -> None:
    chromium = shutil.which("chromium") or missing("no chromium for the browser test: install the package `chromium`")
    sync_api = pytest.importorskip("playwright.sync_api")
    loaded: set[str] = set()
    heavy, wide = {}, set()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.on("request", lambda request: loaded.add(request.url))
        for path in sorted(site.rglob("*.html")):
            loaded.clear()
            page.goto(path.as_uri())
            paths = [Path(unquote(urlsplit(url).path)) for url in loaded]
            if (size := sum(file.stat().st_size for file in paths if file.is_file())) > 3e6:
                heavy[path.name] = size
            if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                wide.add(path.name)
        browser.close()
    assert heavy == {}
    assert wide == set()


@pytest.fixture
def followed(label_studio: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that holds `photos` and the workspace `my-bench`. Annotate verbs use the session's server, and all
    commands share one loaded model."""
    write_photos(tmp_path / "photos")
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
    monkeypatch.chdir(tmp_path)
    ndec("ndec init my-bench")
    settings = tmp_path / "my-bench" / "ndec.toml"
    text = settings.read_text("utf-8")
    for heading, values in {"[train]": "steps = 60\nviews = 3", "[benchmark]": "replicates = 100"}.items():
        text = text.replace(f"{heading}\n", f"{heading}\n{values}\n")
    settings.write_text(text, "utf-8")
    with one_backbone(in_training=True):
        yield tmp_path


def ndec(command: str) -> None:
    """Run a command in this process, because a process for each would spend its time importing torch."""
    words = words_of(command)
    for i, word in enumerate(words[:-1]):
        if word in SMALLER:
            words[i + 1] = SMALLER[word]
    app(words, standalone_mode=False)


def label_all(connection: Connection) -> None:
    """Every annotator labels the pairs that were pushed to them."""
    for split in ("test", "train"):
        tasks = Workspace(Path()).annotation(split) / "tasks.parquet"
        if tasks.is_file():
            table = read_table(tasks)
            people = zip(table["annotator"].to_pylist(), table["round"].to_pylist(), strict=True)
            for annotator, round_ in dict.fromkeys(people):
                answer_all(Workspace(Path()), split, connection, answer, annotator, round_)


@pytest.mark.server
@pytest.mark.timeout(900)
def test_the_how_tos_can_be_followed(followed: Path, label_studio: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = followed / "my-bench"
    monkeypatch.chdir(bench)
    done: set[str] = set()
    for name in FOLLOWED:
        if name == "how-to/compare-detector":
            shutil.copy("reports/baseline/predictions.csv", "predictions.csv")
        for command in run_commands(ROOT / "docs" / f"{name}.md"):
            again = command.startswith("ndec annotate") or command not in done
            if command.startswith(("cd ", *SERVED)) or not again:
                continue
            try:
                ndec(command)
            except (Exception, SystemExit) as error:
                raise AssertionError(f"{name}: `{command}` failed: {type(error).__name__}: {error}") from error
            done.add(command)
            if command.startswith(("ndec annotate push", "ndec annotate double", "ndec annotate adj")):
                label_all(label_studio)
    assert (bench / "reports" / "table-1").is_dir() and (bench / "reports" / "figure-8").is_dir()
    assert (bench / "reports" / "folders" / "report.html").is_file()
    monkeypatch.chdir(followed)
    pixels = np.asarray(Image.open(next((followed / "photos" / "references").glob("*.png"))).convert("RGB"))
    for page in PAGES:
        for block in blocks(page, "python"):
            try:
                exec(compile(block, str(page), "exec"), {"query_rgb": pixels, "reference_rgb": pixels})
            except NdecError as error:
                raise AssertionError(f"{page.name}: {error}") from error


def test_every_how_to_is_followed() -> None:
    pages = {page.relative_to(ROOT / "docs").with_suffix("").as_posix() for page in PAGES if run_commands(page)}
    assert pages == set(FOLLOWED)


def test_every_finding_is_listed_and_pins_its_packages() -> None:
    scripts = {path.stem: path.read_text("utf-8") for path in (ROOT / "findings").glob("*.sh")}
    table = (ROOT / "findings" / "README.md").read_text("utf-8")
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE)) == set(scripts)
    for name, script in scripts.items():
        packages = re.findall(r"pip install (.*)", script.replace("\\\n", " "))
        assert packages, name
        assert [word for line in packages for word in line.split() if "==" not in word and word[0] != "-"] == [], name
        assert "# Expected:" in script and "# What happens:" in script and "ndec" not in script, name
