"""Reports that exist already: the one to compare with, and one that a new report would replace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ndec_builder.core.config import as_dict, result_fields
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import UsageError
from ndec_builder.core.storage import read_json, sha256_file
from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.predictions import Predictions, read_predictions
from ndec_builder.evaluation.settings import RESULT_FORMATS, BenchmarkConfig

_MORE_FIELDS = ("model", "checkpoint", "asl_checkpoint", "fused_model", "probabilities", "baseline")
_AS_GIVEN = "as given in"  # in the protocol of a list that was read, not searched


@dataclass(frozen=True)
class Baseline:
    """The final list of an earlier run, and its `protocol.search` (None in old reports)."""

    predictions: Predictions
    search: str | None


def read_baseline(config: BenchmarkConfig, dataset: Dataset) -> Baseline | None:
    """The baseline, reduced to one reference per query if this run is; None without one.

    Raises UsageError if it is not a report, used different data, or holds one reference per query and this run all.
    """
    report = config.baseline
    if report is None:
        return None
    if not (report / "metrics.json").is_file() or not (report / "predictions.csv").is_file():
        raise UsageError(
            f"--baseline {report} is not a report of `ndec benchmark`: metrics.json or predictions.csv is missing"
        )
    metrics = read_json(report / "metrics.json")
    theirs = metrics.get("dataset", {}).get("fingerprint")
    if theirs != dataset.fingerprint:
        hint = (
            f". With --twins {config.twins} both runs must find the same twins, which depends on the model: run both "
            "without it, or remove the duplicate references from the dataset"
            if config.twins
            else ""
        )
        raise UsageError(
            f"the baseline {report} was run on different data (fingerprint {str(theirs)[:12]}, here "
            f"{dataset.fingerprint[:12]}); run `ndec benchmark` for the baseline on this dataset first{hint}"
        )
    protocol = metrics.get("protocol", {})
    if protocol.get("one_per_query") and not config.one_per_query:
        raise UsageError(
            f"the baseline {report} holds one reference per query, and this run would hold all pairs, so they "
            "cannot be compared; add --one-per-query, or run the baseline without it"
        )
    found = read_predictions(report / "predictions.csv", dataset.query_ids, dataset.reference_ids)
    return Baseline(found.best_of_queries() if config.one_per_query else found, protocol.get("search"))


def search_difference(own: Predictions, baseline: Baseline) -> str:
    """How the search of the baseline differs from this one: a clause for the verdict, or empty.

    What a scorer changes after the search does not count. How a given list was searched is not known, so its most pairs
    per query are compared.
    """
    searches = [text.partition(";")[0] for text in (own.protocol, baseline.search or _AS_GIVEN)]
    if any(_AS_GIVEN in text for text in searches):
        most = [_most_per_query(found) for found in (own, baseline.predictions)]
        searches = [f"at most {number_of(count, 'pair')} per query" for count in most]
    if searches[0] == searches[1]:
        return ""
    return f"the searches differ, which is part of the difference (here: {searches[0]}; baseline: {searches[1]})"


def _most_per_query(found: Predictions) -> int:
    return int(np.bincount(found.query, minlength=1).max())


def check_out(config: BenchmarkConfig, out: Path) -> None:
    """Raise UsageError if the report would replace its own baseline, or the list that it is about."""
    if config.baseline is not None and out.resolve() == config.baseline.resolve():
        raise UsageError(
            f"this report would be written to {out}, which is its --baseline; give it another --name or --out"
        )
    refuse_own_list(config.predictions, out / "predictions.csv")


def refuse_own_list(given: Path | None, written: Path) -> None:
    """Raise UsageError if a list of predictions that was given is the file to be written."""
    if given is not None and given.resolve() == written.resolve():
        raise UsageError(f"{given} is a file that this command replaces or removes; copy it, or give another --out")


@dataclass(frozen=True)
class ReplacedReport:
    """The report that is in a directory before a new one is written there. list_sum: sha256 of its predictions."""

    directory: Path
    record: Mapping[str, Any]
    list_sum: str

    @classmethod
    def find(cls, directory: Path) -> ReplacedReport | None:
        """The report in a directory, None if there is none."""
        if not (directory / "run.json").is_file() or not (directory / "predictions.csv").is_file():
            return None
        return cls(directory, read_json(directory / "run.json"), sha256_file(directory / "predictions.csv"))

    def announce(self, config: BenchmarkConfig, inputs: Mapping[str, str], weights: Mapping[str, str]) -> None:
        """Say that this run replaces the report, if it is of other data, files, weights or settings."""
        then, now = self.record.get("config", {}), as_dict(config)
        before = self.record.get("inputs", {}) | self.record.get("weights", {})
        inputs = {**inputs, **weights}
        changes = [f"other {k}" for k in sorted(before.keys() | inputs.keys()) if before.get(k) != inputs.get(k)]
        for name in (*result_fields(config), *_MORE_FIELDS):
            if name in then and then[name] != now[name]:
                changes.append(f"{name} {_shown(then[name])} → {_shown(now[name])}")
        if changes:
            what = ", ".join(changes)
            say(f"{self.directory} holds an earlier report, which this one replaces ({what}); --name keeps both")

    def name_stale_exports(self) -> None:
        """Name the files that `ndec export-results` wrote from the replaced list."""
        stale = [name for name in RESULT_FORMATS.values() if (self.directory / name).is_file()]
        if stale and sha256_file(self.directory / "predictions.csv") != self.list_sum:
            say(f"{', '.join(stale)} in {self.directory} are from the report before; run `ndec export-results` again")


def announce_replaced_league(out: Path, dataset: Dataset, names: Sequence[str]) -> None:
    """Say that a league of these detectors replaces one on other data, or one with detectors that this one lacks."""
    if not (out / "league.json").is_file():
        return
    before = read_json(out / "league.json")
    changes = []
    if before["dataset"].get("fingerprint") != dataset.fingerprint:
        changes.append(f"on other data: {before['dataset'].get('name')}")
    if lost := [row["name"] for row in before["detectors"] if row["name"] not in names]:
        changes.append(f"with {', '.join(lost)}, which this one has not")
    if changes:
        say(f"{out} holds an earlier league, which this one replaces ({'; '.join(changes)}); --name keeps both")


def _shown(value: object) -> str:
    return "none" if value is None or value == [] else str(value)
