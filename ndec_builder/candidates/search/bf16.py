"""The first pass for CPUs with bfloat16 products: matrix products in tiles, and a mask of the scores that matter.

The error bound of a bf16 product: let v' be a vector rounded to bf16 and e = v − v'. Then
q·r − q'·r' = q·(r − r') + (q − q')·r', so |q·r − q'·r'| ≤ ‖q‖‖e_r‖ + ‖e_q‖‖r'‖ by Cauchy-Schwarz. The norms of the
errors are computed, not estimated. Products of two bf16 numbers are exact in float32. The error of adding d of them in
any order is at most d·2**-24·‖q'‖‖r'‖ (Higham 2002, eq. 3.5); we allow twice that. The margin is the sum of both. The
total is then rounded to bf16. Rounding is monotone: a sum that reaches t reaches round(t) when rounded, so a floor
needs no further margin. A bound from a rounded score c needs half a unit in its last place, at most 2**-8·|c|.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ndec_builder.candidates.search.pairs import largest_norm
from ndec_builder.candidates.search.proposals import Collector, Proposals, SearchRequest, bounds_of, lowest_proposal
from ndec_builder.embeddings.engines.processor import may_use_bf16

if TYPE_CHECKING:
    import torch

BF16_TILE = 2048  # queries × references per product: 8 MB of scores, read again while they are in a cache
_ROUNDED_ROWS = 256  # rows whose norms are computed at a time
_DENSE_FACTOR = 2  # tiles with more wanted scores per query than this times the depth are cut to the best first
HALF_UNIT = 2.0**-8  # of bf16, relative; 8 significant bits
CPU_FLAGS = Path("/proc/cpuinfo")
SMALLEST = 2.0**-126  # the hardware may flush smaller numbers to zero


class Bf16Error(RuntimeError):
    """The error of the products on this machine exceeds the bound for float32 accumulation."""


def has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AMX tiles or AVX-512 dot products) and may; Linux only."""
    if not may_use_bf16():
        return False
    try:
        flags = CPU_FLAGS.read_text("utf-8", errors="replace")
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


@dataclass(frozen=True)
class Rounded:
    """A block in bf16 with the norms that the margin needs."""

    values: torch.Tensor  # (b, d) bfloat16
    norm: float  # largest ‖v‖
    loss: float  # largest ‖v − v'‖
    rounded_norm: float  # largest ‖v'‖


class _Work:
    """The arrays that each tile of a block needs, made once: new ones of this size would leave the heap in pieces."""

    def __init__(self, rows: int, columns: int, dim: int) -> None:
        import torch

        self._references = torch.empty(columns, dim, dtype=torch.bfloat16)
        self._scores = torch.empty(rows * columns, dtype=torch.bfloat16)
        self._masks = [np.empty(rows * columns, dtype=bool) for _ in range(2)]

    def round_references(self, references: np.ndarray) -> torch.Tensor:
        """References (c, d) in bf16."""
        import torch

        return self._references[: len(references)].copy_(torch.from_numpy(references))

    def multiply(self, queries: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """Scores (r, c) of queries (r, d) and references (c, d), valid until the next call."""
        import torch

        scores = self._scores[: len(queries) * len(references)].view(len(queries), len(references))
        return torch.mm(queries, references.T, out=scores)

    def mask(self, which: int, shape: tuple[int, ...]) -> np.ndarray:
        """One of two masks (r, c), with the values of an earlier tile."""
        return self._masks[which][: shape[0] * shape[1]].reshape(shape)


class Bf16Pass:
    """References (m, d) stay float16; one tile of them at a time is converted to bf16."""

    def __init__(self, references: np.ndarray, tile: int = BF16_TILE) -> None:
        self.references, self.tile = references, tile
        parts = [_round_to_bf16(references[start : start + tile]) for start in range(0, len(references), tile)]
        self.norm = max(part.norm for part in parts)
        self.loss = max(part.loss for part in parts)
        self.rounded_norm = max(part.rounded_norm for part in parts)
        self._check(references[:256], references[:tile])

    def margin(self, block: Rounded) -> float:
        """Bound on the difference between the unrounded sum and the exact dot of a pair; see the module docstring."""
        dim = block.values.shape[1]
        sums = 2 * dim * 2.0**-24 * block.rounded_norm * self.rounded_norm + dim * SMALLEST
        return (block.norm * self.loss + block.loss * self.rounded_norm + sums) * (1 + 2.0**-20)

    def search(self, block: np.ndarray, wanted: SearchRequest) -> Proposals:
        import torch

        rounded = _round_to_bf16(block)
        margin = self.margin(rounded)
        found = Collector(len(block), wanted.depth)
        low = torch.from_numpy(lowest_proposal(wanted.references, margin)).to(torch.bfloat16)
        row_low = torch.from_numpy(lowest_proposal(wanted.queries, margin)).to(torch.bfloat16)[:, None]
        work = _Work(min(self.tile, len(block)), min(self.tile, len(self.references)), block.shape[1])
        for start in range(0, len(self.references), self.tile):
            columns = slice(start, min(start + self.tile, len(self.references)))
            references = work.round_references(self.references[columns])
            for first in range(0, len(block), self.tile):
                rows = slice(first, first + self.tile)
                tile = work.multiply(rounded.values[rows], references)
                _keep_reached(tile, low[columns], row_low[rows], first, start, found, work)
        if found.held > len(block) * wanted.depth:
            found.prune()
        queries, places, _ = found.pairs()
        half = HALF_UNIT * np.abs(np.where(np.isneginf(found.cut), 0, found.cut)).astype(np.float64)
        return Proposals(queries, places, bounds_of(found.cut, margin + half + SMALLEST))

    def _check(self, queries: np.ndarray, references: np.ndarray) -> None:
        """Compare one product with the exact one. Raises Bf16Error: some libraries may round intermediate sums."""
        import torch

        rounded = _round_to_bf16(queries)
        rough = torch.mm(rounded.values, torch.from_numpy(references).to(torch.bfloat16).T).float().numpy()
        exact = queries.astype(np.float64) @ references.astype(np.float64).T
        allowed = self.margin(rounded) + HALF_UNIT * np.abs(rough) + SMALLEST
        if not (np.abs(rough - exact) <= allowed).all():
            raise Bf16Error(
                f"the error of bf16 scores is {np.abs(rough - exact).max():.3g}, above the bound {allowed.max():.3g}"
            )


def _keep_reached(
    tile: torch.Tensor, low: torch.Tensor, row_low: torch.Tensor, first: int, start: int, found: Collector, work: _Work
) -> None:
    """Add the scores of a tile (rows, columns) bf16 to `found` that reach `low` (columns,) and `row_low` (rows, 1) and
    exceed the cut of their row. The tile begins at row `first` and column `start`."""
    import torch

    cut = found.cut[first : first + len(tile)]
    mask, further = (work.mask(which, tuple(tile.shape)) for which in range(2))
    _reach(tile, low, mask)
    if not bool(torch.isneginf(row_low).all()):
        mask &= _reach(tile, row_low, further)
    if not np.isneginf(cut).all():
        above = torch.from_numpy(cut).to(torch.bfloat16)[:, None]  # exact: cuts are bf16 scores
        torch.gt(tile, above, out=torch.from_numpy(further))
        mask &= further
    if np.count_nonzero(mask) <= _DENSE_FACTOR * found.depth * len(tile) or found.depth >= tile.shape[1]:
        positions = _true_positions(mask)
        rows, columns = np.divmod(positions, tile.shape[1])
        rough = tile.reshape(-1)[torch.from_numpy(positions)].float().numpy()
        found.add(rows + first, columns + start, rough)
        return
    wanted = torch.where(torch.from_numpy(mask), tile.float(), -torch.inf)
    values, places = torch.topk(wanted, found.depth, dim=1, sorted=False)
    rough, last = values.numpy(), values.amin(dim=1).numpy()
    over = np.flatnonzero((mask.sum(axis=1) > found.depth) & np.isfinite(last))
    found.leave_out(over + first, last[over])
    rows, columns = np.nonzero(np.isfinite(rough))
    found.add(rows + first, places.numpy()[rows, columns] + start, rough[rows, columns])


def _reach(tile: torch.Tensor, low: torch.Tensor, reached: np.ndarray) -> np.ndarray:
    """Set `reached` (rows, columns) bool to tile (rows, columns) ≥ low (columns,) or (rows, 1), both bf16."""
    import torch

    if bool(
        (low > 0).all()
    ):  # positive floats sort like their bits, and the bits of negative floats are negative integers
        np.greater_equal(tile.view(torch.int16).numpy(), low.view(torch.int16).numpy(), out=reached)
    else:
        torch.ge(tile, low, out=torch.from_numpy(reached))
    return reached


def _true_positions(mask: np.ndarray) -> np.ndarray:
    """Flat positions of the true entries; skips eight false entries at a time."""
    flat = mask.reshape(-1)
    if flat.size % 8:
        return np.flatnonzero(flat)
    groups = np.flatnonzero(flat.view(np.uint64))
    inside, places = np.nonzero(flat.reshape(-1, 8)[groups])
    positions: np.ndarray = groups[inside] * 8 + places
    return positions


def _round_to_bf16(vectors: np.ndarray) -> Rounded:
    import torch

    values = torch.from_numpy(np.ascontiguousarray(vectors)).to(torch.bfloat16)
    norm = loss = rounded_norm = 0.0
    for start in range(0, len(vectors), _ROUNDED_ROWS):
        part = slice(start, start + _ROUNDED_ROWS)
        exact, rounded = vectors[part].astype(np.float32), values[part].float().numpy()
        norm = max(norm, largest_norm(exact))
        loss = max(loss, largest_norm(exact - rounded))  # the difference of nearby float32 is exact (Sterbenz)
        rounded_norm = max(rounded_norm, largest_norm(rounded))
    return Rounded(values, norm, loss, rounded_norm)
