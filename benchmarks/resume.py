"""Cost of running a finished `ndec embed` and `ndec mine` again: the complete command, with Python's start.

    python benchmarks/resume.py --workspace DIR   # a finished demo; a copy of it is used
    python benchmarks/resume.py                   # only the large table

The large table has as many rows as OpenImages, with made-up ids and hashes, and a run record that marks them as
embedded. Measured is how long `ndec embed` takes to find that nothing changed. There are no vectors.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from machine import machine, write_result

from ndec_builder.core.schemas import IMAGES, REJECTS
from ndec_builder.core.storage import fingerprint, write_json, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings import embed
from ndec_builder.embeddings.model_names import parse_model
from ndec_builder.embeddings.settings import EmbedConfig

ROWS = 9_178_275
LIMIT = 2.0  # seconds
ROUNDS = 3


def listed(rows: int) -> pa.Table:
    """A pool table (schema IMAGES): ids ascending, hashes of 64 hex digits, no two alike."""
    ids = pc.utf8_lpad(pa.array(np.arange(rows)).cast(pa.string()), 16, "0")
    columns = {
        "image_id": ids,
        "role": pa.array(["pool"]).take(pa.array(np.zeros(rows, np.int32))),
        "uri": pc.binary_join_element_wise("images/pool/", ids, ".jpg", ""),
        "sha256": pc.binary_join_element_wise(ids, ids, ids, ids, ""),
        "rotation": pa.array(np.zeros(rows, np.int32)),
    }
    return pa.table(
        [columns.get(field.name, pa.nulls(rows, field.type)) for field in IMAGES],
        schema=IMAGES,
    )


def finished(folder: Path, rows: int) -> None:
    """A workspace whose pool of `rows` images is embedded, by its records."""
    workspace = Workspace(folder)
    config = EmbedConfig(folder, "pool", whiten=False)
    write_table(workspace.images("pool"), listed(rows))
    images = workspace.read_images("pool", embed.SNAPSHOT)
    space = fingerprint([parse_model(config.model).fingerprint(), config.bf16, None])
    directory = workspace.embeddings("pool", config.model)
    write_table(directory / "rejects.parquet", REJECTS.empty_table())
    write_json(directory / "run.json", {"fingerprint": embed._fingerprint(config, images, space), "parts": 0})
    (folder / "ndec.toml").write_text("[embed]\nwhiten = false\n")


def again(workspace: Path, *verb: str) -> float:
    """Median seconds of a command that has nothing to do; asserts that it changes no file."""
    command = [sys.executable, "-m", "ndec_builder", *verb, "--workspace", str(workspace), "--json"]
    subprocess.run(command, capture_output=True)  # finishes what a later step of the demo made old
    before = {path: path.stat().st_mtime_ns for path in workspace.rglob("*") if path.is_file()}
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
        if done.returncode:
            raise SystemExit(f"{' '.join(verb)} failed: {done.stderr}")
        json.loads(done.stdout)
    after = {path: path.stat().st_mtime_ns for path in workspace.rglob("*") if path.is_file()}
    changed = [path.name for path in after if after[path] != before.get(path) and not path.name.endswith(".lock")]
    if changed:
        raise SystemExit(f"{' '.join(verb)} changed {changed}: it was not finished")
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, help="a finished workspace with mined pairs of the split test")
    parser.add_argument("--rows", type=int, default=ROWS)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="ndec-resume-") as name:
        if options.workspace:
            copy = Path(name) / "demo"
            shutil.copytree(options.workspace, copy, symlinks=True)
            images = sum(Workspace(copy).read_images(role, ["image_id"]).num_rows for role in ("reference", "pool"))
            for verb in (("embed", "pool"), ("embed", "reference"), ("mine", *mined_with(copy))):
                rows.append((" ".join(verb), images, again(copy, *verb)))
        large = Path(name) / "large"
        finished(large, options.rows)
        rows.append(("embed pool", options.rows, again(large, "embed", "pool")))
    lines = [
        "# Running a finished command again",
        "",
        machine(),
        "",
        f"Whole commands, Python's start included; medians of {ROUNDS}. That no file changes is asserted.",
        "",
        "| command | images | seconds | at most |",
        "|---|---|---|---|",
        *(f"| ndec {verb} | {count:,} | {seconds:.2f} | {LIMIT:g} |" for verb, count, seconds in rows),
    ]
    write_result("resume", "\n".join(lines))


def mined_with(workspace: Path) -> list[str]:
    """The options that the split test was mined with, where they are not the defaults."""
    config = json.loads((Workspace(workspace).candidates("test") / "run.json").read_text("utf-8"))["config"]
    found = []
    for name in ("top", "max_per_query", "max_per_reference"):
        found += [f"--{name.replace('_', '-')}", str(config[name])]
    return found


if __name__ == "__main__":
    main()
