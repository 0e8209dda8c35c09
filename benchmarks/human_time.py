"""How many human decisions ndec's way of labelling takes, and how clean its labels are, with SIMULATED annotators.

    python benchmarks/human_time_pairs.py DEMO OUT     makes the pairs (real pictures, known truth), once
    python benchmarks/human_time.py OUT [--seeds 5] [--quick]

The annotators are simulated: each errs on any pair with the same probability (3 % or 8 %) and then gives one of the
other labels, all alike, whatever the pair. Everything else is the product: pairs mined by `ndec mine`, pre-labels by
`ndec prelabel`, and the functions behind push, relearn, auto-clear, double-check, adjudicate, resolve and audit.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from human_time_tables import EVERYTHING, clean_table, cost_table, coverage_table, stage_table
from machine import machine, write_result

from ndec_builder.annotation.audit import disputed, kept_pairs, look, unconfirmed, votes_of
from ndec_builder.annotation.clearing import check, clearable, given_to_two, slice_pairs, verdicts_of_two
from ndec_builder.annotation.policy import copy_probabilities, doubtful, draw, posterior_of
from ndec_builder.annotation.prior import Three
from ndec_builder.annotation.quality import annotators, known_truth
from ndec_builder.annotation.relearn import answers_of, reference_groups, relearn, shown_pairs
from ndec_builder.annotation.resolve import resolve
from ndec_builder.annotation.tasks import Pair, assign, disputed_pairs, double_check_pairs, give
from ndec_builder.candidates.geometry_table import read_geometry
from ndec_builder.candidates.prelabel import auc, pair_features
from ndec_builder.core.schemas import LABEL_ROWS, LABELS, TASKS, table_of
from ndec_builder.core.storage import fingerprint, read_json, write_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.truth import known_label

MIXED = "3 % and 8 %"
MIXES = {"3 %": (0.03,) * 6, "8 %": (0.08,) * 6, MIXED: (0.03, 0.08) * 3}
NAMES = ("ann", "ben", "cleo", "dora", "eli", "fay")
VERSION = 1  # of the study: another one, and no stored trial counts
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, eq=False)
class Bench:
    """The pairs: (pair, query, reference) in rank order, their truth, features, groups and first P(edited copy)."""

    pairs: list[Pair]
    truth: dict[str, str]
    features: np.ndarray
    groups: list[str]
    first: np.ndarray
    candidates: pa.Table

    @property
    def ids(self) -> list[str]:
        return [pair for pair, _, _ in self.pairs]

    @classmethod
    def read(cls, workspace: Workspace) -> Bench:
        table = shown_pairs(workspace, "test")
        ends = [table[name].to_pylist() for name in ("pair_id", "query_id", "reference_id")]
        label, first = known_label(workspace), copy_probabilities([table])
        return cls(
            list(zip(*ends, strict=True)),
            {pair: label(query, reference) for pair, query, reference in zip(*ends, strict=True)},
            pair_features(table, read_geometry(workspace, "test")),
            reference_groups(workspace, "test", ends[2]),
            np.array([first[pair] for pair in ends[0]]),
            table,
        )

    def only(self, rows: np.ndarray) -> Bench:
        pairs = [self.pairs[row] for row in rows]
        truth = {pair: self.truth[pair] for pair, _, _ in pairs}
        groups = [self.groups[row] for row in rows]
        return Bench(pairs, truth, self.features[rows], groups, self.first[rows], self.candidates.take(pa.array(rows)))


class Crew:
    """SIMULATED annotators and the tables that they fill."""

    def __init__(self, bench: Bench, errors: Sequence[float], seed: int) -> None:
        self.bench, self.errors = bench, dict(zip(NAMES, errors, strict=True))
        self.rng = np.random.default_rng(seed)
        self.tasks, self.labels = table_of(TASKS, []), table_of(LABEL_ROWS, [])
        self.seen: dict[str, dict[str, str]] = defaultdict(dict)  # pair → who → in which round

    def look(self, round_: str, pairs: Iterable[str], people: int = 1) -> None:
        """Give pairs to people in a round, as push does, and let them answer."""
        chosen = set(pairs)
        if people > 1:
            self.give(round_, dict.fromkeys(chosen, people))
            return
        rows = [pair for pair in self.bench.pairs if pair[0] in chosen]
        self._answer(assign(rows, round_, NAMES, tasks=self.tasks, seen_by=self._seen(round_), load=self._load()))

    def give(self, round_: str, people: Mapping[str, int]) -> None:
        by_id = {pair[0]: pair for pair in self.bench.pairs}
        ordered = dict(sorted(people.items()))
        self._answer(
            give(by_id, ordered, round_, NAMES, tasks=self.tasks, seen_by=self._seen(round_), load=self._load())
        )

    def free(self, pair: str) -> int:
        """How many people have not seen a pair."""
        return len(NAMES) - len(self.seen[pair])

    def _seen(self, round_: str) -> dict[str, set[str]]:
        return {pair: {name for name, found in who.items() if found != round_} for pair, who in self.seen.items()}

    def _load(self) -> dict[str, int]:
        """All had as many in the end: whoever labelled most gets the next pair last."""
        return dict(Counter(self.tasks["annotator"].to_pylist()))

    def _answer(self, tasks: pa.Table) -> None:
        rows = []
        for row in tasks.to_pylist():
            label, wrong = self.bench.truth[row["pair_id"]], bool(self.rng.random() < self.errors[row["annotator"]])
            if wrong:
                label = str(self.rng.choice([other for other in LABELS if other != label]))
            self.seen[row["pair_id"]][row["annotator"]] = row["round"]
            rows.append(
                {"pair_id": row["pair_id"], "round": row["round"], "annotator": row["annotator"], "label": label,
                 "seconds": 4.0, "annotated_at": START + timedelta(seconds=5 * (self.labels.num_rows + len(rows))),
                 "is_gold": row["is_gold"], "batch": row["batch"]}
            )  # fmt: skip
        self.tasks = pa.concat_tables([self.tasks, tasks])
        self.labels = pa.concat_tables([self.labels, table_of(LABEL_ROWS, rows)])

    @property
    def looks(self) -> int:
        return int(self.labels.num_rows)

    def disputed(self) -> set[str]:
        return disputed_pairs(resolve(self.tasks, self.labels))

    def decisions(self) -> dict[str, str]:
        return decisions_of(resolve(self.tasks, self.labels))


def everything_twice(crew: Crew) -> dict[str, str]:
    """The baseline: one look at every pair, a second by somebody else, a third where they disagree."""
    crew.look("first", crew.bench.ids)
    crew.look("double_check", double_check_pairs(crew.labels, "all"))
    crew.look("adjudication", crew.disputed())
    return crew.decisions()


def decisions_of(table: pa.Table) -> dict[str, str]:
    """Pair → decision; what stays undecided is unsure."""
    pairs = zip(table["pair_id"].to_pylist(), table["decision"].to_pylist(), strict=True)
    return {pair: decision or "unsure" for pair, decision in pairs}


@dataclass(frozen=True)
class Policy:
    """The settings of ndec's way; all but the first three are those of the command line."""

    name: str
    auto_clear: bool
    wanted: float = 1.0  # share of the hard negatives at which labelling stops; the likeliest come first
    pilot: int = 600  # pairs drawn at random that are labelled first
    early: float = 0.5  # share of the pairs, the least likely copies, that are labelled before anything is cleared
    check_pairs: int = 120
    check_above: float = 0.9
    allowed: float = 0.05
    tolerance: float = 0.01
    discard_tolerance: float = 0.05
    audit_pairs: int = 300


class Way:
    """ndec's way: a pilot, relearnt pre-labels, a proven slice, auto-clearing, the rest, second looks, audit."""

    def __init__(self, crew: Crew, policy: Policy) -> None:
        self.crew, self.policy, self.bench = crew, policy, crew.bench
        self.prior: dict[str, Three] = {}
        self.cleared: set[str] = set()
        self.looks: dict[str, int] = {}

    def run(self) -> dict[str, str]:
        bench, policy = self.bench, self.policy
        self._count("pilot", lambda: self.crew.look("first", draw(bench.ids, policy.pilot, "pilot")))
        self.relearn()
        self._count("second", self.look_again)
        if policy.auto_clear:
            self.relearn()
            self._count(
                "first", lambda: self.crew.look("first", self.copies_last()[: round(policy.early * len(bench.ids))])
            )
            self.relearn()
            self._count("second", self.look_again)
            self._count("check", self.check)
        self._count("first", self.label_the_rest)
        self.relearn()
        self._count("second", self.look_again)
        self._count("audit", self.audit)
        return self.decisions()

    def relearn(self) -> None:
        ids = self.bench.ids
        found = relearn(self.bench.features, self.bench.groups, answers_of(self.crew.labels, ids), self.bench.first)
        self.prior = {pair: (row[0], row[1], row[2]) for pair, row in zip(ids, found.tolist(), strict=True)}

    def copies_last(self) -> list[str]:
        """What nobody has seen, the least likely copies first."""
        left = [pair for pair in self.bench.ids if pair not in self.crew.seen]
        return sorted(left, key=lambda pair: (self.prior[pair][0], pair))

    def label_the_rest(self) -> None:
        left = [pair for pair in self.bench.ids if pair not in self.cleared and pair not in self.crew.seen]
        wanted = self.policy.wanted * sum(label == "hard_negative" for label in self.bench.truth.values())
        left.sort(key=lambda pair: (-self.prior[pair][1], pair))
        if self.policy.wanted >= 1:
            self.crew.look("first", left)
        while self.policy.wanted < 1 and left and self.kept_so_far() < wanted:
            self.crew.look("first", left[:250])
            left = left[250:]

    def kept_so_far(self) -> int:
        return Counter(self.crew.decisions().values())["hard_negative"]

    def look_again(self) -> None:
        """`double-check --which uncertain`, then `adjudicate`."""
        posterior = posterior_of(self.crew.labels, self.prior)
        self.crew.look("double_check", doubtful(*posterior, self.policy.tolerance, self.policy.discard_tolerance))
        self.crew.look("adjudication", self.crew.disputed())

    def check(self) -> None:
        """`push --check-pairs`, the disputed ones of them, then `auto-clear`."""
        copies = {pair: three[0] for pair, three in self.prior.items()}
        self.crew.look("first", slice_pairs(copies, self.policy.check_above, self.policy.check_pairs), people=2)
        self.crew.look("adjudication", self.crew.disputed())
        decisions = resolve(self.crew.tasks, self.crew.labels, audited=False)
        given = given_to_two(self.crew.tasks)
        self.clearing = check(copies, self.policy.check_above, given, verdicts_of_two(decisions), self.policy.allowed)
        labelled = set(self.crew.labels["pair_id"].to_pylist())
        self.cleared = set(clearable(copies, self.clearing, labelled))

    def audit(self) -> None:
        """`ndec annotate audit`, until no pair of it is disputed and no copy unconfirmed, or nobody is left."""
        crew = self.crew
        decisions = resolve(crew.tasks, crew.labels, self.cleared, audited=False)
        self.before = decisions_of(decisions)
        self.kept = kept_pairs(self.bench.candidates, decisions, "test")
        drawn = draw(self.kept, self.policy.audit_pairs)
        crew.look("audit", drawn, people=2)
        while True:
            votes = votes_of(crew.labels)
            again = {*disputed(votes), *unconfirmed(votes)}
            more = {pair: len(votes[pair]) + 1 for pair in sorted(again) if crew.free(pair)}
            if not more:
                break
            crew.give("audit", more)
        self.found = look(len(self.kept), drawn, votes_of(crew.labels))

    def decisions(self) -> dict[str, str]:
        return decisions_of(resolve(self.crew.tasks, self.crew.labels, self.cleared))

    def _count(self, name: str, work: Callable[[], None]) -> None:
        before = self.crew.looks
        work()
        self.looks[name] = self.looks.get(name, 0) + self.crew.looks - before


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
        decisions = resolve(crew.tasks, crew.labels)
        kept = kept_pairs(bench.candidates, decisions, "test")
        more: dict[str, Any] = {}
    else:
        way = Way(crew, policy)
        decided = way.run()
        kept = way.kept
        cleared = list(way.cleared)
        copies = np.array([bench.truth[pair] == "edited_copy" for pair in bench.ids])
        learnt = np.array([way.prior[pair][0] for pair in bench.ids])
        more = {
            "cleared": len(cleared),
            "cleared_wrong": sum(bench.truth[pair] != "edited_copy" for pair in cleared),
            "bound": way.found.bound,
            "audited": way.found.audited,
            "audit_copies": way.found.copies + way.found.doubtful,
            "refused": way.clearing.refused if policy.auto_clear else "",
            "looks_by": way.looks,
            "auc": auc(learnt, copies),
            "first_auc": auc(bench.first, copies),
        }
    wrong = sum(bench.truth[pair] == "edited_copy" for pair in kept)
    people = annotators(crew.labels, known_truth(crew.labels, resolve(crew.tasks, crew.labels), {}))
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


POLICIES = (
    None,
    Policy("ndec, auto-clear on", auto_clear=True),
    Policy("ndec, auto-clear off", auto_clear=False),
)
MORE = (  # with one mix of people only
    Policy("ndec, tighter tolerances", auto_clear=False, tolerance=0.005, discard_tolerance=0.02),
    Policy("ndec, likeliest first, stopped at 80 % of the hard negatives", auto_clear=False, wanted=0.8),
    Policy(
        "ndec, tighter tolerances, stopped at 80 % of the hard negatives",
        auto_clear=False,
        wanted=0.8,
        tolerance=0.005,
        discard_tolerance=0.02,
    ),
)


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
    """A trial of an earlier run with the same settings and features, or a new one: a killed study goes on.

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
        "Mean (lowest–highest) over the seeds. Baseline: everything labelled, double-checked by another, disputes "
        "adjudicated; no audit. Settings were chosen on half of the groups, which all pairs contain; the other half "
        "was looked at in the end only. Where labelling stops early, errors are those of the decided pairs. Kept are "
        "hard negatives of queries whose other mined pair was decided too and is no copy (two pairs a query were "
        "mined), so an early stop keeps fewer than it finds.",
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
