"""What the steps of a league hand to each other: the halves of the dataset, and one row per detector."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.metrics.bootstrap import GroupedList
from ndec_builder.evaluation.predictions import Predictions


@dataclass
class Row:
    """One detector. numbers: of `measures.league_numbers`; empty if it could not run, and then `problem` says why."""

    name: str
    version: str = ""
    problem: str = ""
    notes: list[str] = field(default_factory=list)
    limits: str = ""
    distances: bool = False  # its scores are minus the distances of the tool
    default: float | None = None
    default_source: str = ""
    tuned: float | None = None
    advice: str = ""
    numbers: dict[str, dict[str, float | None]] = field(default_factory=dict)
    by_edit: dict[str, Any] | None = None
    blind: list[str] = field(default_factory=list)
    calibration: dict[str, Any] | None = None
    cpu: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class League:
    """A dataset and its halves by name. found, lists: predictions on the untouched half by detector, also ranked."""

    whole: Dataset
    data: dict[str, Dataset]
    found: dict[str, Predictions] = field(default_factory=dict)
    lists: dict[str, GroupedList] = field(default_factory=dict)
