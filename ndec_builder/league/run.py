"""`ndec league`: run every detector, evaluate it on the half that tuned nothing, write the table and the report."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import one_writer
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.storage import fingerprint, read_json, write_json, write_text
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset, contents_of, from_folders, from_manifest, rotations_of
from ndec_builder.evaluation.detectors.features import whitening_sample
from ndec_builder.evaluation.detectors.score_direction import direction_problem
from ndec_builder.evaluation.earlier_reports import announce_replaced_league, refuse_own_list
from ndec_builder.evaluation.evaluate import group_predictions
from ndec_builder.evaluation.halves import HALF_NAMES, in_half, restricted
from ndec_builder.evaluation.metrics.bootstrap import GroupedList
from ndec_builder.evaluation.metrics.calibration import best_of_queries
from ndec_builder.evaluation.metrics.threshold_advice import advise
from ndec_builder.evaluation.predictions import Predictions, write_predictions
from ndec_builder.league.calibration import reliability
from ndec_builder.league.entries import Entry, Finished, entries_of, run_entry
from ndec_builder.league.measures import blind_to, league_numbers, recall_by_edit
from ndec_builder.league.pictures import pictures_folder, unreadable_ids, write_pictures
from ndec_builder.league.raw_predictions import read_raw, restrict
from ndec_builder.league.settings import LeagueConfig
from ndec_builder.league.standings import League, Row
from ndec_builder.league.table import league_markdown

RESULT_VERSION = 1
_FUSED_THRESHOLD = 0.5, "P(copy) ≥ 0.5"


@one_writer(lambda config: config.out or Workspace(config.workspace).report(config.name))
def run(config: LeagueConfig) -> Path:
    """Compare the detectors and return the directory of the report. Raises UsageError for settings that conflict.

    A detector that cannot run is a row with the reason. Raises NdecError if not one could be evaluated.
    """
    config.check()
    out = config.out or Workspace(config.workspace).report(config.name)
    if config.bank is not None:
        from ndec_builder.league.bank.false_matches import run_bank

        return run_bank(config, out)
    from ndec_builder.league.report import write_league_report

    entries = entries_of(config)
    for entry in entries:
        if entry.method is not None and (given := entry.method.source.get("predictions")):
            # also the list of another detector: it may be replaced or removed before or after it is read
            refuse_own_list(Path(given), _list_of(out, Path(given).resolve().stem))
    record = RunRecord("league", config, RESULT_VERSION)
    league = _open(config)
    announce_replaced_league(out, league.whole, [entry.name for entry in entries])
    rows = []
    with pictures_folder(out) as pictures:
        folders, notes, unread = write_pictures(league.whole, pictures)
        key = [league.whole.fingerprint, *unread]  # what ran without these pictures is not valid when they are back
        training = functools.cache(lambda: _training(league.whole))  # of many images, and needed rarely
        for number, entry in enumerate(entries, start=1):
            say(f"{number} of {len(entries)}: {entry.name}")
            rows.append(_row(entry, config, league, folders, out / "raw", key, training))
            say(f"{entry.name}: {rows[-1].problem or 'done'}")
    if not any(row.numbers for row in rows):
        raise NdecError("no detector could be evaluated: " + "; ".join(f"{row.name}: {row.problem}" for row in rows))
    _write_predictions(out, league)
    result: dict[str, Any] = {
        "dataset": _about(league),
        "notes": notes,
        "target_precision": config.target_precision,
        "protocol": _protocol(config, league),
        "detectors": [vars(row) for row in rows],
    }
    write_json(out / "league.json", result)
    write_text(out / "league.md", league_markdown(result))
    write_league_report(out, result, league, config)
    record.write(out, counts=result["dataset"], inputs={"dataset": league.whole.fingerprint})
    say(f"wrote {out / 'report.html'}")
    return out


def _training(whole: Dataset) -> str:
    """What identifies the training images of the dataset, which its fingerprint leaves out, and those of the whitening
    that cannot be read now; empty without any.
    """
    if whole.training is None or not len(whole.training):
        return ""
    ids, sample = whole.training["image_id"].to_pylist(), whitening_sample(whole.training)
    unread = unreadable_ids(sample, whole.resolve)
    return fingerprint([ids, contents_of(whole.training, whole.resolve), rotations_of(whole.training), *unread])


def _write_predictions(out: Path, league: League) -> None:
    """Write the list of each detector, and remove those that only the league before this one had.

    Other files stay. The numbers and the record of that league go first: they are not those of these lists.
    """
    path = out / "league.json"
    before = [row["name"] for row in read_json(path)["detectors"]] if path.is_file() else []
    for name in before:
        if name not in league.found:
            _list_of(out, name).unlink(missing_ok=True)
    for file in ("run.json", "league.json"):
        (out / file).unlink(missing_ok=True)
    data = league.data["untouched"]
    for name, found in league.found.items():
        write_predictions(_list_of(out, name), found, data.query_ids, data.reference_ids)


def _list_of(out: Path, name: str) -> Path:
    return out / "predictions" / f"{name}.csv"


def _open(config: LeagueConfig) -> League:
    if config.manifest is not None:
        whole = from_manifest(config.manifest)
    else:
        assert config.queries and config.references and config.ground_truth
        whole = from_folders(config.queries, config.references, config.ground_truth, kinds=config.kinds)
    halves = {half: restricted(whole, half) for half in HALF_NAMES}
    for half, data in halves.items():
        if not len(data.truth):
            raise NdecError(
                f"the {half} half of {whole.name} has no copy, so no threshold can be tuned or evaluated: the halves "
                f"are made by group, and there are {int(whole.query_group.max()) + 1} groups. Use a larger dataset"
            )
    return League(whole, halves)


def _row(
    entry: Entry,
    config: LeagueConfig,
    league: League,
    folders: tuple[Path, Path],
    raw: Path,
    key: list[str],
    training: Callable[[], str],
) -> Row:
    row = Row(entry.name)
    finished = run_entry(entry, config, key, folders, raw, training)
    _describe(row, entry, finished, league.whole)
    if finished.file is None:
        return row
    try:
        found, notes = read_raw(finished.file, *_names(league.whole, entry))
    except NdecError as error:
        row.problem = str(error)
        return row
    row.notes += notes
    given = entry.method is not None and "predictions" in entry.method.source
    if given and (missing := league.whole.without_prediction(found).total()):
        queries = number_of(len(league.whole.queries), "query", "queries")
        row.notes.append(f"{missing:,} of {queries} without a pair in the list: is it for this dataset?")
    if given and (missing := league.whole.references_not_listed(found)):
        references = number_of(league.whole.reference_count, "reference")
        row.notes.append(f"{missing:,} of {references} in no row of the list: is it for this version of the dataset?")
    if not len(found):
        row.problem = "it listed no pair of a query and a reference"
    elif inverted := direction_problem(league.whole, found):
        row.problem = inverted
    else:
        _evaluate(row, config, league, found, is_probability=entry.is_own("fused"))
        _note_end(row, league, found, finished.facts.get("pairs_cut", 0))
    return row


def _note_end(row: Row, league: League, found: Predictions, cut: int) -> None:
    """Say that a list of only the best pairs ends above a threshold: the matches in between are not counted.

    cut: pairs that the detector's process did not write.
    """
    listed, inside = league.found[row.name], in_half(league.whole, "untouched")
    if not len(listed) or (not cut and len(listed) == inside[found.query].sum()):
        return
    end = float(listed.scores.min())
    shown = abs if row.distances else float
    for name, value in (("default", row.default), ("tuned", row.tuned)):
        if value is not None and value < end:
            row.notes.append(
                f"the list ends at {shown(end):.4g}, and the {name} threshold is {shown(value):.4g}: matches in "
                "between are not counted, so false matches at that threshold are too few"
            )


def _describe(row: Row, entry: Entry, finished: Finished, whole: Dataset) -> None:
    """What is known without the predictions: version, default threshold, CPU time, pictures that failed."""
    facts, row.problem = finished.facts, finished.problem
    images = len(whole.queries) + len(whole.references)
    if (peer := entry.peer) is not None:
        row.version = f"{peer.tool} {peer.version() or peer.tested_version}".strip()
        row.limits, row.default, row.default_source = peer.limits, peer.score_threshold, peer.source
        row.distances = peer.distances
        if peer.version() not in (None, peer.tested_version):
            row.notes.append(f"installed is {peer.version()}, and the adapter was tested with {peer.tested_version}")
    else:
        row.version = facts.get("about", "")
    if entry.is_own("fused"):
        row.default, row.default_source = _FUSED_THRESHOLD
    if failed := facts.get("failed"):
        name, reason = next(iter(failed.items()))
        if entry.peer is not None:  # it knows the pictures by their rows
            name = (whole.query_ids if name.startswith("q") else whole.reference_ids)[int(name[1:])]
        row.notes.append(f"{number_of(len(failed), 'image')} failed and count as not found (first: {name}: {reason})")
    if left_out := facts.get("left_out"):
        row.notes.append(
            f"{number_of(len(left_out), 'image is', 'images are')} left out by the tool's "
            "own rule and count as not found"
        )
    if quality := sorted(facts.get("quality", {}).values()):
        row.notes.append(
            f"quality of the pictures by the tool: median {quality[len(quality) // 2]:g}, lowest {quality[0]:g}, "
            f"below 80: {sum(value < 80 for value in quality):,} of {number_of(len(quality), 'picture')}"
        )
    if strangers := facts.get("stranger_rows"):
        row.notes.append(f"{number_of(strangers, 'row')} of the tool name files that it was not given")
    if facts.get("engine") == "ray":
        row.notes.append("ran on a Ray cluster, where its CPU time is not measured")
    if "cpu_total" in facts:
        row.cpu["per_1000_images"] = 1000 * facts["cpu_total"] / images
        if facts.get("pairs_compared"):
            row.cpu["per_1000_images"] = 1000 * facts["cpu_describe"] / images
            row.cpu["per_million_pairs"] = 1e6 * facts["cpu_match"] / facts["pairs_compared"]
        row.cpu["total"] = facts["cpu_total"]


def _names(whole: Dataset, entry: Entry) -> Sequence[list[str]]:
    if entry.peer is None:
        return whole.query_ids, whole.reference_ids
    counts = len(whole.queries), len(whole.references)
    return [[f"{letter}{i:06}" for i in range(n)] for letter, n in zip("qr", counts, strict=True)]


def _evaluate(row: Row, config: LeagueConfig, league: League, found: Predictions, *, is_probability: bool) -> None:
    """Tune on one half, measure on the other."""
    sides: dict[str, tuple[Predictions, GroupedList]] = {}
    for half in HALF_NAMES:
        inside = in_half(league.whole, half)
        part = restrict(found, np.where(inside, np.cumsum(inside) - 1, -1))
        sides[half] = part, group_predictions(league.data[half], part)
    tuning, untouched = league.data["tuned"], league.data["untouched"]
    advice = advise(
        sides["tuned"][1], tuning.query_group[tuning.truth_queries()], config.target_precision,
        int(tuning.query_group.max()) + 1, config.seed,
    )  # fmt: skip
    row.tuned, row.advice = advice["threshold"], advice["advice"]
    part, rows = sides["untouched"]
    thresholds = {name: value for name, value in (("default", row.default), ("tuned", row.tuned)) if value is not None}
    row.numbers = league_numbers(untouched, rows, thresholds, config.replicates, config.seed)
    own = row.default if row.default is not None else row.tuned
    if own is not None:
        row.by_edit = recall_by_edit(untouched, part, own, config.seed)
        row.blind = blind_to(row.by_edit)
    row.calibration = reliability(
        best_of_queries(sides["tuned"][0].query, sides["tuned"][1]), best_of_queries(part.query, rows),
        int(untouched.query_group.max()) + 1, is_probability, config.replicates, config.seed,
    )  # fmt: skip
    league.found[row.name], league.lists[row.name] = part, rows


def _about(league: League) -> dict[str, Any]:
    untouched = league.data["untouched"]
    kinds = {name: int((untouched.stratum == i).sum()) for i, name in enumerate(("none", "natural", "reverse_crop"))}
    return {
        "name": league.whole.name,
        "labels_by": league.whole.labels_by,
        "fingerprint": league.whole.fingerprint,
        "references": league.whole.reference_count,
        "queries": len(untouched.queries),
        "copies": len(untouched.truth),
        "groups": int(untouched.query_group.max()) + 1,
        "natural_hard_negatives": kinds["natural"],
        "reverse_crop_hard_negatives": kinds["reverse_crop"],
        "tuning_queries": len(league.data["tuned"].queries),
    }


def _protocol(config: LeagueConfig, league: League) -> str:
    return (
        "Groups of queries are split in two by a hash of their name. Thresholds and calibration come from the tuning "
        f"half ({number_of(len(league.data['tuned'].queries), 'query')}), every number from the other half "
        f"({number_of(len(league.data['untouched'].queries), 'query')}). Intervals: 95 %, "
        f"{config.replicates:,} bootstrap "
        f"replicates over groups, seed {config.seed}."
    )
