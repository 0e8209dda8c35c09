"""The forecast of `ndec annotate plan` against what the same project took in the end; the annotators are SIMULATED.

    python benchmarks/human_time_stop.py OUT      runs the projects to their end, once
    python benchmarks/plan_forecast.py OUT

Each project is simulated again up to its certificate, with the same seed. The forecast is made from the labels given so
far, as `plan` makes it, and compared with the decisions and hard negatives that the finished project counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
from human_time_certified import CertifiedWay
from human_time_crew import MIXES, Bench, Crew
from human_time_stop import POLICY, halves, kept_trial
from human_time_tables import table
from machine import machine, write_result

from ndec_builder.annotation.decisions.label_statistics import doubtful_pairs, posterior_of
from ndec_builder.annotation.label_tables import keys, newest_labels
from ndec_builder.annotation.stopping.forecast import Forecast, QueuePool, SecondLabels, forecast_ways
from ndec_builder.core.workspace import Workspace

DRAWS, SEEDS = 20, 5  # draws: the default of `plan`


class _CertificateReached(Exception):
    pass


class Pilot(CertifiedWay):
    """The way until `certify` has named a stop: when a team would plan."""

    def _count(self, stage: str, look: Callable[[], None]) -> None:
        if stage == "first":
            raise _CertificateReached
        super()._count(stage, look)


def forecast(bench: Bench, mix: str, seed: int) -> Forecast:
    crew = Crew(bench, MIXES[mix], seed)
    way = Pilot(crew, POLICY)
    try:
        way.run()
    except _CertificateReached:
        stop = way.certificate.stop
    assert stop is not None
    ranking = sorted(bench.pairs, key=lambda pair: -way.prior[pair[0]][1])
    first = crew.labels.filter(pc.equal(crew.labels["round"], "first"))
    given = dict(keys(newest_labels(first), "pair_id", "label"))
    at_first, now = (
        doubtful_pairs(*posterior_of(labels, way.prior), POLICY.tolerance, POLICY.discard_tolerance)
        for labels in (first, crew.labels)
    )
    ways = forecast_ways(
        QueuePool.of(ranking, way.prior, given), {POLICY.recall: stop}, SecondLabels.of(given, at_first, now), True,
        DRAWS, 0,
    )  # fmt: skip
    return next(one for one in ways if one.recall == POLICY.recall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path, help="made by benchmarks/human_time_pairs.py")
    workspace = parser.parse_args().workspace
    bench = halves(Bench.read(Workspace(workspace)))["untouched"]
    rows, ratios, inside = [], [], 0
    for mix in MIXES:
        for seed in range(SEEDS):
            done = kept_trial(workspace / "human_time_stop", "untouched", bench, mix, seed, stored_only=True)
            if done is None:
                continue
            told = forecast(bench, mix, seed)
            took = done["decisions"] - done["looks"]["pilot"] - done["looks"]["confirm"]
            ratios.append(told.labels / took)
            inside += told.low <= done["kept"] <= told.high
            rows.append([mix, str(seed), f"{told.labels:,.0f}", f"{took:,}", f"{told.labels / took:.2f}",
                         f"{told.kept:,.0f} ({told.low:,.0f}–{told.high:,.0f})", f"{done['kept']:,}"])  # fmt: skip
    head = ["annotators (SIMULATED)", "seed", "labels still to give: forecast", "taken", "ratio",
            "hard negatives kept: forecast (10–90 %)", "kept"]  # fmt: skip
    text = [
        "# Forecast of a plan against the finished project, with SIMULATED annotators", "", machine(), "",
        f"{len(bench.ids):,} mined pairs of the untouched groups. The forecast is that of `ndec annotate plan` for the "
        f"certified stop at {POLICY.recall:.0%}, made when the certificate was known; the projects are those of "
        "human_time_stop.md.", "",
        *table(head, rows), "",
        f"Ratios {min(ratios):.2f} to {max(ratios):.2f}; the kept number was within the 10–90 % range in {inside} of "
        f"{len(rows)} projects. It is too low because classes are drawn pair by pair: in truth the pairs of one query "
        "are alike, so fewer hard negatives share a query with a copy than drawn ones do.",
    ]  # fmt: skip
    write_result("plan_forecast", "\n".join(text))


if __name__ == "__main__":
    main()
