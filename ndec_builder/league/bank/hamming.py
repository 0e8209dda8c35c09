"""Exact joins of hashes by Hamming distance, with FAISS."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ndec_builder.core.errors import NdecError, UsageError

BITS = 256  # of a PDQ hash
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_AT_ONCE = 10_000  # queries; bounds the memory of their matches


def read_hashes(path: Path) -> tuple[list[str], np.ndarray]:
    """Names and hashes (n, 32) uint8 of a csv: in each row the first cell of 64 hex digits is the hash.

    The name is the first other cell, else the hash. A first row without a hash is a header. Raises UsageError for a
    missing file, NdecError with the line for a row without a hash, or for a file without any.
    """
    if not path.is_file():
        raise UsageError(f"there is no file of hashes {path}; expected a csv with one PDQ hash (64 hex digits) per row")
    names, rows = [], []
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            for number, cells in enumerate(csv.reader(file), start=1):
                stripped = [cell.strip() for cell in cells]
                found = next((cell for cell in stripped if _HEX.fullmatch(cell)), None)
                if found is None:
                    if number == 1 or not any(stripped):
                        continue
                    raise NdecError(f"{path}, line {number}: no cell is a PDQ hash of 64 hex digits: {cells!r:.120}")
                names.append(next((cell for cell in stripped if cell and cell != found), found))
                rows.append(bytes.fromhex(found))
        except (UnicodeDecodeError, csv.Error) as error:
            raise NdecError(f"{path} is not a csv in UTF-8 ({error})") from None
    if not rows:
        raise NdecError(f"{path} holds no PDQ hash; expected one of 64 hex digits per row")
    return names, np.frombuffer(b"".join(rows), np.uint8).reshape(-1, BITS // 8)


def hamming_join(
    queries: np.ndarray, references: np.ndarray, radius: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """All pairs with a distance of at most `radius`, in blocks of queries: (query rows, reference rows, distances).

    queries (n, b), references (m, b): uint8. Each block is sorted by (query, distance, reference). Every pair is
    compared, so nothing is missed.
    """
    import faiss

    index = faiss.IndexBinaryFlat(8 * references.shape[1])
    index.add(np.ascontiguousarray(references))
    for start in range(0, len(queries), _AT_ONCE):
        part = np.ascontiguousarray(queries[start : start + _AT_ONCE])
        limits, distances, rows = index.range_search(part, radius + 1)  # FAISS lists distances below its radius
        asked = start + np.repeat(np.arange(len(part)), np.diff(limits.astype(np.int64)))
        order = np.lexsort((rows, distances, asked))
        yield asked[order], rows[order].astype(np.int64), distances[order].astype(np.int64)
