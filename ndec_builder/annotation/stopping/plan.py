"""`ndec annotate plan`: which sequence of push, certify and audit gives the most hard negatives for the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow.compute as pc

from ndec_builder.annotation.assignment.order import likeliest_first
from ndec_builder.annotation.decisions.label_statistics import doubtful_pairs, posterior_of, prior_of
from ndec_builder.annotation.decisions.recall_certificate import goal_of_look
from ndec_builder.annotation.plans import PLANS
from ndec_builder.annotation.settings import DecisionRules
from ndec_builder.annotation.stopping.certificate import certified_stop, first_labels, population
from ndec_builder.annotation.stopping.forecast import Forecast, QueuePool, SecondLabels, best, forecast_ways
from ndec_builder.annotation.stopping.settings import PlanConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.locks import one_writer
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.storage import write_json
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 1
RECALLS = (0.5, 0.6, 0.7, 0.8, 0.9)
_LEAST_LABELLED = 100


@one_writer(lambda config: Workspace(config.workspace).annotation(config.split))
def run(config: PlanConfig) -> Path:
    """Write plan.json, a SIMULATED forecast of each way, and say which one is best; returns its path.

    Raises UsageError unless one of budget and goal is given, and NdecError without labels or `relearn`: the forecast
    comes from the pilot's own labels.
    """
    if (config.budget > 0) == (config.goal > 0):
        raise UsageError(
            f"give either --budget N or --goal N, a number above 0; found budget {config.budget} and goal {config.goal}"
        )
    record = RunRecord("annotate plan", config, RESULT_VERSION)
    tables = AnnotationTables(Workspace(config.workspace), config.split)
    labels = first_labels(tables)
    if len(labels) < _LEAST_LABELLED:
        raise NdecError(
            f"{len(labels)} pairs of the split {config.split!r} are labelled; a plan needs a pilot of at least "
            f"{_LEAST_LABELLED}: `ndec annotate push --split {config.split} --sample 500`, pull, and relearn"
        )
    ranking = likeliest_first(population(tables), tables.relearnt)
    rules = PLANS["economical"]
    all_labels, prior = tables.counting_labels, prior_of(tables.candidates, tables.relearnt)
    first = all_labels.filter(pc.equal(all_labels["round"], "first"))
    at_first, now = (
        doubtful_pairs(*posterior_of(known, prior), DecisionRules().tolerance, rules["discard_tolerance"])
        for known in (first, all_labels)
    )
    ways = forecast_ways(
        QueuePool.of(ranking, tables.relearnt, labels),
        certified_stops(tables),
        SecondLabels.of(labels, at_first, now),
        config.split == "test",
        config.draws,
        config.seed,
    )
    chosen = best(ways, config.budget, config.goal)
    path = write_json(
        tables.directory / "plan.json",
        {"simulated": True, "budget": config.budget or None, "goal": config.goal or None, "pairs": len(ranking),
         "labelled": len(labels), "chosen": asdict(chosen) if chosen else None, "ways": [asdict(way) for way in ways]},
    )  # fmt: skip
    record.write(tables.directory, counts={"pairs": len(ranking), "labelled": len(labels)}, name="plan.run.json")
    for line in plan_lines(config, ways, chosen):
        say(line)
    return path


def certified_stops(tables: AnnotationTables) -> dict[float, int]:
    """Recall → length of the queue that `certify` would name now; empty without a sample that can certify."""
    found = {}
    for recall in RECALLS:
        try:
            found[recall] = certified_stop(tables, goal_of_look(recall))
        except NdecError:  # no blind sample at all: the same for each recall
            return {}
    return {recall: stop for recall, stop in found.items() if stop is not None}


def plan_lines(config: PlanConfig, ways: Sequence[Forecast], chosen: Forecast | None) -> list[str]:
    """The forecast in words: the certified ways, then the best one with its commands."""
    shown = [way for way in ways if way.recall is not None or way is ways[0]]
    lines = [f"SIMULATED forecast from the labels given so far ({config.draws} drawn truths); labels still to give:"]
    lines += [f"  {_text(way)}" for way in [*shown, *([chosen] if chosen and chosen not in shown else [])]]
    if not any(way.recall for way in ways):
        lines.append("  no certified stop: there is no blind random sample, or it holds too few hard negatives")
    asked = f"a budget of {config.budget:,} labels" if config.budget else f"{config.goal:,} hard negatives"
    if chosen is None:
        most = max(ways, key=lambda way: way.low)
        least = min(ways, key=lambda way: way.labels)
        reach = (
            f"the cheapest way takes {least.labels:,.0f}"
            if config.budget
            else f"these candidates give about {most.kept:,.0f} ({most.low:,.0f} with 90 % probability); mine more"
        )
        return [*lines, f"no way fits {asked}: {reach}"]
    return [*lines, f"best for {asked}: {chosen.way}", *(f"  {command}" for command in commands(chosen, config.split))]


def _text(way: Forecast) -> str:
    return (
        f"{way.way}: {way.labels:,.0f} labels keep {way.kept:,.0f} hard negatives ({way.low:,.0f}–{way.high:,.0f}); "
        f"{number_of(way.queue, 'pair')} of the queue"
    )


def commands(way: Forecast, split: str) -> list[str]:
    """The sequence of commands of a way, `pull` after each push left out."""
    base = f"ndec annotate push --split {split}"
    if way.way.startswith("everything"):
        again = f"ndec annotate double-check --split {split} --which all"
        return [base, again, f"ndec annotate adjudicate --split {split}"]
    first = [f"{base} --order likeliest --count {way.queue}   (pairs labelled already are not given again)"]
    if way.recall is not None:
        first = [
            f"ndec annotate double-check --split {split} --which hard_negative   (the sample's hard negatives)",
            f"ndec annotate relearn --split {split}",
            f"ndec annotate certify --split {split} --recall {way.recall:g}",
            f"{base} --order likeliest --count N   (N: as certify says)",
        ]
    finish = [f"{base} --finish-queries"] if split == "test" else []
    return [
        *first,
        *finish,
        f"ndec annotate double-check --split {split} --plan economical",
        f"ndec annotate adjudicate --split {split} --plan economical   (until nothing is open)",
        f"ndec annotate audit --split {split} --pairs 300   (more, until the watched bound is at most 1 %)",
    ]
