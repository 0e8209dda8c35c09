"""Runs one adapter inside the peer's own environment: python -I adapter_runner.py ADAPTER.py QUERIES REFERENCES OUT.

QUERIES and REFERENCES are folders. OUT becomes a csv of (query file, reference file, score), higher is more alike, and
OUT.json says what was done. This file needs nothing but the standard library, and numpy for adapters with `describe`.

With one folder, python -I adapter_runner.py ADAPTER.py FOLDER, it prints the hashes of the pictures as JSON.

An adapter is a Python file with the constants REQUIRES, COMPARE, THRESHOLD, THRESHOLD_SOURCE, LIMITS, and one of
* `describe(path)`: bits, hex digits or a vector of one picture, or None to leave it out. All pairs are compared here.
  With the constant LEAST_QUALITY it returns (code, quality), and pictures below that quality are left out.
* `run(folder)`: yields (file, file, value) for a folder with all pictures, in any order and with any pairs.
COMPARE says what the values are: `hamming`, `cosine`, `distance` (lower is more alike) or `decision` (1 for a pair).
"""

from __future__ import annotations

import csv
import importlib.util
import json
import resource
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

MOST_PAIRS = 1_000_000  # pairs written: the best ones, and never only some of those with equal scores
LOWER_IS_ALIKE = ("hamming", "distance")


def run_adapter() -> None:
    adapter = load(Path(sys.argv[1]))
    if len(sys.argv) == 3:
        print_hashes(adapter, sorted(Path(sys.argv[2]).iterdir()))
        return
    out = Path(sys.argv[4])
    queries, references = (sorted(Path(folder).iterdir()) for folder in sys.argv[2:4])
    notes: dict[str, Any] = {"failed": {}, "left_out": [], "stranger_rows": 0}
    if hasattr(adapter, "describe"):
        pairs: Iterable[tuple[str, str, float]] = compare(adapter, queries, references, notes)
    else:
        pairs = folder_pairs(adapter, queries, references, notes)
    with out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(pairs)
    notes["cpu_total"] = cpu_seconds()
    Path(f"{out}.json").write_text(json.dumps(notes), "utf-8")


def print_hashes(adapter: Any, paths: list[Path]) -> None:
    """The hashes of one folder as JSON: `codes` (file stem → hex digits), `failed`, `left_out`."""
    import numpy as np

    notes: dict[str, Any] = {"failed": {}, "left_out": []}
    codes = describe_all(adapter, paths, notes)
    hexes = {name: np.packbits(np.ravel(code).astype(bool)).tobytes().hex() for name, code in codes.items()}
    print(json.dumps({"codes": hexes, **notes}))


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("adapter", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cpu_seconds() -> float:
    """User and system time of this process and of its finished children."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def compare(
    adapter: Any, queries: list[Path], references: list[Path], notes: dict[str, Any]
) -> Iterator[tuple[str, str, float]]:
    """All pairs of the pictures that could be described; a picture that fails is noted and the others go on."""
    warm_up(adapter.describe, references)  # so that loading a library is not counted per image
    started = cpu_seconds()
    sides = [describe_all(adapter, side, notes) for side in (queries, references)]
    described = cpu_seconds()
    written = 0
    for pair in best_pairs(sides[0], sides[1], adapter.COMPARE):
        written += 1
        yield pair
    notes |= {
        "pairs_cut": len(sides[0]) * len(sides[1]) - written,
        "cpu_describe": described - started,
        "cpu_match": cpu_seconds() - described,
        "pairs_compared": len(sides[0]) * len(sides[1]),
    }


def warm_up(describe: Callable[[str], Any], paths: list[Path]) -> None:
    """Describe a first picture. If the first ten all fail, the tool itself is broken: the last error is raised."""
    for path in paths[:10]:
        try:
            describe(str(path))
            return
        except Exception as error:
            last = error
    if paths:
        raise last


def describe_all(adapter: Any, paths: list[Path], notes: dict[str, Any]) -> dict[str, Any]:
    """File stem → code. `notes` gets what failed, what was left out, and the tool's quality of each picture."""
    least = getattr(adapter, "LEAST_QUALITY", None)
    found = {}
    for path in paths:
        try:
            code = adapter.describe(str(path))
            if least is not None:
                code, quality = code
                notes.setdefault("quality", {})[path.stem] = quality
                code = code if quality >= least else None
        except Exception as error:  # whatever a peer raises for one picture must not stop the others
            notes["failed"][path.stem] = f"{type(error).__name__}: {error}"[:300]
            continue
        if code is None:
            notes["left_out"].append(path.stem)
        else:
            found[path.stem] = code
    return found


def best_pairs(queries: dict[str, Any], references: dict[str, Any], compare: str) -> Iterator[tuple[str, str, float]]:
    """The best pairs of two sets of codes: minus the Hamming distance, or the cosine."""
    import numpy as np

    if not queries or not references:
        return
    left, right = (matrix_of(list(side.values()), compare) for side in (queries, references))
    products = left @ right.T
    if compare == "hamming":  # ±1 codes: product = bits − 2 · distance
        products = np.rint((products - left.shape[1]) / 2)
    lowest = -np.inf
    if products.size > MOST_PAIRS:
        lowest = np.partition(products, products.size - MOST_PAIRS, axis=None)[products.size - MOST_PAIRS]
        if (products >= lowest).sum() > MOST_PAIRS:
            lowest = np.nextafter(lowest, np.inf, dtype=products.dtype)
    names = list(queries), list(references)
    for row, column in zip(*np.nonzero(products >= lowest)):  # noqa: B905, ndec's own Python may be newer than the peer's
        yield names[0][row], names[1][column], float(products[row, column])


def matrix_of(codes: list[Any], compare: str) -> Any:
    """(n, d) float32: unit vectors, or ±1 for bits."""
    import numpy as np

    if compare == "cosine":
        vectors = np.array([np.asarray(code, dtype=np.float32).ravel() for code in codes])
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    rows = [
        np.unpackbits(np.frombuffer(bytes.fromhex(code), np.uint8)) if isinstance(code, str) else np.ravel(code)
        for code in codes
    ]
    return np.where(np.array(rows) > 0, np.float32(1), np.float32(-1))


def folder_pairs(
    adapter: Any, queries: list[Path], references: list[Path], notes: dict[str, Any]
) -> Iterator[tuple[str, str, float]]:
    """A tool that searches one folder: the pairs of a query and a reference among what it lists."""
    sides = {path.stem: "query" for path in queries} | {path.stem: "reference" for path in references}
    sign, best = -1.0 if adapter.COMPARE in LOWER_IS_ALIKE else 1.0, dict[tuple[str, str], float]()
    with tempfile.TemporaryDirectory() as folder:
        for path in (*queries, *references):
            (Path(folder) / path.name).symlink_to(path.resolve())
        for left, right, value in rows_of(adapter, Path(folder), notes):
            pair = Path(left).stem, Path(right).stem  # tools change folders and suffixes of names
            if pair[0] not in sides or pair[1] not in sides:
                notes["stranger_rows"] += 1
                continue
            if sides[pair[0]] == sides[pair[1]]:
                continue
            pair = pair if sides[pair[0]] == "query" else (pair[1], pair[0])
            best[pair] = max(best.get(pair, -float("inf")), sign * value)
    kept = sorted(best.items(), key=lambda item: -item[1])
    if len(kept) > MOST_PAIRS:
        kept = [item for item in kept if item[1] > kept[MOST_PAIRS][1]]
        notes["pairs_cut"] = len(best) - len(kept)
    yield from ((query, reference, score) for (query, reference), score in kept)


def rows_of(adapter: Any, folder: Path, notes: dict[str, Any]) -> list[tuple[str, str, float]]:
    """What the tool lists. If it crashes while some pictures are broken, it runs once more without these."""
    try:
        return list(adapter.run(str(folder)))
    except Exception:
        broken = {path: problem for path in sorted(folder.iterdir()) if (problem := broken_picture(path))}
        if not broken:
            raise
    for path, problem in broken.items():
        notes["failed"][path.stem] = f"the tool stopped at a picture that cannot be read ({problem})"[:300]
        path.unlink()
    return list(adapter.run(str(folder)))


def broken_picture(path: Path) -> str:
    """Why Pillow cannot read a file; empty if it can. Tools that search a folder read it with Pillow too."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    run_adapter()
