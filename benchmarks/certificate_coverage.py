"""How often the statements of certify and of the watched audit are true, over SIMULATED reviews.

    python benchmarks/certificate_coverage.py [--runs 1000]

The product computes the stop and the bounds. Everything else here is brute force that shares no code with it: the
pairs, their order, the SIMULATED annotators, what is labelled at the stop, whether the statement is true, and the exact
binomial interval of the share of true statements (by bisection on sums of binomial terms).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from machine import machine, write_result

from ndec_builder.annotation.decisions.anytime_bound import watched_upper, weighted_upper
from ndec_builder.annotation.decisions.audit import audit_bound
from ndec_builder.annotation.decisions.recall_certificate import GoldErrors, RecallGoal, certify_recall

PAIRS = 3000
GOAL = RecallGoal(0.8, 0.95)
HARD, OTHER = 1, 0


def exact_interval(hits: int, runs: int) -> tuple[float, float]:
    """Clopper–Pearson at 95 %, by bisection on sums of binomial probabilities."""

    def at_most(count: int, share: float) -> float:
        return math.fsum(math.comb(runs, k) * share**k * (1 - share) ** (runs - k) for k in range(count + 1))

    def solve(decreasing: Callable[[float], float]) -> float:
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if decreasing(middle) > 0.025 else (low, middle)
        return (low + high) / 2

    if runs > 1000:
        raise ValueError("the sums are exact up to 1,000 runs")
    upper = 1.0 if hits == runs else solve(lambda share: at_most(hits, share))
    lower = 0.0 if hits == 0 else 1 - solve(lambda miss: at_most(runs - hits, miss))
    return lower, upper


@dataclass(frozen=True)
class Setting:
    """One row: how often annotators are wrong, how many pairs are hard negatives, how many are sampled."""

    error: float
    prevalence: float
    sample: int
    people: str = "one"  # one; two: a second one confirms the hard negatives of the sample
    correlation: float = 0.0  # of the two people's errors on a pair
    by_rank: str = ""  # low: only the last third of the hard negatives is missed; high: false ones are ranked first
    known: str = "error"  # what certify is given: the error, or 200 gold pairs

    @property
    def false_error(self) -> float:
        """P(labelled hard_negative | it is none): one of three wrong labels."""
        return self.error / 3


def wrong_twice(rng: np.random.Generator, chance: np.ndarray, correlation: float) -> tuple[np.ndarray, np.ndarray]:
    """Two errors (n,) with these chances: with the probability `correlation` the second copies the first one."""
    first = rng.random(len(chance)) < chance
    second = np.where(rng.random(len(chance)) < correlation, first, rng.random(len(chance)) < chance)
    return first, second


def review(rng: np.random.Generator, setting: Setting) -> tuple[bool | None, float]:
    """(Whether the certified statement is true, the share labelled at the stop); None without a certificate."""
    hard = round(PAIRS * setting.prevalence)
    truth = np.zeros(PAIRS, np.int64)
    truth[:hard] = HARD
    order = np.argsort(-(rng.normal(size=PAIRS) + 1.5 * truth))  # a ranking with AUC .86
    place = np.empty(PAIRS, np.int64)
    place[order] = np.arange(PAIRS)
    sample = rng.permutation(PAIRS)[: setting.sample]
    chance = np.where(truth[sample] == HARD, setting.error, setting.false_error)
    if "low" in setting.by_rank:  # as often in all
        last_third = place[sample] >= np.sort(place[:hard])[2 * hard // 3]
        chance = np.where(truth[sample] == HARD, np.where(last_third, 3 * setting.error, 0.0), chance)
    if "high" in setting.by_rank:
        first_third = place[sample] < np.sort(place[hard:])[(PAIRS - hard) // 3]
        chance = np.where(truth[sample] == OTHER, np.where(first_third, 3 * setting.false_error, 0.0), chance)
    first, second = wrong_twice(rng, chance, setting.correlation)
    says = np.where(first, 1 - truth[sample], truth[sample]) == HARD
    if setting.people == "two":
        says &= np.where(second, 1 - truth[sample], truth[sample]) == HARD
    error: float | GoldErrors = setting.false_error
    if setting.known == "200 gold pairs":
        error = GoldErrors(int((rng.random(200) < setting.false_error).sum()), 200)
    ranks = np.sort(place[sample[says]] + 1)
    found = certify_recall(ranks, PAIRS, setting.sample, GOAL, error, max(0.1, setting.error), setting.people == "two")
    if found.stop is None:
        return None, 1.0
    labelled = set(order[: found.stop].tolist()) | set(sample.tolist())
    reached = sum(pair in labelled for pair in range(hard))
    return reached >= 0.8 * hard, len(labelled) / PAIRS


def certificate_rows(settings: Iterable[Setting], runs: int) -> list[str]:
    lines = [
        "| error | hard negatives | sample | labels of the sample | error known from | certificates of runs | true "
        "| exact 95 % interval | refuted (upper end below 95 %) | pairs labelled, mean |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for number, setting in enumerate(settings):
        rng = np.random.default_rng([number, 22])
        results = [review(rng, setting) for _ in range(runs)]
        made = [(true, share) for true, share in results if true is not None]
        head = (
            f"| {setting.error:.0%} | {setting.prevalence:g} | {setting.sample} | {_people(setting)} | {setting.known} "
            f"| {len(made)} of {runs} "
        )
        if not made:
            lines.append(head + "| — | — | — | — |")
            continue
        hits = sum(true for true, _ in made)
        low, high = exact_interval(hits, len(made))
        share = np.mean([share for _, share in made])
        print(lines[-1], file=sys.stderr, flush=True)
        lines.append(
            head + f"| {hits / len(made):.1%} | {low:.1%}–{high:.1%} | {'yes' if high < 0.95 else 'no'} | {share:.0%} |"
        )
    return lines


def _people(setting: Setting) -> str:
    text = {"one": "one annotator", "two": "hard negatives confirmed by a second"}[setting.people]
    if setting.correlation:
        text += f", who copies the first one's error with {setting.correlation:.0%}"
    return (
        text
        + {
            "": "",
            "low": "; only the last third of the hard negatives is missed",
            "high": "; only the first third of the others is labelled wrong",
            "low and high": "; both depend on the rank",
        }[setting.by_rank]
    )


def watched_audit(
    rng: np.random.Generator, copies: int, count: int, missed: float, weights: np.ndarray | None, measure: bool
) -> tuple[bool, int | None]:
    """(Whether the bound was ever below the truth, after how many draws it first proved 1 %), watching every draw.

    What an earlier draw ruled out stays ruled out, so one look tells: before the find of the last copy, or at the end
    if one was overlooked. The second number is taken at every tenth draw; None unless `measure`.
    """
    if weights is None:
        order, stored = rng.permutation(count), None
    else:
        order = np.argsort(rng.exponential(size=count) / weights)
        left = np.cumsum(weights[order][::-1])[::-1]
        smallest = np.minimum.accumulate(weights[order][::-1])[::-1]
        stored = np.column_stack([weights[order] / left, smallest / left])
    found = (order < copies) & (rng.random(count) >= missed)

    def bound(draws: int) -> int:
        if stored is None:
            return watched_upper(found[:draws], count, missed)
        return weighted_upper(found[:draws], count, stored[:draws], missed)

    last = int(np.flatnonzero(found)[-1]) if copies and found.sum() == copies else count
    broken = bound(last) < copies if last else False
    for draws in range(count // 20, count, 10) if measure else ():
        seen = int(found[:draws].sum())
        if (bound(draws) - seen) / (count - seen) <= 0.01:
            return broken, draws
    return broken, count if measure else None


def audit_rows(runs: int) -> list[str]:
    lines = [
        "| kept pairs | copies among them | overlooked | draws | bound never below the truth | exact 95 % interval "
        "| draws to prove 1 %: median (quartiles) of 25 runs |",
        "|---|---|---|---|---|---|---|",
    ]
    cases: list[tuple[int, int, float, str]] = [
        (5000, 5, 0.1, "uniform"),
        (5000, 0, 0.1, "uniform"),
        (5000, 50, 0.1, "uniform"),
        (800, 1, 0.1, "uniform"),
        (800, 8, 0.1, "uniform"),
        (800, 24, 0.1, "uniform"),
        (800, 1, 0.1, "weighted"),
        (800, 8, 0.1, "weighted"),
        (800, 1, 0.1, "weighted wrongly"),
        (800, 8, 0.1, "weighted wrongly"),
    ]
    for number, (count, copies, missed, draws) in enumerate(cases):
        rng, weights = np.random.default_rng([number, 23]), None
        if draws != "uniform":  # a fifth of the pairs is drawn three times as often: the copies, or pairs without any
            heavy = np.arange(count) < count // 5 if draws == "weighted" else np.arange(count) >= count - count // 5
            weights = np.where(heavy, 3.0, 1.0)
        results = [watched_audit(rng, copies, count, missed, weights, run < runs // 40) for run in range(runs)]
        hits = sum(not broken for broken, _ in results)
        low, high = exact_interval(hits, runs)
        needed = [proven for _, proven in results if proven is not None]
        print(lines[-1], file=sys.stderr, flush=True)
        quarter, middle, most = np.percentile(needed, [25, 50, 75])
        lines.append(
            f"| {count:,} | {copies} | {missed:.0%} | {draws} | {hits / runs:.1%} | {low:.1%}–{high:.1%} "
            f"| {middle:.0f} ({quarter:.0f}–{most:.0f}) |"
        )
    return lines


def fixed_needed(copies: int, count: int) -> int:
    """Audited pairs with which the bound of a fixed sample is at most 1 % when `copies` of them are copies."""
    return next(draws for draws in range(copies + 1, count) if (audit_bound(copies, draws, count) or 0) <= 0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    runs, started = parser.parse_args().runs, time.process_time()
    grid = [(e, p, n) for e in (0.03, 0.08, 0.15) for p in (0.05, 0.3, 0.6) for n in (200, 600)]
    text = [
        "# Are the statements of certify and of the watched audit true? SIMULATED",
        "",
        machine(),
        "",
        f"**Everything is SIMULATED**: {runs:,} reviews per row of {PAIRS:,} pairs, ranked with an AUC of .86. "
        "Annotators are wrong with the probability named; one of three wrong labels is drawn, so a pair that is no "
        "hard negative is labelled as one with a third of it. `certify` is asked for a recall of 80 % with 95 % "
        "confidence, and is given that third as the error, or 200 gold pairs that measure it. A statement is true if "
        "at least 80 % of the hard negatives are labelled when labelling stops. Shares are of the certificates made; "
        "without enough hard negatives in the sample there is none.",
        "",
        "## One annotator",
        "",
        *certificate_rows([Setting(e, p, n) for e, p, n in grid], runs),
        "",
        "## The error measured on 200 gold pairs",
        "",
        *certificate_rows(
            [Setting(e, 0.3, n, known="200 gold pairs") for e in (0.03, 0.08, 0.15) for n in (200, 600)], runs
        ),
        "",
        "## Two annotators whose errors are correlated",
        "",
        "The derivation allows a second annotator to repeat a wrong label in one case of five.",
        "",
        *certificate_rows(
            [Setting(e, p, n, "two", 0.5) for e, p, n in grid]
            + [Setting(e, p, 600, "two", 1.0) for e in (0.03, 0.08, 0.15) for p in (0.3, 0.6)],
            runs,
        ),
        "",
        "## An assumption fails: errors depend on the rank",
        "",
        "As many errors as above, but all misses among the last third of the hard negatives in the ranking, or all "
        "wrong labels `hard_negative` among the first third of the other pairs, or both.",
        "",
        *certificate_rows(
            [Setting(e, 0.3, 600, people, c, rank) for people, c in (("one", 0.0), ("two", 1.0))
             for rank in ("low", "high", "low and high") for e in (0.08, 0.15)],
            runs,
        ),
        "",
        "## The audit, watched after every draw",
        "",
        "`weighted`: a fifth of the pairs, the copies among them, is drawn three times as often; `weighted wrongly`: a "
        "fifth without a copy. A fixed sample proves 1 % of 5,000 pairs with "
        f"{fixed_needed(0, 5000)} clean pairs, or {fixed_needed(1, 5000)} with one copy.",
        "",
        *audit_rows(runs),
        "",
        f"CPU: {time.process_time() - started:.0f} s.",
    ]  # fmt: skip
    write_result("certificate_coverage", "\n".join(text))


if __name__ == "__main__":
    main()
