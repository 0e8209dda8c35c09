"""Pictures on an S3-compatible server that fails requests: the results must have the bytes of pictures on disk.

    python tests/faults/object_store.py [--failing 0.2] [--seed 0]

Needs `pip install 'moto[s3,server]' s3fs` next to ndec. moto runs on loopback; a share of the requests for objects gets
status 503, or a body that is cut short, and each request that would write is refused with status 403. Ingests, embeds
and mines the same pictures from a folder and from `s3://`, and compares vectors, candidates and geometry. Writes
tests/faults/results/object_store.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import record  # noqa: E402
from ndec_builder.core.storage import sha256_file  # noqa: E402
from support.pictures import write_scenes  # noqa: E402

SIZES = {"reference": 24, "pool": 60}
STORED = ("embeddings/*/*/part-*.npy", "candidates/test/candidates.parquet", "candidates/test/geometry.parquet")


class Failing:
    """A WSGI application that fails a share of the requests for objects, by chance but the same for each seed."""

    def __init__(self, application: Callable[..., Iterable[bytes]], share: float, seed: int) -> None:
        self.application, self.share, self.chance = application, share, random.Random(seed)
        self.is_read_only = False
        self.answers, self.lock = Counter[str](), threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self.is_read_only and environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            self.answers["refused"] += 1
            start_response("403 Forbidden", [("Content-Length", "0")])
            return []
        is_object = environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"].endswith(".png")
        with self.lock:
            draw = self.chance.random() if is_object else 1.0
            kind = "unavailable" if draw < self.share / 2 else "cut short" if draw < self.share else "complete"
            self.answers[kind] += is_object
        if kind == "unavailable":
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return []
        if kind == "cut short":
            return [b"".join(self.application(environ, start_response))[:-20]]
        return self.application(environ, start_response)


def serve(application: Any) -> str:
    """Start a server on loopback in a thread; returns its address."""
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def make_workspace(root: Path, sources: dict[str, str]) -> dict[str, str]:
    """Ingest, embed and mine; returns the sha256 of each result by its name."""
    from ndec_builder.candidates.mine import run as mine
    from ndec_builder.candidates.settings import MineConfig
    from ndec_builder.embeddings.embed import run as embed
    from ndec_builder.embeddings.settings import EmbedConfig
    from ndec_builder.sources.ingest import run as ingest
    from ndec_builder.sources.settings import IngestConfig

    for role, source in sources.items():
        ingest(IngestConfig(workspace=root, role=role, source=source))
    for role in sources:
        embed(EmbedConfig(root, role, shard_size=16, whitening_images=64, dim=32))
    mine(MineConfig(root, top=20))
    return {str(path.relative_to(root)): sha256_file(path) for pattern in STORED for path in sorted(root.glob(pattern))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--failing", type=float, default=0.2, help="share of requests for objects that fail")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    import fsspec
    from moto.server import DomainDispatcherApplication, create_backend_app

    failing = Failing(DomainDispatcherApplication(create_backend_app), 0.0, arguments.seed)
    secret = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= secret | {"AWS_ENDPOINT_URL": serve(failing)}
    rows = []
    with tempfile.TemporaryDirectory(prefix="object-store-") as name:
        folder, store = Path(name), fsspec.filesystem("s3")
        store.mkdir("pictures")
        for number, (role, count) in enumerate(SIZES.items()):
            for path in write_scenes(folder / role, count, first_seed=1000 * number):
                store.put(str(path), f"pictures/{role}/{path.name}")
        failing.is_read_only = True
        ways = {"disk": {role: str(folder / role) for role in SIZES}}
        for share in (0.0, arguments.failing):
            ways[f"s3, {share:.0%} failing"] = {role: f"s3://pictures/{role}" for role in SIZES}
        wanted: dict[str, str] = {}
        for number, (way, sources) in enumerate(ways.items()):
            failing.share, before = (0.0, 0.0, arguments.failing)[number], failing.answers.copy()
            began = time.monotonic()
            found = make_workspace(folder / f"way-{number}", sources)
            wanted = wanted or found
            answers = failing.answers - before
            counts = [answers[kind] for kind in ("complete", "unavailable", "cut short", "refused")]
            rows.append(
                (way, len(found), "yes" if found == wanted else "NO", *counts, f"{time.monotonic() - began:.0f}")
            )
            print(rows[-1], file=sys.stderr, flush=True)
    head = ("pictures on", "result files", "same bytes", "requests answered", "status 503", "cut short",
            "requests to write", "seconds")  # fmt: skip
    notes = [
        f"{sum(SIZES.values())} pictures; vectors, candidates and geometry. s3fs itself repeats some requests. "
        "Rights to read are enough: ndec sends no request to write."
    ]
    record.write("object_store", "Pictures in an object store that fails", head, rows, notes, keep=True)
    sys.exit(any(row[2] != "yes" for row in rows))


if __name__ == "__main__":
    main()
