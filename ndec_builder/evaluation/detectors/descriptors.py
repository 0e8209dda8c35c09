"""Descriptors made elsewhere: HDF5 files in the formats of the ISC2021 challenge.

One file per side, or one submission with both sides. A file without any image of the dataset is the background for
score normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ndec_builder.core.console import number_of
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import sha256_file
from ndec_builder.embeddings.isc2021_hdf5 import LEAST_OF_ONE_MODEL, NamedVectors, read_hdf5

_EQUAL_LENGTHS = 0.01  # relative; float16 vectors of length 1 differ by less
_SIDE_OF = {"query": "queries", "reference": "references"}


@dataclass(frozen=True)
class DescriptorFiles:
    """Vectors of both sides, L2-normalized float16, in table order; the same for the background, or None.

    places: per side, (n,) int64 rows of the dataset's table · rejects: side → image_id → why it has no vector ·
    lengths: the shortest and the longest vector of both sides in the files, zeros left out ·
    rounding: how much a cosine of the vectors of the files can change at most, because they are kept as float16 ·
    files: side → names of the files that its vectors are from.
    """

    places: tuple[np.ndarray, np.ndarray]
    vectors: tuple[np.ndarray, np.ndarray]
    background: np.ndarray | None
    rejects: dict[str, dict[str, str]]
    weights: dict[str, str]
    lengths: tuple[float, float]
    rounding: float
    files: dict[str, list[str]]

    @property
    def note(self) -> str:
        """What the scaling changes; empty if all vectors have the same length, up to rounding."""
        shortest, longest = self.lengths
        if longest <= (1 + _EQUAL_LENGTHS) * shortest:
            return ""
        return (
            f"lengths {shortest:.3g} … {longest:.3g} scaled to 1: distances and inner products of the vectors as given "
            "rank differently"
        )

    @property
    def rounding_note(self) -> str:
        """What float16 changes; empty if the vectors are the same in it."""
        if not self.rounding:
            return ""
        digit = 10 ** math.floor(math.log10(self.rounding))
        most = math.ceil(self.rounding / digit) * digit
        return (
            f"kept as float16, which changes a cosine by at most {most:.1g}: pairs of nearly equal score can "
            "change places. --predictions takes your own scores as they are"
        )

    def origin_note(self, queries: pa.Table, references: pa.Table) -> str:
        """What cannot be checked about files of several sides; empty if one file has all, or if pictures of both sides
        (equal sha256 and rotation) have equal descriptors. Files of ISC2021 do not name their model.

        queries, references: tables of the dataset. Raises NdecError if pictures of both sides have different ones.
        """
        if len({name for names in self.files.values() for name in names}) < 2:
            return ""
        cosines = self._of_both_sides(queries, references)
        given = "; ".join(f"{side} from {', '.join(names)}" for side, names in self.files.items() if names)
        if not len(cosines):
            return (
                f"{given}: compared as descriptors of one model with one whitening, which ndec cannot check because "
                "such files do not name it"
            )
        if (median := float(np.median(cosines))) >= LEAST_OF_ONE_MODEL:
            return ""
        raise NdecError(
            f"the descriptors are not of one model with one whitening ({given}): "
            f"{number_of(len(cosines), 'picture is', 'pictures are')} among queries and references (the same bytes) "
            f"and should have equal descriptors, but the median of their cosines is {median:.2f}. Compute both sides "
            "with the same model and settings"
        )

    def _of_both_sides(self, queries: pa.Table, references: pa.Table) -> np.ndarray:
        """(n,) float32: cosines of the two descriptors of each picture that is on both sides."""
        sides = []
        for table, places in zip((queries, references), self.places, strict=True):
            turned = table["rotation"].to_pylist() if "rotation" in table.column_names else [None] * len(table)
            names = zip(table["sha256"].to_pylist(), turned, strict=True)
            pictures = [(sha256, turn or 0) for sha256, turn in names]
            sides.append({pictures[place]: row for row, place in enumerate(places.tolist()) if pictures[place][0]})
        both = [(row, sides[1][picture]) for picture, row in sides[0].items() if picture in sides[1]]
        rows = np.array(both, np.int64).reshape(-1, 2).T
        parts = [vectors[row].astype(np.float32) for vectors, row in zip(self.vectors, rows, strict=True)]
        return np.einsum("nd,nd->n", *parts)


def read_descriptor_files(
    paths: Sequence[Path], query_ids: Sequence[str], reference_ids: Sequence[str]
) -> DescriptorFiles:
    """Read the files and find out which side each belongs to.

    A submission names its sides. A file with ids that both sides have is the queries, and a second one the references.
    Raises UsageError for a missing file; NdecError for an unknown format, different numbers of dimensions, NaN, an
    image that appears twice, a side without vectors, or a file in which only some images belong to the dataset.
    """
    named = [(path, name, block) for path in paths for name, block in read_hdf5(path).items()]
    blocks = [(path, block) for path, _, block in named]
    sides: dict[str, list[tuple[Path, NamedVectors]]] = {"queries": [], "references": [], "background": []}
    known = {"queries": set(query_ids), "references": set(reference_ids)}
    for path, name, block in named:
        fits = _fitting_sides(path, block[0], known)
        own = _SIDE_OF.get(name)  # a submission says it
        if own not in fits:  # ids that are on both sides: queries come first
            own = next((side for side in fits if not sides[side]), fits[0])
        sides[own].append((path, block))
    found = [_placed(sides[side], ids, side) for side, ids in (("queries", query_ids), ("references", reference_ids))]
    background = np.concatenate([block[1] for _, block in sides["background"]]) if sides["background"] else None
    widths = {block[1].shape[1]: path for path, block in blocks}
    if len(widths) > 1:
        text = ", ".join(f"{width}-d in {path}" for width, path in sorted(widths.items()))
        raise NdecError(f"the descriptors have different numbers of dimensions ({text}); all must come from one model")
    rejects = {}
    for side, ids, (places, _) in zip(("queries", "references"), (query_ids, reference_ids), found, strict=True):
        present = set(places.tolist())
        rejects[side] = {ids[i]: "no descriptor" for i in range(len(ids)) if i not in present}
    scaled = _normalize_rows(found[0][1]), _normalize_rows(found[1][1])
    label = dict(zip(paths, distinct_names(paths), strict=True))
    return DescriptorFiles(
        (found[0][0], found[1][0]),
        scaled,
        None if background is None else _normalize_rows(background),
        rejects,
        {name: sha256_file(path) for path, name in label.items()},
        _lengths([vectors for _, vectors in found]),
        sum(_rounding(vectors, kept) for (_, vectors), kept in zip(found, scaled, strict=True)),
        {side: [label[path] for path in dict.fromkeys(path for path, _ in own)] for side, own in sides.items()},
    )


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """The file names; numbered where two files have the same name.

    >>> distinct_names([Path("a/vectors.h5"), Path("b/vectors.h5"), Path("c.h5")])
    ['1 vectors.h5', '2 vectors.h5', 'c.h5']
    """
    names = [path.name for path in paths]
    return [f"{i} {name}" if names.count(name) > 1 else name for i, name in enumerate(names, start=1)]


def _lengths(sides: Sequence[np.ndarray]) -> tuple[float, float]:
    squares = np.concatenate([np.einsum("ij,ij->i", side, side, dtype=np.float64) for side in sides])
    lengths = np.sqrt(squares[squares > 0])
    return (float(lengths.min()), float(lengths.max())) if len(lengths) else (0.0, 0.0)


def _normalize_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float16; zero rows stay zero."""
    return _unit_rows(vectors).astype(np.float16)


def _unit_rows(vectors: np.ndarray) -> np.ndarray:
    wide = np.asarray(vectors, dtype=np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    scaled: np.ndarray = wide / np.where(norms > 0, norms, 1.0)[:, None]
    return scaled


def _rounding(vectors: np.ndarray, kept: np.ndarray) -> float:
    """The largest length of the difference of a row scaled to length 1 and its float16 form: with a vector of length 1,
    the cosine changes by no more.
    """
    parts = (slice(start, start + 65_536) for start in range(0, len(vectors), 65_536))
    return max(
        (float(np.linalg.norm(_unit_rows(vectors[part]) - kept[part], axis=1).max()) for part in parts), default=0.0
    )


def _fitting_sides(path: Path, ids: list[str], known: dict[str, set[str]]) -> list[str]:
    """The sides whose images these are. Raises NdecError if only some of them are images of a side."""
    shares = {side: sum(name in names for name in ids) for side, names in known.items()}
    if fits := [side for side, count in shares.items() if count == len(ids)]:
        return fits
    if not any(shares.values()):
        return ["background"]
    side = max(shares, key=lambda name: shares[name])
    stranger = next(name for name in ids if name not in known[side])
    raise NdecError(
        f"{path}: {shares[side]:,} of its {len(ids):,} images are {side} of this dataset, but {stranger!r} is not; "
        "remove the descriptors of images that are not in the dataset"
    )


def _placed(blocks: list[tuple[Path, NamedVectors]], ids: Sequence[str], side: str) -> tuple[np.ndarray, np.ndarray]:
    """→ (places (n,) ascending, vectors (n, d)) of one side."""
    if not blocks:
        raise NdecError(f"the descriptor files contain no {side} of the dataset ({len(ids):,} ids, {ids[0]!r} …)")
    place = {name: i for i, name in enumerate(ids)}
    rows = np.array([place[name] for _, block in blocks for name in block[0]], dtype=np.int64)
    if len(np.unique(rows)) < len(rows):
        raise NdecError(
            f"{' and '.join(str(path) for path, _ in blocks)} contain the same {side}; give each image once"
        )
    order = np.argsort(rows)
    return rows[order], np.concatenate([block[1] for _, block in blocks])[order]
