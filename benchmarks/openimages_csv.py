"""Ingest an OpenImages metadata csv of full size: seconds and peak memory of `ndec ingest`.

    python benchmarks/openimages_csv.py [--quick] [--rows N] [--keep DIR]

Makes a csv of 9,178,275 rows (not measured) with quoted titles, commas, non-ASCII letters, empty Rotation and unsorted
ids. Ingests it in its own process and checks the number of rows, their order, and a sample of rows cell by cell.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from machine import machine, write_result

ROWS, QUICK_ROWS, CHUNK = 9_178_275, 200_000, 100_000
LIMITS = {"seconds": 90, "GB": 3.0}
HEADER = (
    "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5,"
    "Thumbnail300KURL,Rotation"
)
TITLES = (
    "DSC_{n:05d}", '"Morgenröte, am Fluß, {n}"', '"He said ""hi"", twice {n}"', "夏祭り {n}",
    '"Zürich, Łódź, São Paulo {n}"',
    "IMG {n}", "a quiet street in the old town with people walking {n}", "",
)  # fmt: skip
ROTATIONS = ("0.0", "0.0", "0.0", "0.0", "90.0", "", "270.0", "0.0", "180.0", "")


def image_number(n: int | np.ndarray) -> int | np.ndarray:
    """A bijection of 64 bits: ids in no order, none twice."""
    return (np.uint64(n) if isinstance(n, int) else n) * np.uint64(0x9E3779B97F4A7C15)


def row(n: int) -> str:
    image_id = f"{int(image_number(n)):016x}"
    subset = "train" if n % 50 else ("validation" if n % 100 else "test")
    author, photo = n % 250_000, 1_000_000_000 + n
    md5 = base64.b64encode(hashlib.md5(image_id.encode(), usedforsecurity=False).digest()).decode()
    return (
        f"{image_id},{subset},https://c{n % 8}.staticflickr.com/{n % 10}/{photo}_{n % 4096:03x}_o.jpg,"
        f"https://www.flickr.com/photos/author{author}/{photo},https://creativecommons.org/licenses/by/2.0/,"
        f'https://www.flickr.com/people/author{author}/,"Author, no. {author} é",{TITLES[n % 8].format(n=n)},'
        f"{100_000 + n},{md5},https://c{n % 8}.staticflickr.com/{n % 10}/{photo}_{n % 4096:03x}_z.jpg,"
        f"{ROTATIONS[n % 10]}"
    )


def make(path: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(HEADER + "\r\n")
        for start in range(0, rows, CHUNK):
            file.write("".join(f"{row(n)}\r\n" for n in range(start, min(start + CHUNK, rows))))


def check(table_path: Path, csv_path: Path, rows: int) -> str:
    """Compare the result with the csv, read by the standard library at places spread over it."""
    np.seterr(over="ignore")
    parquet = pq.ParquetFile(table_path)
    assert parquet.metadata.num_rows == rows, parquet.metadata.num_rows
    ids = parquet.read(columns=["image_id"])["image_id"]
    expected = np.sort(image_number(np.arange(rows, dtype=np.uint64)))
    for start in range(0, rows, 1_000_000):
        part = ids.slice(start, 1_000_000).to_pylist()
        assert part == [f"{value:016x}" for value in expected[start : start + 1_000_000].tolist()]
    wanted = {}
    with csv_path.open(encoding="utf-8", newline="") as file:
        size = csv_path.stat().st_size
        for place in np.linspace(0, size * 0.999, 200).astype(np.int64).tolist():
            file.seek(0)
            raw = file.buffer
            raw.seek(place)
            raw.readline()
            cells = next(csv.reader([raw.readline().decode()]))
            if len(cells) == 12 and cells[0] != "ImageID":
                wanted[cells[0]] = cells
    found = pq.read_table(table_path, filters=pc.field("image_id").isin(list(wanted)))
    assert found.num_rows == len(wanted) > 150
    for record in found.to_pylist():
        cells = wanted[record["image_id"]]
        assert record["uri"] == f"s3://bucket/{cells[1]}/{cells[0]}.jpg"
        ours = [record[name] for name in ("original_url", "landing_url", "license", "author_url", "author", "title")]
        assert [value or "" for value in ours] == cells[2:8], (ours, cells)
        assert record["rotation"] == (360 - int(float(cells[11] or 0))) % 360
        assert record["group"] == cells[5] and record["sha256"] is None
    return f"{rows:,} ids in order, {len(wanted)} rows compared cell by cell"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--keep", type=Path, help="folder in which the csv stays for the next run")
    arguments = parser.parse_args()
    rows = arguments.rows or (QUICK_ROWS if arguments.quick else ROWS)
    np.seterr(over="ignore")
    work = arguments.keep or Path(tempfile.mkdtemp(prefix="ndec-openimages-"))
    work.mkdir(parents=True, exist_ok=True)
    csv_path = work / f"openimages-{rows}.csv"
    try:
        if not csv_path.is_file():
            make(csv_path.with_suffix(".partial"), rows)
            csv_path.with_suffix(".partial").rename(csv_path)
        command = [sys.executable, "-m", "ndec_builder", "ingest", "pool", str(csv_path), "--images", "s3://bucket"]
        started = time.perf_counter()
        subprocess.run([*command, "--workspace", str(work / "bench")], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        verdict = check(work / "bench" / "images" / "pool.parquet", csv_path, rows)
        report(rows, csv_path.stat().st_size, seconds, usage, verdict)
    finally:
        shutil.rmtree(work / "bench", ignore_errors=True)
        if arguments.keep is None:
            shutil.rmtree(work)


def report(rows: int, size: int, seconds: float, usage: resource.struct_rusage, verdict: str) -> None:
    peak, processor = usage.ru_maxrss * 1024 / 1e9, usage.ru_utime + usage.ru_stime
    lines = [
        "# Ingest of the OpenImages metadata csv",
        "",
        machine(),
        "",
        "| rows | csv | seconds | limit | CPU seconds | peak memory | limit | check |",
        "|---|---|---|---|---|---|---|---|",
        f"| {rows:,} | {size / 1e9:.2f} GB | {seconds:.1f} | {LIMITS['seconds']} | {processor:.1f} | {peak:.2f} GB | "
        f"{LIMITS['GB']} GB | {verdict} |",
    ]
    if rows == ROWS:
        write_result("openimages_csv", "\n".join(lines))
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
