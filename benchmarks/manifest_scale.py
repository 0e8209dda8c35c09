"""A manifest of the size of NDEC: time and memory of export, validate, diff and load_dataset; two equal exports.

The workspace is SYNTHETIC: ids, hashes, groups, licences and decisions come from a seeded generator; no image exists,
and nothing was labelled. It has the shape and the counts of NDEC: 1,000,000 references, 49,252 queries, 900,000 basic
images, 100,000 directed pairs. Hashing of images is therefore not measured.

    python benchmarks/manifest_scale.py [--quick] [--keep DIR]

Each step runs in its own process; peak memory is its largest resident set.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from machine import machine, write_result

SIZES = {"references": 1_000_000, "copies": 5_009, "easy": 19_991, "hard": 24_252, "basic": 900_000, "pairs": 100_000}
LIMITS = {"export": "≤ 120 s", "validate --no-images": "≤ 60 s, ≤ 3 GB"}
DROPPED = 0.52  # share of mined pool images that the made-up annotators turn down, as in the paper


def build(root: Path, sizes: dict[str, int]) -> None:
    """Write the tables that ingest, mine and annotate leave, without any image."""
    from ndec_builder.core.schemas import CANDIDATES, DECISIONS, GROUND_TRUTH, pair_id
    from ndec_builder.core.storage import write_json, write_table
    from ndec_builder.core.workspace import Workspace

    rng = np.random.default_rng(0)
    workspace = Workspace(root)
    references = [f"R{n:06d}" for n in range(sizes["references"])]
    basic = [f"T{n:06d}" for n in range(sizes["basic"])]
    queries = [f"Q{n:05d}" for n in range(25_000, 25_000 + sizes["copies"] + sizes["easy"])]
    mined = {"test": round(sizes["hard"] / (1 - DROPPED)), "train": round(sizes["pairs"] * 1.5)}
    pool = sorted(hashlib.sha256(f"pool{n}".encode()).hexdigest()[:16] for n in range(sum(mined.values())))
    for role, ids in (("reference", references), ("basic", basic), ("query", queries), ("pool", pool)):
        write_table(workspace.images(role), images(role, ids))
    matches = sorted(rng.choice(len(queries), sizes["copies"], replace=False).tolist())
    found = dict(zip(matches, rng.choice(len(references), len(matches), replace=False).tolist(), strict=True))
    truth = [references[found[n]] if n in found else None for n in range(len(queries))]
    write_table(
        workspace.ground_truth, pa.table([pa.array(queries), pa.array(truth, pa.string())], schema=GROUND_TRUTH)
    )
    start = 0
    for split, gallery in (("test", references), ("train", basic)):
        count, kept = mined[split], sizes["hard" if split == "test" else "pairs"]
        ids = pool[start : start + count]
        start += count
        others = [gallery[n] for n in rng.integers(0, len(gallery), count)]
        pairs = [pair_id(split, query, reference) for query, reference in zip(ids, others, strict=True)]
        columns = {name: pa.nulls(count, CANDIDATES.field(name).type) for name in CANDIDATES.names}
        columns |= {
            "pair_id": pa.array(pairs), "split": pa.array([split] * count), "query_id": pa.array(ids),
            "reference_id": pa.array(others), "score": pa.array(np.sort(rng.random(count))[::-1], pa.float32()),
            "rank": pa.array(np.arange(1, count + 1), pa.int32()),
        }  # fmt: skip
        write_table(workspace.candidates(split) / "candidates.parquet", pa.table(columns, schema=CANDIDATES))
        labels = np.where(rng.permutation(count) < kept, "hard_negative", "edited_copy").tolist()
        decisions = [pairs, labels, ["agreed"] * count, [2] * count, [1.0] * count]
        arrays = [pa.array(v, f.type) for v, f in zip(decisions, DECISIONS, strict=True)]
        write_table(workspace.annotation(split) / "decisions.parquet", pa.table(arrays, schema=DECISIONS))
        config = {"model": "synthetic", "top": count, "max_per_query": 1, "max_per_reference": 0}
        record = {"config": config, "cut": 0.0, "counts": {"pairs": count, "duplicates": 0}, "fingerprint": "synthetic"}
        write_json(workspace.candidates(split) / "run.json", record)


def images(role: str, ids: list[str]) -> pa.Table:
    """An images table as an ingest would leave it: every column filled, titles with commas and accents."""
    from ndec_builder.core.schemas import IMAGES

    count = len(ids)
    numbers = range(count)
    columns = {
        "image_id": pa.array(ids),
        "role": pa.array([role] * count),
        "uri": pa.array([f"/data/{role}/{name}.jpg" for name in ids]),
        "sha256": pa.array([hashlib.sha256(f"{role}/{name}".encode()).hexdigest() for name in ids]),
        "width": pa.array(np.full(count, 1024), pa.int32()),
        "height": pa.array(np.full(count, 768), pa.int32()),
        "format": pa.array(["JPEG"] * count),
        "rotation": pa.array(np.zeros(count), pa.int32()),
        "license": pa.array(["CC-BY-2.0" if n % 50 else "CC0-1.0" for n in numbers]),
        "author": pa.array([f"Author {role} {n // 7}" for n in numbers]),
        "author_url": pa.array([f"https://www.example.org/people/{role}{n // 7}/" for n in numbers]),
        "title": pa.array([f'Café, "{name}"' for name in ids]),
        "original_url": pa.array([f"https://farm1.example.org/{n % 9000}/{name}_o.jpg" for n, name in enumerate(ids)]),
        "landing_url": pa.array([f"https://www.example.org/photos/{role}{n // 7}/{n}" for n in numbers]),
        "group": pa.array([f"{role}{n // 7}" for n in numbers]),
    }
    return pa.table([columns[name].cast(IMAGES.field(name).type) for name in IMAGES.names], schema=IMAGES)


def step(code: str) -> tuple[float, float, float]:
    """Run Python code in a process of its own: seconds, CPU seconds, peak resident memory in GB."""
    before = time.monotonic()
    child = subprocess.Popen([sys.executable, "-c", code], stdout=sys.stderr)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"this step failed:\n{code}")
    return time.monotonic() - before, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9


def same_files(first: Path, second: Path) -> bool:
    """Whether two exports have the same files with the same bytes, run.json (a log) aside."""

    def digests(root: Path) -> dict[str, str]:
        files = (path for path in root.rglob("*") if path.is_file() and path.name != "run.json")
        return {p.relative_to(root).as_posix(): hashlib.file_digest(p.open("rb"), "sha256").hexdigest() for p in files}

    return digests(first) == digests(second)


def measure(root: Path, say: Callable[[str], None]) -> list[str]:
    name = "ndec-1.0.0"
    export = (
        "from pathlib import Path; from ndec_builder.manifests.export import run; "
        "from ndec_builder.manifests.settings import ExportConfig; "
        f"run(ExportConfig(Path({str(root)!r}), name='ndec', preset='ndec', partial=PARTIAL))"
    ).replace("PARTIAL", str(not (root / "full").exists()))
    directory = root / "manifests" / name
    validate = (
        "from pathlib import Path; from ndec_builder.manifests.validate import run; "
        "from ndec_builder.manifests.settings import ValidateConfig; "
        f"run(ValidateConfig(Path({str(directory)!r}), images=False))"
    )
    diff = (
        "from pathlib import Path; from ndec_builder.manifests.diff import run; "
        "from ndec_builder.manifests.settings import DiffConfig; "
        f"d = Path({str(directory)!r}); assert run(DiffConfig(d, d.parent / 'first')).needed == 'none'"
    )
    load = (
        "import datasets; import sys\n"
        "for name in ('queries', 'references', 'ground_truth', 'train_basic', 'train_pairs', 'train_pair_images'):\n"
        f"    d = datasets.load_dataset({str(directory)!r}, name, cache_dir={str(root / 'cache')!r})\n"
        "    print(name, {split: len(rows) for split, rows in d.items()})"
    )
    lines = []
    for what, code in (("export", export), ("validate --no-images", validate), ("export again", export)):
        say(what)
        lines.append(row(what, *step(code)))
        if what == "validate --no-images":
            directory.rename(directory.parent / "first")
    same = same_files(directory.parent / "first", directory)
    for what, code in (("diff of the two", diff), ("load_dataset, all six tables", load)):
        say(what)
        lines.append(row(what, *step(code)))
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    lines += ["", f"Two exports byte-identical: {'yes' if same else 'NO'}. The dataset has {size / 1e6:,.0f} MB."]
    if not same:
        raise SystemExit("the two exports differ")
    return lines


def row(what: str, seconds: float, cpu: float, memory: float) -> str:
    return f"| {what} | {seconds:.1f} | {cpu:.1f} | {memory:.2f} | {LIMITS.get(what, '')} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the size")
    parser.add_argument("--keep", type=Path, help="build in this folder and leave it there")
    options = parser.parse_args()
    sizes = {name: size // 100 if options.quick else size for name, size in SIZES.items()}
    with tempfile.TemporaryDirectory() as temporary:
        root = (options.keep or Path(temporary)) / "bench"
        print("making the synthetic workspace", file=sys.stderr)
        build(root, sizes)
        if not options.quick:
            (root / "full").touch()
        lines = measure(root, lambda what: print(what, file=sys.stderr))
    counts = ", ".join(f"{size:,} {name}" for name, size in sizes.items())
    table = [
        "# Manifests at the size of NDEC",
        "",
        machine(),
        "",
        f"Synthetic workspace ({counts}; no image exists). Image hashes apart.",
        "",
        "| step | seconds | CPU seconds | peak memory, GB | must reach |",
        "|---|---|---|---|---|",
        *lines,
    ]
    text = "\n".join(table)
    if options.quick:
        print(text)
    else:
        write_result("manifest_scale", text)


if __name__ == "__main__":
    main()
