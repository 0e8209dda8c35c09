"""`ndec export-results`: predictions or descriptors of a report in the file formats of `formats.py`."""

from __future__ import annotations

import typing
from dataclasses import fields
from pathlib import Path
from typing import Any

from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.locks import one_writer
from ndec_builder.core.storage import read_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset, from_folders, from_manifest
from ndec_builder.evaluation.detectors.formats import Descriptors, reduce, write_csv6, write_submission, write_trec
from ndec_builder.evaluation.detectors.scoring import descriptors
from ndec_builder.evaluation.fiftyone_dataset import write_fiftyone
from ndec_builder.evaluation.predictions import read_predictions, write_predictions
from ndec_builder.evaluation.settings import MAX_DIM, RESULT_FORMATS, BenchmarkConfig, ResultsConfig
from ndec_builder.evaluation.twins import settle_twins


@one_writer(lambda config: config.out or config.report)
def run(config: ResultsConfig) -> Path:
    """Write one file and return it.

    Raises UsageError if the directory is not a report or has no descriptors to export, and NdecError if the data or the
    detector changed since the report, for ids that the format cannot hold, or descriptors with too many dimensions.
    """
    recorded = benchmark_of(config.report)
    dataset = _dataset(recorded)
    dataset, _ = settle_twins(recorded, Workspace(config.workspace), dataset)
    theirs = read_json(config.report / "metrics.json").get("dataset", {}).get("fingerprint")
    if theirs != dataset.fingerprint:
        raise NdecError(
            f"the data of {config.report} changed since it was made (fingerprint then {str(theirs)[:12]}, now "
            f"{dataset.fingerprint[:12]}); run `ndec benchmark` again, then export"
        )
    path = config.out or config.report / RESULT_FORMATS[config.format]
    if config.format == "hdf5":
        return _write_descriptors(path, config, recorded, dataset)
    ids = dataset.query_ids, dataset.reference_ids
    predictions = read_predictions(config.report / "predictions.csv", *ids)
    if config.format == "csv":
        return write_predictions(path, predictions, *ids)
    if config.format == "fiftyone":
        return write_fiftyone(path, dataset, predictions, config.report.resolve().name)
    if config.format == "trec":
        return write_trec(path, predictions, *ids, config.report.resolve().name)
    if ties := write_csv6(path, predictions, *ids):
        say(
            f"{path}: rounding to six decimals makes {ties:,} of {len(predictions):,} scores equal to a different one; "
            "negatives come first among equal scores, so μAP can only fall"
        )
    return path


def benchmark_of(report: Path) -> BenchmarkConfig:
    """The settings that a report was made with. Raises UsageError if the directory is not a report."""
    path = report / "run.json"
    if not path.is_file() or not (report / "predictions.csv").is_file():
        raise UsageError(f"{report} is not a report of `ndec benchmark`: run.json or predictions.csv is missing")
    values: dict[str, Any] = read_json(path).get("config", {})
    hints = typing.get_type_hints(BenchmarkConfig)
    known: dict[str, Any] = {
        field.name: values[field.name] for field in fields(BenchmarkConfig) if field.name in values
    }
    paths = {name for name, hint in hints.items() if "Path" in str(hint)}
    for name in paths & set(known):
        value = known[name]
        if value is not None:
            known[name] = [Path(path) for path in value] if isinstance(value, list) else Path(value)
    known = {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}
    return BenchmarkConfig(**known)


def _dataset(recorded: BenchmarkConfig) -> Dataset:
    if recorded.manifest is not None:
        return from_manifest(recorded.manifest)
    assert recorded.queries and recorded.references and recorded.ground_truth
    return from_folders(recorded.queries, recorded.references, recorded.ground_truth, recorded.group_by, recorded.kinds)


def _write_descriptors(path: Path, config: ResultsConfig, recorded: BenchmarkConfig, dataset: Dataset) -> Path:
    if recorded.model is None and recorded.checkpoint is None:
        what = f"predictions ({recorded.predictions})" if recorded.predictions else "--descriptors, which you have"
        raise UsageError(
            f"{config.report} was made from {what}, so it has no descriptors of its own; "
            "export a report that was made with --model or --checkpoint"
        )
    queries, references, weights = descriptors(recorded, Workspace(config.workspace), dataset)
    then = {
        name: value
        for name, value in read_json(config.report / "run.json").get("weights", {}).items()
        if name != "fused" and not name.startswith("asl ")  # of networks that the descriptors do not come from
    }
    if changed := sorted(name for name in weights.keys() | then.keys() if weights.get(name) != then.get(name)):
        name = changed[0]
        raise NdecError(
            f"the detector of {config.report} changed since it was made ({name}: then {str(then.get(name))[:12]}, now "
            f"{str(weights.get(name))[:12]}), so its descriptors are not those behind the predictions; run "
            "`ndec benchmark` again, then export"
        )
    vectors = queries.vectors, references.vectors
    width = vectors[0].shape[1]
    if config.pca is not None and config.pca > width:
        raise UsageError(f"--pca {config.pca}: the descriptors have only {width} dimensions")
    if config.pca is not None:
        vectors = reduce(*vectors, config.pca)
        say(f"{width} dimensions reduced to {config.pca} (PCA fitted on {number_of(len(vectors[1]), 'reference')})")
    elif width > MAX_DIM:
        raise NdecError(
            f"the descriptors have {width} dimensions, a submission may have at most {MAX_DIM}; add --pca {MAX_DIM} "
            "(this changes the scores), or train a head with fewer dimensions"
        )
    sides = [
        Descriptors([ids[place] for place in side.places], part)
        for ids, side, part in zip(
            (dataset.query_ids, dataset.reference_ids), (queries, references), vectors, strict=True
        )
    ]
    left_out = len(queries.rejects) + len(references.rejects)
    if left_out:
        say(f"{number_of(left_out, 'image is', 'images are')} missing from the file, because ndec could not use them")
    if changes := _changed_after_the_search(recorded):
        say(f"{path}: the list of the report is {' and '.join(changes)}; the descriptors alone give another list")
    return write_submission(path, *sides)


def _changed_after_the_search(recorded: BenchmarkConfig) -> list[str]:
    """How the list of a report differs from that of its descriptors alone."""
    changes = {
        f"normalised (--norm-factor {recorded.norm_factor:g})": recorded.norm_factor > 0,
        "filtered by norm ratios": recorded.scorer == "asl",
        "re-scored by the fused scorer": recorded.scorer == "fused",
        "reduced to one reference per query": recorded.one_per_query,
        "without the twins that --twins drop left out": recorded.twins == "drop",
    }
    return [text for text, holds in changes.items() if holds]
