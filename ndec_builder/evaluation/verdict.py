"""The result of a benchmark in two lines: the row of numbers, and one sentence that says what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ndec_builder.core.console import number_of

FEW_PAIRS, FEW_GROUPS = 50, 20  # with fewer ground-truth pairs or groups of queries that have one nothing is certain
_SMALL = 0.005  # differences that two decimals show as 0.00


def headline(metrics: Mapping[str, Any]) -> str:
    """`μAP 0.54 [0.49, 0.60] → 0.83 [0.80, 0.86] without hard negatives · P@400 0.52`, and what a filter keeps."""
    parts = [f"μAP {with_interval(metrics['uap'])}"]
    if metrics["uap_without_hard_negatives"]["value"] is not None:
        parts[0] += f" → {with_interval(metrics['uap_without_hard_negatives'])} without hard negatives"
    if metrics["protocol"].get("one_per_query"):
        parts[0] += " (one reference per query)"
    has_filter = metrics["protocol"]["filter"] is not None
    precision = metrics["precision_after_filter" if has_filter else "precision_at_n"]["value"]
    parts.append(f"P@{metrics['n']:,} {_two(precision)}" + (" after the filter" if has_filter else ""))
    if has_filter:
        kept = [metrics[key]["value"] for key in ("tp_kept", "fp_kept")]
        parts.append(f"the filter keeps {_percent(kept[0])} of the true and {_percent(kept[1])} of the false positives")
    return " · ".join(parts)


def verdict(metrics: Mapping[str, Any]) -> str:
    """One sentence: what the filter or the scorer changed, or what the hard negatives cost."""
    if metrics["uap_minus_baseline"]["value"] is not None:
        sentence = _against_baseline(metrics)
        sentence += f"; {metrics['baseline_differs']}" if metrics.get("baseline_differs") else ""
    elif metrics["uap"]["value"] == 0 and not metrics["uap_before_filter"]["value"]:
        pairs = number_of(metrics["data"]["ground_truth_pairs"], "ground-truth pair")
        sentence = f"This detector finds no copy: its list has none of the {pairs}"
    elif metrics["protocol"]["filter"] is not None:
        change = _shown_difference(metrics["uap"], metrics["uap_before_filter"])
        sentence = f"The ASL filter {_effect(change)} ({_signed(change)} μAP)"
    elif metrics["uap_without_hard_negatives"]["value"] is not None:
        cost = _shown_difference(metrics["uap_without_hard_negatives"], metrics["uap"])
        sentence = (
            f"Hard negatives cost this detector {_two(cost)} of μAP" if cost >= _SMALL
            else "Hard negatives do not lower μAP of this detector"
        )  # fmt: skip
    else:
        found = metrics["recall_at_n"]["value"]
        sentence = (
            f"{_percent(found)} of the true copies are among the first N = {number_of(metrics['n'], 'prediction')}"
        )
    return f"{sentence}{_caution(metrics)}."


def without_prediction(metrics: Mapping[str, Any]) -> str:
    """How many queries have no prediction, by kind, and the references that a complete list lacks; or empty."""
    return " ".join(filter(None, (_queries_without(metrics), _references_without(metrics))))


def _references_without(metrics: Mapping[str, Any]) -> str:
    if not (missing := metrics["data"].get("references_not_listed")):
        return ""
    return (
        f"{missing:,} of {number_of(metrics['data']['references'], 'reference')} {'is' if missing == 1 else 'are'} "
        "in no row, and the list has nearly all pairs of the others. They were probably not searched: false matches "
        "with them are missing, so μAP may be too high. Check that the list was made for this version of the dataset."
    )


def _queries_without(metrics: Mapping[str, Any]) -> str:
    data = metrics["data"]
    if not (missing := data.get("queries_without_prediction")):
        return ""
    ending = "_queries_without_prediction"
    kinds = {name.removesuffix(ending): count for name, count in data.items() if name.endswith(ending) and count}
    parts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
    if metrics["detector"].startswith("predictions "):
        why = "Check that the list was made for this version of the dataset."
    else:
        why = "Their image could not be used, or all their pairs are below the end of the list."
    return (
        f"{missing:,} of {number_of(data['queries'], 'query', 'queries')} {'has' if missing == 1 else 'have'} no "
        f"prediction ({parts}). Copies without one count as not found; other queries without one cannot lower μAP. "
        f"{why}"
    )


def with_interval(number: Mapping[str, float | None]) -> str:
    """`0.54 [0.49, 0.60]`; without an interval the value alone."""
    if number["value"] is None or number["low"] is None:
        return _two(number["value"])
    return f"{_two(number['value'])} [{_two(number['low'])}, {_two(number['high'])}]"


def _against_baseline(metrics: Mapping[str, Any]) -> str:
    change = metrics["uap_minus_baseline"]
    value, low, high = change["value"], change["low"], change["high"]
    what = "With the ASL filter, μAP" if metrics["protocol"]["filter"] is not None else "μAP"
    interval = "" if low is None else f" [{_signed(low)}, {_signed(high)}]"
    if low is None or low <= 0 <= high:
        return f"{what} is not clearly different from that of {metrics['baseline']}: {_signed(value)}{interval}"
    return (
        f"{what} is {'better' if value > 0 else 'worse'} than that of {metrics['baseline']}: {_signed(value)}{interval}"
    )


def _caution(metrics: Mapping[str, Any]) -> str:
    pairs, groups = metrics["data"]["ground_truth_pairs"], metrics["data"]["groups_with_copies"]
    if pairs >= FEW_PAIRS and groups >= FEW_GROUPS:
        return ""
    if pairs < FEW_PAIRS:
        few = number_of(pairs, "true pair is", "true pairs are")
    else:
        few = number_of(groups, "group of queries with copies is", "groups of queries with copies are")
    return f"; {few} too few to be sure: read the intervals"


def _shown_difference(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """first − second of the values as they are shown, so that the verdict agrees with the line above it."""
    return round(first["value"], 2) - round(second["value"], 2)


def _effect(change: float) -> str:
    return "made this better" if change >= _SMALL else "made this worse" if change <= -_SMALL else "changed nothing"


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-0.00", "0.00")


def _signed(value: float) -> str:
    return "0.00" if abs(value) < _SMALL else f"{value:+.2f}".replace("-", "−")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"
