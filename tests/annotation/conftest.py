"""A workspace with images and candidate pairs, made from the schemas alone."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ndec_builder.core.schemas import CANDIDATES, IMAGES, pair_id, table_of
from ndec_builder.core.storage import sha256_file, write_table
from ndec_builder.core.workspace import Workspace
from support.described_bench import Bench
from support.fake_label_studio import TOKEN, FakeLabelStudio
from support.given_file import Given
from support.pictures import scene
from support.replaced_picture import Team

MakeCandidates = Callable[..., list[tuple[str, str]]]


def _write_images(workspace: Workspace, role: str, count: int, first_seed: int, size: tuple[int, int]) -> None:
    rows = []
    for i in range(count):
        path = workspace.files(role) / f"{role}-{i:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(first_seed + i, size).save(path)
        row = {"image_id": path.stem, "role": role, "uri": workspace.uri_of(path), "sha256": sha256_file(path)}
        rows.append(row | {"width": size[0], "height": size[1], "format": "JPEG", "rotation": 0, "group": path.stem})
    write_table(workspace.images(role), table_of(IMAGES, rows))


@pytest.fixture
def make_candidates() -> MakeCandidates:
    """`make(workspace, split, count, start=0, name="candidates")` → (query_id, reference_id) pairs in rank order."""

    def make(
        workspace: Workspace,
        split: str = "test",
        count: int = 10,
        start: int = 0,
        name: str = "candidates",
        size: tuple[int, int] = (64, 48),
    ) -> list[tuple[str, str]]:
        other = "reference" if split == "test" else "basic"
        if not workspace.images("pool").is_file():
            _write_images(workspace, "pool", 12, 0, size)
            _write_images(workspace, other, 12, 5, size)
        pairs = [(f"pool-{i % 12:03d}", f"{other}-{(i * 5 + i // 12) % 12:03d}") for i in range(start, start + count)]
        rows = [
            {"pair_id": pair_id(split, q, r), "split": split, "query_id": q, "reference_id": r, "score": 1 - i / 100,
             "score_normalized": 1 - i / 100, "rank": i + 1}
            for i, (q, r) in enumerate(pairs)
        ]  # fmt: skip
        write_table(Path(workspace.candidates(split)) / f"{name}.parquet", table_of(CANDIDATES, rows))
        return pairs

    return make


STAND_IN = """#!{python}
import http.server, importlib.util, json, os, sys
if importlib.util.find_spec("ndec_owner") and not os.path.exists(os.environ["LABEL_STUDIO_BASE_DATA_DIR"] + "/stays"):
    import ndec_owner
    ndec_owner.end_with_owner()
version = os.environ["LABEL_STUDIO_BASE_DATA_DIR"] + "/stand_in_version"
if os.path.exists(os.environ["LABEL_STUDIO_BASE_DATA_DIR"] + "/die"):
    print("no space left for the database"); sys.exit(7)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        token = "Token " + os.environ["LABEL_STUDIO_USER_TOKEN"]
        bad = "whoami" in self.path and self.headers["Authorization"] != token
        release = open(version).read() if os.path.exists(version) else "1.23.2"
        body = json.dumps({{"release": release, "email": "x@y.z"}}).encode()
        self.send_response(401 if bad else 200); self.end_headers(); self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the server's virtual environment."""
    folder = tmp_path / "env"
    (folder / "lib/python3.11/site-packages/label_studio-1.23.2.dist-info").mkdir(parents=True)
    program = folder / "bin/label-studio"
    program.parent.mkdir()
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(scope="session")
def given_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bench = Bench(tmp_path_factory.mktemp("template") / "bench")
    bench.add("reference", {f"r{n}": scene(n) for n in range(1, 4)})
    bench.add("pool", {f"p{n}": scene(60 + n) for n in range(1, 6)})
    return bench.workspace.root


@pytest.fixture
def given(given_template: Path, tmp_path: Path) -> Given:
    shutil.copytree(given_template, tmp_path / "bench")
    return Given(tmp_path)


@pytest.fixture(scope="session")
def fake_label_studio() -> Iterator[FakeLabelStudio]:
    made = FakeLabelStudio()
    yield made
    made.close()


@pytest.fixture
def connected(given: Given, fake_label_studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch) -> FakeLabelStudio:
    fake_label_studio.reset()
    monkeypatch.setenv("LABEL_STUDIO_URL", fake_label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    return fake_label_studio


@pytest.fixture
def make_team(
    tmp_path: Path, fake_label_studio: FakeLabelStudio, make_candidates: MakeCandidates, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Team]:
    """`make(count=6, size=(64, 48))` → a team at a fake Label Studio; its workspace has so many mined pairs."""

    def make(count: int = 6, size: tuple[int, int] = (64, 48)) -> Team:
        fake_label_studio.reset()
        monkeypatch.setenv("LABEL_STUDIO_URL", fake_label_studio.url)
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
        workspace = Workspace(tmp_path / "bench")
        workspace.root.mkdir()
        make_candidates(workspace, count=count, size=size)
        return Team(workspace, fake_label_studio)

    return make


@pytest.fixture
def team(make_team: Callable[..., Team]) -> Team:
    """Six mined pairs."""
    return make_team()
