"""How many human decisions ndec's labelling needs, and how correct the labels are, with SIMULATED annotators.

    python benchmarks/human_time_pairs.py DEMO OUT     makes the pairs (real pictures, known truth), once
    python benchmarks/human_time.py OUT [--seeds 5] [--quick]

Simulated annotators err on every pair with the same probability (3 % or 8 %) and then give a random wrong label.
Everything else is the product: pairs from `ndec mine`, pre-labels from `ndec prelabel`, and the functions behind push,
relearn, auto-clear, double-check, adjudicate, resolve and audit.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from human_time_crew import MIXED, MIXES, Bench, Crew, everything_twice
from human_time_tables import EVERYTHING, clean_table, cost_table, coverage_table, stage_table
from human_time_way import MORE, POLICIES, Policy, Way
from machine import machine, write_result

from ndec_builder.annotation.decisions.annotator_quality import annotator_report, known_truth
from ndec_builder.annotation.decisions.audit import kept_pairs
from ndec_builder.annotation.decisions.resolution import decision_table
from ndec_builder.candidates.prelabel import auc
from ndec_builder.core.storage import fingerprint, read_json, write_json
from ndec_builder.core.workspace import Workspace

VERSION = 3  # of the study; stored trials of another version are ignored


def errors(decided: Mapping[str, str], bench: Bench) -> dict[str, float]:
    """Shares of wrong decisions, of copy or not and of any kind; hard negatives found, also as a share of all."""
    pairs = [pair for pair in bench.ids if pair in decided]
    true, said = (np.array([table[pair] for pair in pairs]) for table in (bench.truth, decided))
    is_copy, kept = true == "edited_copy", said == "hard_negative"
    good = kept & (true == "hard_negative")
    return {
        "copy_error": float(((said == "edited_copy") != is_copy).mean()),
        "any_error": float((said != true).mean()),
        "found": int(good.sum()),
        "yield": float(good.sum() / max(Counter(bench.truth.values())["hard_negative"], 1)),
    }


def covered(measured: Mapping[str, Any], accuracy: float) -> tuple[bool, int, float]:
    """Whether the interval holds the true accuracy, from how many labels, and how far off the estimate is."""
    off = (measured["share"] or 0.0) - accuracy
    return measured["low"] <= accuracy <= measured["high"], measured["n"], off


def trial(bench: Bench, policy: Policy | None, mix: str, seed: int) -> dict[str, Any]:
    """One simulated project; policy None: everything labelled twice."""
    crew = Crew(bench, MIXES[mix], seed)
    if policy is None:
        decided = everything_twice(crew)
        final = decisions = decision_table(crew.tasks, crew.labels)
        kept = kept_pairs(bench.candidates, decisions, "test")
        more: dict[str, Any] = {}
    else:
        way = Way(crew, policy)
        decided = way.run()
        kept, final = way.kept, way.resolved(audited=True)
        cleared = list(way.cleared)
        copies = np.array([bench.truth[pair] == "edited_copy" for pair in bench.ids])
        learnt = np.array([way.prior[pair][0] for pair in bench.ids])
        more = {
            "cleared": len(cleared),
            "cleared_wrong": sum(bench.truth[pair] != "edited_copy" for pair in cleared),
            "residual_before": sum(bench.truth[pair] == "edited_copy" for pair in way.kept_before)
            / max(len(way.kept_before), 1),
            "undecided": len(bench.ids) - len(decided),
            "bound": way.found.bound,
            "audited": way.found.audited,
            "audit_copies": way.found.copies + way.found.doubtful,
            "refused": way.clearing.refused if policy.auto_clear else "",
            "slice_wrong": way.clearing.wrong if policy.auto_clear else None,
            "looks_by": way.looks,
            "auc": auc(learnt, copies),
            "first_auc": auc(bench.first, copies),
        }
    wrong = sum(bench.truth[pair] == "edited_copy" for pair in kept)
    people = annotator_report(crew.labels, known_truth(crew.labels, final, {}))
    more["covered"] = [covered(row["checked"], 1 - crew.errors[row["annotator"]]) for row in people]
    return {
        "mix": mix,
        "seed": seed,
        "policy": policy.name if policy else EVERYTHING,
        "pairs": len(bench.ids),
        "looks": crew.looks,
        "residual": wrong / max(len(kept), 1),
        "kept": len(kept),
        **errors(decided, bench),
        **more,
    }


def half_of(group: str) -> str:
    """Settings were chosen on the groups `tuned`; those `untouched` were looked at in the end only."""
    return "tuned" if hashlib.sha256(f"half/{group}".encode()).digest()[0] % 2 else "untouched"


def parts(bench: Bench) -> dict[str, Bench]:
    """All pairs, and those of the groups that no setting was chosen on."""
    untouched = np.flatnonzero([half_of(group) == "untouched" for group in bench.groups])
    return {"all pairs": bench, "untouched groups": bench.only(untouched)}


def kept_trial(
    cache: Path, part: str, bench: Bench, policy: Policy | None, mix: str, seed: int, stored_only: bool = False
) -> dict[str, Any] | None:
    """A trial of an earlier run with the same settings and features, or a new one: a killed study resumes.

    None for a trial that is not there, where no new one is to be made.
    """
    mark = fingerprint([part, repr(policy), mix, seed, VERSION, bench.ids, np.nansum(bench.features, 0).tolist()])
    path = cache / f"{mark[:20]}.json"
    if stored_only and not path.is_file():
        return None
    if not path.is_file():
        started = time.process_time()
        result = trial(bench, policy, mix, seed)
        write_json(path, result | {"cpu_seconds": time.process_time() - started})
        print(f"{part} · {mix} · {result['policy']} · seed {seed}: {result['looks']} decisions", file=sys.stderr)
    stored: dict[str, Any] = read_json(path)
    return stored


def report(bench: Bench, found: Mapping[str, list[dict[str, Any]]]) -> str:
    counts = Counter(bench.truth.values()).most_common()
    kinds = ", ".join(f"{count:,} {label}" for label, count in counts)
    lines = [
        "# Human decisions, with SIMULATED annotators",
        "",
        machine(),
        "",
        f"Real pictures: {len(bench.ids):,} mined pairs of known truth ({kinds}), their references of "
        f"{len(set(bench.groups)):,} groups. **The annotators are SIMULATED**: six people, each wrong on any pair with "
        "the probability named, any other label alike. Decisions are labels given, those of checks and audit included. "
        "Mean (lowest–highest) over the seeds. Baseline: everything labelled, double-checked by a second annotator, "
        "disputes adjudicated; no audit. Features and ways were set on half of the groups, the sizes of pilot, slice "
        "and "
        "audit and the tolerances by trials of all mixes on all pairs, some of the seeds shown here among them; the "
        "other half of the groups was looked at in the end only, and once before for older settings. `keepable`: pairs "
        "of queries that hold an edited copy already are left undecided, and are not counted as decided. Where pairs "
        "are left or labelling stops early, errors are those of the decided pairs. Kept are hard negatives of queries "
        "whose other mined pair was decided too and is no copy (two pairs a query were mined), so an early stop keeps "
        "fewer than it finds; copies among them, and the bound, are of what is left once the audit took out what it "
        "found. PROJECTION, not measured: as many looks a pair as here, but the audit, as large as here, of 150,000.",
    ]
    for part, trials in found.items():
        lines += ["", f"## {part[0].upper()}{part[1:]}: {trials[0]['pairs']:,} pairs"]
        lines += ["", *cost_table(trials), "", *clean_table(trials)]
    lines += ["", "## Where the decisions go, all pairs", "", *stage_table(found["all pairs"])]
    lines += ["", "## Accuracy of each annotator, as `agreement.json` has it", "", *coverage_table(found["all pairs"])]
    return "\n".join(lines)


def _order(one: Mapping[str, Any]) -> tuple[int, int, int]:
    names = [EVERYTHING, *(policy.name for policy in (*POLICIES, *MORE) if policy)]
    return list(MIXES).index(one["mix"]), names.index(one["policy"]), one["seed"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path, help="made by benchmarks/human_time_pairs.py")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--untouched", action="store_true", help="also the half of the groups that nothing was tuned on"
    )
    parser.add_argument("--stored", action="store_true", help="only what earlier runs have left")
    parser.add_argument("--quick", action="store_true", help="one seed, one mix; nothing is written")
    arguments = parser.parse_args()
    mixes = [MIXED] if arguments.quick else list(MIXES)
    seeds = 1 if arguments.quick else arguments.seeds
    bench = Bench.read(Workspace(arguments.workspace))
    cache = arguments.workspace / "human_time"
    cache.mkdir(exist_ok=True)
    found: dict[str, list[dict[str, Any]]] = {}
    with concurrent.futures.ProcessPoolExecutor(arguments.jobs) as pool:
        waiting = {
            part: [
                pool.submit(kept_trial, cache, part, pairs, policy, mix, seed, arguments.stored)
                for seed in range(seeds)
                for mix in (mixes if pairs is bench else [MIXED])
                for policy in (*POLICIES, *(MORE if mix == MIXED else ()))
            ]
            for part, pairs in parts(bench).items()
            if pairs is bench or arguments.untouched
        }
        for part, trials in waiting.items():
            done = [one.result() for one in trials]
            found[part] = sorted((one for one in done if one is not None), key=_order)
    text = report(bench, found)
    if arguments.quick:
        print(text)
    else:
        write_result("human_time", text)


if __name__ == "__main__":
    main()
