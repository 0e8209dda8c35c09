"""Settings of `ndec export-results`. Light: the command line reads this module for `--help`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.config import setting
from ndec_builder.core.errors import UsageError, nearest

FORMATS = {
    "csv": "predictions.full.csv",
    "csv6": "predictions.6.csv",
    "trec": "predictions.trec",
    "hdf5": "descriptors.hdf5",
}
MAX_DIM = 256  # of a descriptor submission


@dataclass(frozen=True, kw_only=True)
class ResultsConfig:
    """Write a report's predictions, or the descriptors behind them, in a form that other tools read."""

    workspace: Path
    report: Path  # directory of `ndec benchmark`
    format: str
    out: Path | None = None
    pca: int | None = setting(None, "hdf5: reduce the descriptors to so many dimensions (PCA fitted on the references)")

    def check(self) -> None:
        """Raise UsageError for an unknown form, or a number of dimensions that no submission has."""
        if self.format not in FORMATS:
            raise UsageError(
                f"--format {self.format!r} is unknown{nearest(self.format, FORMATS)}; choose of {', '.join(FORMATS)}"
            )
        if self.pca is not None and self.format != "hdf5":
            raise UsageError(f"--pca reduces descriptors (--format hdf5); the format is {self.format}")
        if self.pca is not None and not 1 <= self.pca <= MAX_DIM:
            raise UsageError(f"--pca is {self.pca}; a submission has 1 to {MAX_DIM} dimensions")
