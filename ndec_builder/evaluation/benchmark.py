"""`ndec benchmark`: a dataset and a detector → predictions.csv, metrics.json, report.html."""

from __future__ import annotations

import collections
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ndec_builder.core.console import number_of, say, waiting
from ndec_builder.core.errors import GapsError
from ndec_builder.core.executor.runner import on_engine
from ndec_builder.core.locks import one_writer
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.storage import sha256_file, write_json
from ndec_builder.core.workspace import Workspace, slug
from ndec_builder.evaluation.dataset import Dataset, from_folders, from_manifest
from ndec_builder.evaluation.decision import decisions
from ndec_builder.evaluation.detectors.descriptors import distinct_names
from ndec_builder.evaluation.detectors.scoring import Scored
from ndec_builder.evaluation.earlier_reports import ReplacedReport, check_out, read_baseline, search_difference
from ndec_builder.evaluation.evaluate import BenchmarkRun, evaluate_detector, group_predictions
from ndec_builder.evaluation.metrics.bootstrap import Interval, intervals
from ndec_builder.evaluation.metrics.by_edit_kind import Copies, by_edit_kind, edit_kinds
from ndec_builder.evaluation.metrics.calibration import best_of_queries, calibration, probable
from ndec_builder.evaluation.metrics.estimates import METRIC_KEYS, QUERY_SUBSETS, STRATA, Evaluation
from ndec_builder.evaluation.metrics.threshold_advice import advise
from ndec_builder.evaluation.predictions import write_predictions
from ndec_builder.evaluation.report.html_report import write_report
from ndec_builder.evaluation.settings import AUTO, ONE_PER_QUERY, BenchmarkConfig
from ndec_builder.evaluation.twins import settle_twins
from ndec_builder.evaluation.verdict import headline, verdict, without_prediction
from ndec_builder.version import __version__

RESULT_VERSION = 2


@on_engine
@one_writer(lambda config: config.out or Workspace(config.workspace).report(config.name or _default_name(config)))
def run(config: BenchmarkConfig) -> Path:
    """Evaluate one detector and return the report directory.

    Raises UsageError for settings that conflict, NdecError for data that cannot be evaluated, and GapsError (after all
    files are written) when more than `max_reject_share` of the images could not be used.
    """
    config.check()
    record = RunRecord("benchmark", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    out = config.out or workspace.report(config.name or _default_name(config))
    check_out(config, out)
    dataset = open_dataset(config)
    say(
        f"{dataset.name}: {number_of(len(dataset.queries), 'query')}, "
        f"{number_of(len(dataset.references), 'reference')}, "
        f"{number_of(len(dataset.truth), 'ground-truth pair')}"
    )
    if not config.twins:  # which can change the data
        read_baseline(config, dataset)  # a wrong baseline is reported before any image is embedded
    dataset, twins = settle_twins(config, workspace, dataset)
    if twins:
        say(twins)
    baseline, replaced = read_baseline(config, dataset), ReplacedReport.find(out)
    theirs = None if baseline is None else baseline.predictions
    evaluated = evaluate_detector(
        config, workspace, dataset, None if theirs is None else group_predictions(dataset, theirs)
    )
    scored, evaluation = evaluated.scored, evaluated.evaluation
    say(f"{number_of(len(scored.predictions), 'prediction')}; {config.replicates:,} bootstrap replicates")
    groups = int(dataset.query_group.max()) + 1
    numbers = intervals(evaluation, groups, config.replicates, config.seed, evaluation.sizes(groups))
    metrics = _metrics(config, dataset, evaluated, numbers) | _details(config, dataset, scored, evaluation)
    if baseline is not None:
        metrics["protocol"]["baseline_search"] = baseline.search or "not recorded"
        metrics["baseline_differs"] = "" if config.one_per_query else search_difference(scored.predictions, baseline)
    if twins:
        metrics["twins"] = twins
    if scored.note:
        metrics["scores_look_inverted"] = scored.note

    inputs = {"dataset": dataset.fingerprint, **_input_sums(config)}
    if replaced is not None:
        replaced.announce(config, inputs, scored.weights)
    for name in ("run.json", "metrics.json"):  # of the report before: they do not describe the list written now
        (out / name).unlink(missing_ok=True)
    write_predictions(out / "predictions.csv", evaluated.final, dataset.query_ids, dataset.reference_ids)
    write_json(out / "metrics.json", metrics)
    lineage = {
        "ndec": __version__,
        **inputs,
        **{f"weights {n}": sum_ for n, sum_ in scored.weights.items()},
    }
    with waiting("drawing the report"):
        write_report(out, dataset, metrics, scored.predictions, evaluated.final, evaluation, config, theirs, lineage)
    record.write(
        out,
        counts=metrics["data"],
        inputs=inputs,
        weights=scored.weights,
        rejects=scored.rejects,
    )
    if replaced is not None:
        replaced.name_stale_exports()
    say(headline(metrics))
    say(verdict(metrics))
    if missing := without_prediction(metrics):
        say(missing)
    say(f"wrote {out / 'report.html'}")
    _check_rejects(config, scored, len(dataset.queries) + len(dataset.references), out)
    return out


def _check_rejects(config: BenchmarkConfig, scored: Scored, images: int, out: Path) -> None:
    rejects = [(image, reason) for side in scored.rejects.values() for image, reason in side.items()]
    if not rejects:
        return
    lost = "scores their pairs as they were given" if config.predictions else "counts them as not found"
    found = (
        f"{len(rejects):,} of {number_of(images, 'image')} could not be used (first: {': '.join(rejects[0])}); "
        f"the report {out} {lost}"
    )
    if len(rejects) > config.max_reject_share * images:
        raise GapsError(f"{found}. Fix the images, or raise max_reject_share ({config.max_reject_share:g})")
    say(f"{found}; run.json names all of them")


def open_dataset(config: BenchmarkConfig) -> Dataset:
    if config.manifest is not None:
        return from_manifest(config.manifest)
    assert config.queries and config.references and config.ground_truth
    return from_folders(config.queries, config.references, config.ground_truth, config.group_by, config.kinds)


def _metrics(
    config: BenchmarkConfig,
    dataset: Dataset,
    evaluated: BenchmarkRun,
    numbers: dict[str, Interval],
) -> dict[str, Any]:
    """The content of `metrics.json`: top-level keys cover all queries, `by_hard_kind` the subsets."""
    scored, n = evaluated.scored, evaluated.evaluation.n
    undefined = asdict(Interval(None, None, None))
    kinds = collections.Counter(dataset.kinds)
    missing = dataset.without_prediction(scored.predictions)

    def values(subset: str) -> dict[str, Any]:
        keys = {key: asdict(numbers[f"{subset}/{key}"]) for key in METRIC_KEYS if f"{subset}/{key}" in numbers}
        return {"n": n} | {key: keys.get(key, undefined) for key in METRIC_KEYS}

    without = numbers.get("without/uap")
    return {
        **values("all"),
        "uap_without_hard_negatives": asdict(without) if without else undefined,
        "by_hard_kind": {
            subset: values(subset) if subset in dataset.subsets else None for subset in QUERY_SUBSETS if subset != "all"
        },
        "uap_by_filter": evaluated.uaps,
        "protocol": {
            "search": scored.predictions.protocol,
            **({"one_per_query": ONE_PER_QUERY} if config.one_per_query else {}),
            "ranking": "one list; score desc, negatives first among equals, then ids; / all ground-truth pairs",
            "precision": f"cut at N = {n:,}, then filter, no refill",
            "filter": _filter_text(config, evaluated.evaluation),
            "filter_auc": "query_over_reference of each hard negative query's best pair above that of the true pairs",
            "subsets": "queries left out of the one list; the search was over all of them",
            "intervals": f"95 %, {config.replicates:,} bootstrap replicates over groups of queries, seed {config.seed}",
        },
        "detector": scored.about,
        "baseline": None if config.baseline is None else config.baseline.name,
        "dataset": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "labels_by": dataset.labels_by,
            "labels_simulated": dataset.labels_simulated,
        },
        "data": {
            "queries": len(dataset.queries),
            "references": dataset.reference_count,
            "ground_truth_pairs": len(dataset.truth),
            "groups": int(dataset.query_group.max()) + 1,
            "groups_with_copies": len(np.unique(evaluated.evaluation.truth_group)),
            "predictions": len(scored.predictions),
            "queries_without_prediction": missing.total(),
            "references_not_listed": dataset.references_not_listed(scored.predictions) if config.predictions else 0,
            **{f"{kind}_queries_without_prediction": missing[kind] for kind in sorted(kinds)},
            "unusable_images": sum(len(side) for side in scored.rejects.values()),
            **{f"{kind}_queries": count for kind, count in sorted(kinds.items())},
            "confirmed_copies": dataset.confirmed_copies,
            **{f"{name}_hard_negatives": int((dataset.stratum == i).sum()) for i, name in enumerate(STRATA) if i},
        },
    }


def _details(config: BenchmarkConfig, dataset: Dataset, scored: Scored, evaluation: Evaluation) -> dict[str, Any]:
    """`by_edit_kind`, `threshold_advice` and, for probabilities, `calibration` and `decisions` of metrics.json."""
    groups = int(dataset.query_group.max()) + 1
    advice = advise(evaluation.final, evaluation.truth_group, config.target_precision, groups, config.seed)
    details: dict[str, Any] = {"threshold_advice": advice, "by_edit_kind": None}
    if scored.probabilities:
        best, others = probable(best_of_queries(scored.predictions.query, evaluation.searched))
        if len(best):
            fit = calibration(best, groups, config.replicates, config.seed)
            details["calibration"] = fit | {"queries_without_probability": others}
        rows = evaluation.searched.keep(evaluation.searched.ranked.scores >= 0)
        details["decisions"] = decisions(
            rows, evaluation.truth_group, groups, config.replicates, config.seed, scored.shipped
        )
    if "edit" not in dataset.queries.column_names:
        return details
    queries = dataset.truth_queries()
    edits = dataset.queries["edit"].take(queries).to_pylist()
    ranked = evaluation.searched.ranked
    order = scored.predictions.pairs(len(dataset.references))[ranked.rows]
    found = np.isin(dataset.truth, order[: evaluation.n])
    kept = None
    if evaluation.filter is not None:
        kept = np.isin(dataset.truth, order[~evaluation.filter.rejected])
    copies = Copies(dataset.query_group[queries], found, kept, edit_kinds(edits))
    return details | {"by_edit_kind": by_edit_kind(copies, groups, min(config.replicates, 1000), config.seed)}


def _filter_text(config: BenchmarkConfig, evaluation: Evaluation) -> str | None:
    if evaluation.filter is None:
        return None
    own = " (the checkpoint's own, from training data)" if config.threshold == AUTO else ""
    return (
        f"reject when query_over_reference > {evaluation.filter.threshold:g}{own}, strictly; micro average precision: "
        f"scope {config.scope}, action {config.action}"
    )


def _default_name(config: BenchmarkConfig) -> str:
    files = [*config.checkpoints, *config.descriptors[:1], *([config.predictions] if config.predictions else [])]
    names = [slug(path.parent.name if path.stem == "checkpoint" else path.stem) for path in map(Path, files)]
    names += [slug(model) for model in config.models]
    return "+".join(names) + (f"-{config.scorer}" if config.scores_are_known else "")


def _input_sums(config: BenchmarkConfig) -> dict[str, str]:
    files = {"ground_truth": config.ground_truth, "kinds": config.kinds, "predictions": config.predictions}
    names = distinct_names(config.descriptors)
    files |= {f"descriptors {name}": path for name, path in zip(names, config.descriptors, strict=True)}
    return {name: sha256_file(path) for name, path in files.items() if path is not None}
