"""The first pass on CPUs that multiply bfloat16: matrix products in tiles, and a mask of the few scores that count.

How far a bf16 product can be off. Write v' for a vector rounded to bf16 and e = v − v'. Then
q·r − q'·r' = q·(r − r') + (q − q')·r', so |q·r − q'·r'| ≤ ‖q‖‖e_r‖ + ‖e_q‖‖r'‖ by Cauchy-Schwarz; the norms of the
errors are computed, not estimated. Products of two bf16 are exact in float32; adding d of them in any order is off by
at most d·2**-24·‖q'‖‖r'‖ (Higham 2002, eq. 3.5), twice that for safety. Both together are the margin. The sum is at
last rounded to bf16. Rounding is monotone: a sum that reaches t still reaches round(t) when rounded, so a floor costs
nothing more; a bound from a rounded score c costs half a unit in its last place, at most 2**-8·|c|.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ndec_builder.candidates.search.pairs import largest_norm
from ndec_builder.candidates.search.proposals import Collector, Rough, Wanted, bounds_of, lowest_rough

if TYPE_CHECKING:
    import torch

TILE = 2048  # queries × references of one product: 8 MB of scores, read back while a cache still holds them
DENSE = 2  # a tile with more than so many times the depth of wanted scores is cut to the best of each query first
HALF_UNIT = 2.0**-8  # of bf16, relative; 8 significant bits
CPU_FLAGS = Path("/proc/cpuinfo")
SMALLEST = 2.0**-126  # below the normal numbers the hardware flushes to zero


class Bf16Error(RuntimeError):
    """The products of this machine are further off than float32 accumulation can be."""


def has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AMX tiles or AVX-512 dot products); Linux only."""
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


class Bf16Pass:
    """References (m, d) float16 stay as they are; a tile of them at a time is turned to bf16."""

    def __init__(self, references: np.ndarray, tile: int = TILE) -> None:
        self.references, self.tile = references, tile
        parts = [_round(references[start : start + tile]) for start in range(0, len(references), tile)]
        self.norm = max(part.norm for part in parts)
        self.loss = max(part.loss for part in parts)
        self.rounded_norm = max(part.rounded_norm for part in parts)
        self._check(references[:256], references[:tile])

    def margin(self, block: Rounded) -> float:
        """How far an unrounded sum of a pair can be off the exact dot; see the module."""
        dim = block.values.shape[1]
        sums = 2 * dim * 2.0**-24 * block.rounded_norm * self.rounded_norm + dim * SMALLEST
        return (block.norm * self.loss + block.loss * self.rounded_norm + sums) * (1 + 2.0**-20)

    def search(self, block: np.ndarray, wanted: Wanted) -> Rough:
        import torch

        rounded = _round(block)
        margin = self.margin(rounded)
        found = Collector(len(block), wanted.depth)
        low = torch.from_numpy(lowest_rough(wanted.references, margin)).to(torch.bfloat16)
        row_low = torch.from_numpy(lowest_rough(wanted.queries, margin)).to(torch.bfloat16)[:, None]
        for start in range(0, len(self.references), self.tile):
            columns = slice(start, min(start + self.tile, len(self.references)))
            references = torch.from_numpy(self.references[columns]).to(torch.bfloat16).T
            for first in range(0, len(block), self.tile):
                rows = slice(first, first + self.tile)
                tile = torch.mm(rounded.values[rows], references)
                _keep(tile, low[columns], row_low[rows], first, start, found)
        if found.held > len(block) * wanted.depth:
            found.prune()
        queries, places, _ = found.pairs()
        half = HALF_UNIT * np.abs(np.where(np.isneginf(found.cut), 0, found.cut)).astype(np.float64)
        return Rough(queries, places, bounds_of(found.cut, margin + half + SMALLEST))

    def _check(self, queries: np.ndarray, references: np.ndarray) -> None:
        """Compare one product with the exact one. Raises Bf16Error: another library's sums may round in between."""
        import torch

        rounded = _round(queries)
        rough = torch.mm(rounded.values, torch.from_numpy(references).to(torch.bfloat16).T).float().numpy()
        exact = queries.astype(np.float64) @ references.astype(np.float64).T
        allowed = self.margin(rounded) + HALF_UNIT * np.abs(rough) + SMALLEST
        if not (np.abs(rough - exact) <= allowed).all():
            raise Bf16Error(f"bf16 scores are off by {np.abs(rough - exact).max():.3g}, proven is {allowed.max():.3g}")


def _keep(
    tile: torch.Tensor, low: torch.Tensor, row_low: torch.Tensor, first: int, start: int, found: Collector
) -> None:
    """Hand the scores of a tile (rows, columns) bf16 to `found` that reach `low` (columns,), `row_low` (rows, 1) and
    are above the cut of their row. The tile begins at row `first` and column `start`."""
    import torch

    cut = found.cut[first : first + len(tile)]
    mask = _reach(tile, low)
    if not bool(torch.isneginf(row_low).all()):
        mask &= _reach(tile, row_low)
    if not np.isneginf(cut).all():
        above = torch.from_numpy(cut).to(torch.bfloat16)[:, None]  # exact: cuts are bf16 scores
        mask &= (tile > above).numpy()
    positions = _true(mask)
    if len(positions) <= DENSE * found.depth * len(tile) or found.depth >= tile.shape[1]:
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


def _reach(tile: torch.Tensor, low: torch.Tensor) -> np.ndarray:
    """tile (rows, columns) ≥ low (columns,) or (rows, 1), both bf16, as (rows, columns) bool."""
    import torch

    if bool((low > 0).all()):  # positive floats order like their bits, and negative ones have a negative sign bit
        reached: np.ndarray = np.greater_equal(tile.view(torch.int16).numpy(), low.view(torch.int16).numpy())
        return reached
    compared: np.ndarray = (tile >= low).numpy()
    return compared


def _true(mask: np.ndarray) -> np.ndarray:
    """Flat positions of the true entries; eight at a time are skipped where none is."""
    flat = mask.reshape(-1)
    if flat.size % 8:
        return np.flatnonzero(flat)
    groups = np.flatnonzero(flat.view(np.uint64))
    inside, places = np.nonzero(flat.reshape(-1, 8)[groups])
    positions: np.ndarray = groups[inside] * 8 + places
    return positions


def _round(vectors: np.ndarray) -> Rounded:
    import torch

    values = torch.from_numpy(np.ascontiguousarray(vectors)).to(torch.bfloat16)
    norm = loss = rounded_norm = 0.0
    for start in range(0, len(vectors), TILE):
        exact, rounded = vectors[start : start + TILE].astype(np.float32), values[start : start + TILE].float().numpy()
        norm = max(norm, largest_norm(exact))
        loss = max(loss, largest_norm(exact - rounded))  # the difference of nearby float32 is exact (Sterbenz)
        rounded_norm = max(rounded_norm, largest_norm(rounded))
    return Rounded(values, norm, loss, rounded_norm)
