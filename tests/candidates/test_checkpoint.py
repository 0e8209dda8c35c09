"""A search that is killed goes on from its last state, and ends with the bytes of one that was not."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from ndec_builder.candidates.search import rounds
from ndec_builder.candidates.search.checkpoint import Checkpoint
from ndec_builder.candidates.search.exact import top_pairs
from ndec_builder.candidates.search.faiss_flat import FlatPass

pytestmark = pytest.mark.slow

SCRIPT = """
import sys, time
from pathlib import Path
import numpy as np
from ndec_builder.candidates.search import checkpoint, exact, rounds
from ndec_builder.candidates.search.faiss_flat import FlatPass
checkpoint.EVERY, rounds.SAMPLE = 0.0, 64
class Slow(FlatPass):
    def search(self, block, wanted):
        time.sleep(0.01)
        return super().search(block, wanted)
folder = Path(sys.argv[1])
queries, references = np.load(folder / "queries.npy"), np.load(folder / "references.npy")
offsets = np.load(folder / "offsets.npy")
kept = checkpoint.Checkpoint(folder / "search.npz", "f")
exact.top_pairs(range(len(queries)), queries, range(len(references)), references, top=400, max_per_reference=4,
                block=16, engine=Slow(references), offsets=offsets, checkpoint=kept)
"""


class Counting(FlatPass):
    rows = 0

    def search(self, block, wanted):
        self.rows += len(block)
        return super().search(block, wanted)


@pytest.fixture
def vectors():
    """Queries around a few hubs, so that references fill up and lists have to be searched deeper."""
    rng = np.random.default_rng(4)
    references = rng.normal(size=(300, 16))
    queries = references[rng.integers(0, 120, 1500)] + rng.normal(size=(1500, 16)) / 3
    unit = [(v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float16) for v in (queries, references)]
    return *unit, rng.integers(0, 3, 1500) / 16


@pytest.mark.parametrize("state", ["early", "late"])
def test_killed_for_real(tmp_path, vectors, monkeypatch, capsys, state):
    queries, references, offsets = vectors
    for name, array in zip(("queries", "references", "offsets"), vectors, strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)])
    path, deadline = tmp_path / "search.npz", time.monotonic() + 60
    wanted = 1 if state == "early" else 700
    kept = Checkpoint(path, "f")
    while time.monotonic() < deadline and process.poll() is None:
        if (now := kept.load()) is not None and int(now["done"]) >= wanted:
            break
        time.sleep(0.005)
    process.kill()
    process.wait()
    monkeypatch.setattr(rounds, "SAMPLE", 64)
    caps = {"top": 400, "max_per_reference": 4}
    ids = range(1500), range(300)
    whole, rest = Counting(references), Counting(references)
    want = top_pairs(ids[0], queries, ids[1], references, **caps, engine=whole, offsets=offsets)
    got = top_pairs(
        ids[0], queries, ids[1], references, **caps, engine=rest, offsets=offsets, checkpoint=kept, block=100
    )
    for name in ("queries", "references", "scores"):
        assert getattr(got, name).tobytes() == getattr(want, name).tobytes()
    assert rest.rows < whole.rows - (64 if state == "early" else 700)
    assert "continuing a stopped search" in " ".join(capsys.readouterr().err.split())


def test_another_search_or_a_damaged_file_counts_as_none(tmp_path):
    kept = Checkpoint(tmp_path / "search.npz", "f")
    assert kept.load() is None
    kept.save(done=3)
    assert int(kept.load()["done"]) == 3
    assert Checkpoint(tmp_path / "search.npz", "g").load() is None
    for damage in (b"", kept.path.read_bytes()[:-30], b"PK\x03\x04 nothing", b"plain"):
        kept.path.write_bytes(damage)
        assert kept.load() is None
