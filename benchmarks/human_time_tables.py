"""Tables of benchmarks/human_time.py, made from its trials."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ndec_builder.annotation.decisions.binomial import wilson

EVERYTHING = "everything twice"
LARGE = 150_000  # pairs of the projection: the audit is as large as here
Trial = Mapping[str, Any]
WHO = "annotators (simulated)"


def by_policy(trials: Sequence[Trial]) -> dict[tuple[str, str], list[Trial]]:
    """(mix, policy) → its trials, one a seed."""
    groups: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    for one in trials:
        groups[one["mix"], one["policy"]].append(one)
    return groups


def spread(values: Iterable[float], form: str = ".1%") -> str:
    """Mean (lowest–highest)."""
    some = list(values)
    return f"{np.mean(some):{form}} ({min(some):{form}}–{max(some):{form}})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def at_large(one: Trial) -> float:
    """A PROJECTION: decisions a trial would take, scaled to its pairs, if its audit were one of LARGE pairs."""
    return float(one["looks"] - one.get("looks_by", {}).get("audit", 0) * (1 - one["pairs"] / LARGE))


def cost_table(trials: Sequence[Trial]) -> list[str]:
    groups, rows = by_policy(trials), []
    for (mix, name), some in groups.items():
        base = {one["seed"]: one for one in groups[mix, EVERYTHING]}
        share = [one["looks"] / base[one["seed"]]["looks"] for one in some]
        each = [one["looks"] / one["found"] for one in some]
        than = [
            value / (base[o["seed"]]["looks"] / base[o["seed"]]["found"]) for value, o in zip(each, some, strict=True)
        ]
        rows.append(
            [mix, name, str(len(some)), spread((one["looks"] for one in some), ",.0f"), spread(share),
             spread((at_large(one) / base[one["seed"]]["looks"]) for one in some),
             spread(each, ".2f"), spread(than), spread((one["copy_error"] for one in some), ".2%"),
             spread((one["any_error"] for one in some), ".2%"),
             spread(one["yield"] for one in some), spread((one.get("undecided", 0) for one in some), ",.0f")]
        )  # fmt: skip
    head = [WHO, "way", "seeds", "decisions", "of the baseline's", "PROJECTION: of 150,000 pairs",
            "per clean hard negative found", "of the baseline's", "wrong: copy or not", "wrong: any label",
            "hard negatives found", "pairs left undecided"]  # fmt: skip
    return table(head, rows)


def clean_table(trials: Sequence[Trial]) -> list[str]:
    rows = []
    for (mix, name), some in by_policy(trials).items():
        audits = [one for one in some if one.get("bound") is not None]
        proven = f"{sum(one['bound'] <= 0.01 for one in audits)} of {len(audits)}" if audits else "—"
        holds = f"{sum(one['residual'] <= one['bound'] for one in audits)} of {len(audits)}" if audits else "—"
        cleared = [one for one in some if one.get("cleared") is not None]
        wrong = [one["cleared_wrong"] / one["cleared"] for one in cleared if one["cleared"]]
        rows.append(
            [mix, name, spread((one["kept"] for one in some), ",.0f"),
             spread((one.get("residual_before", one["residual"]) for one in some), ".2%"),
             spread((one["residual"] for one in some), ".2%"),
             spread((one["bound"] for one in audits), ".2%") if audits else "not audited", proven, holds,
             spread(one["cleared"] / one["pairs"] for one in cleared) if cleared else "—",
             spread(wrong, ".2%") if wrong else "—"]
        )  # fmt: skip
    head = [WHO, "way", "kept pairs", "edited copies among them, truth, before the audit", "and after it",
            "bound of the audit (one-sided 95 %)", "bound ≤ 1 %", "truth within bound", "auto-cleared",
            "of these no copies, truth"]  # fmt: skip
    return table(head, rows)


def stage_table(trials: Sequence[Trial]) -> list[str]:
    names = ["pilot", "check", "first", "second", "audit"]
    rows = []
    for (mix, name), some in by_policy(trials).items():
        if "looks_by" in some[0]:
            looks = [spread((one["looks_by"].get(stage, 0) / one["pairs"] for one in some), ".3f") for stage in names]
            rows.append([mix, name, *looks, spread((o["auc"] for o in some), ".3f"), f"{some[0]['first_auc']:.3f}"])
    head = [WHO, "way", *(f"{name}, looks a pair" for name in names), "AUC of relearnt pre-labels", "of the first ones"]
    return table(head, rows)


def coverage_table(trials: Sequence[Trial]) -> list[str]:
    rows = []
    for (mix, name), some in by_policy(trials).items():
        people = [person for one in some for person in one["covered"] if person[1]]
        if people:
            hit = sum(bool(inside) for inside, _, _ in people)
            low, high = wilson(hit, len(people))
            measured = f"{np.mean([number for _, number, _ in people]):.0f}"
            off = spread((off for _, _, off in people), "+.3f")
            rows.append([mix, name, f"{hit} of {len(people)} ({low:.0%}–{high:.0%})", measured, off])
    head = [WHO, "way", "95 % intervals that cover the true accuracy", "labels measured, each", "estimate − truth"]
    return table(head, rows)
