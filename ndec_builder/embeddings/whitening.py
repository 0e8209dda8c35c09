"""PCA whitening (Jégou & Chum, ECCV 2012) with shrinkage, fitted on the user's own images.

    y = W (x - μ),  W = diag(1/√λ'_k) V_kᵀ,  λ' = (1 - α) λ + α mean(λ)

V_k holds the k directions of largest variance λ. α pulls the variances towards their mean, so that directions with
little variance in a few thousand images do not become noise (Ledoit & Wolf, 2004, with a given α).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import atomic_path, sha256_bytes


@dataclass(frozen=True)
class Whitening:
    """A linear map to decorrelated directions of (nearly) equal variance."""

    mean: np.ndarray  # (d,) float32
    matrix: np.ndarray  # (d_out, d) float32

    @classmethod
    def fit(cls, features: np.ndarray, dim: int, shrinkage: float = 0.0) -> Whitening:
        """Fit on (n, d) features; keeps min(dim, n - 1, d) dimensions, float64 inside.

        Deterministic: the largest coefficient of each direction is positive, and one thread computes, because the last
        bits of LAPACK's results depend on the number of threads. Raises NdecError for fewer than two images, features
        that do not vary, or a shrinkage outside 0–1.
        """
        count, width = features.shape
        if count < 2:
            raise NdecError(
                f"a whitening cannot be fitted on {count} image{'s' * (count != 1)}; it needs 2, better 1,000: "
                "ingest basic (or pool) images first, or set whiten = false"
            )
        if dim < 1 or not 0 <= shrinkage <= 1:
            raise NdecError(f"whitening needs dim ≥ 1 and 0 ≤ shrinkage ≤ 1; got dim={dim}, shrinkage={shrinkage}")
        mean = features.mean(axis=0, dtype=np.float64)
        centred = features.astype(np.float64) - mean
        with threadpool_limits(1, user_api="blas"):
            variances, directions = np.linalg.eigh(centred.T @ centred / (count - 1))
        variances, directions = variances[::-1], directions[:, ::-1]
        kept = min(dim, count - 1, width, int((variances > variances[0] * 1e-10).sum()))
        if kept < 1 or not variances[0] > 0:
            raise NdecError(f"the {count} images for the whitening all have the same descriptor; are they one picture?")
        directions = directions[:, :kept]
        directions = directions * np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(kept)])
        shrunk = (1 - shrinkage) * variances[:kept] + shrinkage * variances.mean()
        return cls(mean.astype(np.float32), np.ascontiguousarray((directions / np.sqrt(shrunk)).T, np.float32))

    @property
    def dim(self) -> int:
        """Number of output dimensions."""
        return len(self.matrix)

    @property
    def fingerprint(self) -> str:
        """sha256 of mean and matrix, in hex. Vectors with different whitenings cannot be compared."""
        return sha256_bytes(self.mean.tobytes() + self.matrix.tobytes())

    def apply(self, features: np.ndarray) -> np.ndarray:
        """(n, d) → (n, d_out) float32; the bits of a row depend neither on n nor on the number of cores.

        Therefore row by row with einsum: the summation order of a BLAS product depends on both. Raises NdecError for a
        different d.
        """
        if features.shape[1] != len(self.mean):
            raise NdecError(f"the whitening takes {len(self.mean)}-d features, got {features.shape[1]}-d; fit it again")
        rows = [np.einsum("ij,j->i", self.matrix, row) for row in features.astype(np.float32) - self.mean]
        return np.array(rows, np.float32).reshape(len(features), self.dim)

    def save(self, path: Path) -> Path:
        """Write an .npz; equal whitenings give equal bytes."""
        with atomic_path(path) as temporary:
            np.savez(temporary, mean=self.mean, matrix=self.matrix)
        return path

    @classmethod
    def load(cls, path: Path) -> Whitening:
        """Raises NdecError when the file is missing or holds no whitening."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                whitening = cls(arrays["mean"], arrays["matrix"])
        except Exception as error:  # a damaged archive can raise anything
            raise NdecError(f"{path} cannot be read as a whitening ({error}); delete it and embed again") from None
        shapes = whitening.mean.shape, whitening.matrix.shape
        if whitening.matrix.ndim != 2 or shapes[0] != shapes[1][1:]:
            raise NdecError(f"{path} holds arrays of the shapes {shapes[0]} and {shapes[1]}; delete it and embed again")
        return whitening
