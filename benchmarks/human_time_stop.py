"""Decisions per kept clean hard negative when labelling stops at a certified recall; the annotators are SIMULATED.

    python benchmarks/human_time_pairs.py DEMO OUT     makes the pairs (real pictures, known truth), once
    python benchmarks/human_time_stop.py OUT [--seeds 5]

The settings of the way were chosen on the tuned half of the groups (human_time.half_of). The untouched half is
evaluated once. No step of the way uses the truth, which only counts what was kept and whether the statements hold.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from human_time import half_of
from human_time_certified import CertifiedPolicy, CertifiedWay
from human_time_crew import MIXES, Bench, Crew, everything_twice
from human_time_tables import spread, table
from machine import machine, write_result

from ndec_builder.annotation.decisions.audit import kept_pairs
from ndec_builder.annotation.decisions.resolution import decision_table
from ndec_builder.core.storage import fingerprint, read_json, write_json
from ndec_builder.core.workspace import Workspace

POLICY = CertifiedPolicy("stop at certified recall .8", auto_clear=False, pilot=500)
STAGES = ("pilot", "confirm", "first", "finish", "second", "audit")
TARGET, COPIES = 0.45, 0.005
VERSION = 1  # of the study; stored trials of another version are ignored


def trial(bench: Bench, mix: str, seed: int) -> dict[str, Any]:
    """One simulated project, labelled in both ways by the same people."""
    crew = Crew(bench, MIXES[mix], seed)
    everything_twice(crew)
    base = kept_pairs(bench.candidates, decision_table(crew.tasks, crew.labels), "test")
    baseline = {"decisions": crew.looks, **_counted(bench, base)}
    crew = Crew(bench, MIXES[mix], seed)
    way = CertifiedWay(crew, POLICY)
    way.run()
    hard = Counter(bench.truth.values())["hard_negative"]
    broken = any(bound < share for bound, share in way.watched)
    return {
        "mix": mix,
        "seed": seed,
        "baseline": baseline,
        "decisions": crew.looks,
        "looks": way.looks,
        **_counted(bench, way.kept),
        "hard": hard,
        "reached": way.reached(),
        "stop": way.certificate.stop,
        "false": way.certificate.false,
        "positives": way.certificate.positives,
        "unlabelled": len(bench.ids) - len(crew.seen),
        "bound": way.found.watched_bound,
        "audit_broken": broken,
    }


def kept_trial(
    cache: Path, side: str, bench: Bench, mix: str, seed: int, stored_only: bool = False
) -> dict[str, Any] | None:
    """A trial of an earlier run with the same settings and features, or a new one: a killed study resumes.

    None for a trial that does not exist if no new one is to be made.
    """
    about = [VERSION, side, repr(POLICY), mix, seed, bench.ids, np.nansum(bench.features, 0).tolist()]
    path = cache / f"{fingerprint(about)[:20]}.json"
    if stored_only and not path.is_file():
        return None
    if not path.is_file():
        write_json(path, trial(bench, mix, seed))
        print(f"{side} · {mix} · seed {seed}: {ratio(read_json(path)):.3f}", file=sys.stderr, flush=True)
    stored: dict[str, Any] = read_json(path)
    return stored


def _counted(bench: Bench, kept: Sequence[str]) -> dict[str, int]:
    truth = Counter(bench.truth[pair] for pair in kept)
    return {"kept": len(kept), "clean": truth["hard_negative"], "copies": truth["edited_copy"]}


def ratio(one: Mapping[str, Any]) -> float:
    """Decisions per kept clean hard negative, as a share of the baseline's."""
    base = one["baseline"]
    return float(one["decisions"] / one["clean"] / (base["decisions"] / base["clean"]))


def rows(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for mix in [mix for mix in MIXES if any(one["mix"] == mix for one in trials)]:
        some = [one for one in trials if one["mix"] == mix]
        copies = [one["copies"] / max(one["kept"], 1) for one in some]
        met = sum(ratio(one) <= TARGET for one in some)
        clean = sum(share <= COPIES for share in copies)
        base = [one["baseline"] for one in some]
        lines.append(
            [mix, spread((one["decisions"] for one in base), ",.0f"), spread((one["clean"] for one in base), ",.0f"),
             spread((one["copies"] / one["kept"] for one in base), ".2%"),
             spread((one["decisions"] for one in some), ",.0f"), spread((one["clean"] for one in some), ",.0f"),
             spread((one["decisions"] / one["clean"] for one in some), ".2f"), spread(ratio(one) for one in some),
             f"{met} of {len(some)}", spread(copies, ".2%"), f"{clean} of {len(some)}"]
        )  # fmt: skip
    head = ["annotators (SIMULATED)", "everything twice: decisions", "kept clean hard negatives", "copies among kept",
            "certified stop: decisions", "kept clean hard negatives", "decisions each", "of everything twice",
            "at most 45 %", "copies left among kept", "at most .5 %"]  # fmt: skip
    return table(head, lines)


def statement_rows(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for mix in [mix for mix in MIXES if any(one["mix"] == mix for one in trials)]:
        some = [one for one in trials if one["mix"] == mix]
        held = sum(one["reached"] >= POLICY.recall for one in some)
        lines.append(
            [mix, f"{held} of {len(some)}", spread(one["reached"] for one in some),
             spread((one["unlabelled"] for one in some), ",.0f"), spread((one["positives"] for one in some), ".0f"),
             spread((one["false"] for one in some), ".0f"), spread((one["bound"] for one in some), ".2%"),
             f"{sum(not one['audit_broken'] for one in some)} of {len(some)}",
             *(spread((one["looks"].get(stage, 0) for one in some), ",.0f") for stage in STAGES)]
        )  # fmt: skip
    head = ["annotators (SIMULATED)", "certificate true", "hard negatives labelled", "pairs nobody looked at",
            "hard negatives of the sample", "of these up to … wrong", "watched bound at the end",
            "never below the truth", *(f"decisions: {stage}" for stage in STAGES)]  # fmt: skip
    return table(head, lines)


def halves(bench: Bench) -> dict[str, Bench]:
    sides = np.array([half_of(group) for group in bench.groups])
    return {side: bench.only(np.flatnonzero(sides == side)) for side in ("untouched", "tuned")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path, help="made by benchmarks/human_time_pairs.py")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--stored", action="store_true", help="only what earlier runs have left")
    arguments = parser.parse_args()
    bench, about = Bench.read(Workspace(arguments.workspace)), machine()
    text = [
        "# Stopping at a certified recall, with SIMULATED annotators",
        "",
        about,
        "",
        f"Real pictures, {len(bench.ids):,} mined pairs of known truth. **The annotators are SIMULATED**: six people, "
        "each wrong on any pair with the probability named, any other label alike. Decisions are labels given, those "
        "of the sample, of second labels and of the audit included. Mean (lowest–highest) over "
        f"{arguments.seeds} seeds. Both ways keep the hard negatives of queries whose pairs are all decided and none "
        "is a copy; clean ones are true hard negatives.",
        "",
        f"The way: a random sample of {POLICY.pilot}, its hard negatives labelled by a second person, `relearn`, "
        "`certify` (error 3 % assumed), the pairs it names, the open pairs of queries with a hard negative, second "
        "labels in doubt (`--plan economical`), an audit that stops as soon as the watched bound is at most 1 % (or "
        f"after {POLICY.audit_pairs} pairs). Baseline: everything labelled, double-checked, disputes adjudicated; no "
        "audit. Sample size and tolerances were chosen on the tuned half with three seeds; the untouched half was "
        "evaluated once.",
    ]
    cache = arguments.workspace / "human_time_stop"
    cache.mkdir(exist_ok=True)
    with concurrent.futures.ProcessPoolExecutor(arguments.jobs) as pool:
        for side, half in halves(bench).items():
            jobs = [(mix, seed) for mix in MIXES for seed in range(arguments.seeds)]
            only = arguments.stored
            waiting = [pool.submit(kept_trial, cache, side, half, mix, seed, only) for mix, seed in jobs]
            trials = [found for one in waiting if (found := one.result()) is not None]
            missing = len(jobs) - len(trials)
            counts = Counter(half.truth.values())
            kinds = ", ".join(f"{count:,} {label}" for label, count in counts.most_common())
            text += ["", f"## {side[0].upper()}{side[1:]} groups: {len(half.ids):,} pairs ({kinds})"]
            text += [f"\n**Incomplete: {missing} of {len(jobs)} trials were not run yet.**"] if missing else []
            text += ["", *rows(trials)]
            text += ["", *statement_rows(trials)]
    write_result("human_time_stop", "\n".join(text))


if __name__ == "__main__":
    main()
