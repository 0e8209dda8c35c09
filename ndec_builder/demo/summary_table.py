"""The demo's summary table: pairs mined and kept, what hard negatives cost, what the filter recovers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndec_builder.core.console import number_of
from ndec_builder.core.schemas import SPLITS
from ndec_builder.core.storage import read_json, read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.manifests.read import open_manifest

FEW = 20  # with fewer groups of natural hard negatives no figure is claimed


@dataclass(frozen=True)
class DemoTable:
    """The summary table as numbers; `as_text` formats it for people."""

    mined: dict[str, dict[str, Any]]  # split → pairs, duplicates, share of edited copies and of hard negatives
    queries: dict[str, int]  # kind or hard kind → queries of the test set
    train_pairs: int
    natural_groups: int
    labelled_by: list[str]
    detectors: dict[str, dict[str, Any]]  # title → metrics.json
    reports: dict[str, str]
    seconds: float
    places: dict[str, str]  # what to open → path

    @classmethod
    def collect(cls, workspace: Workspace, manifest: Path, reports: dict[str, Path], seconds: float) -> DemoTable:
        """Read everything from the files that the stages wrote."""
        data = open_manifest(manifest)
        queries = data.table("queries").to_pylist()
        hard = [row for row in queries if row["kind"] == "hard_negative"]
        natural = {row["group"] for row in hard if row["hard_kind"] == "natural"}
        annotators: set[str] = set()
        for split in SPLITS:
            annotators |= set(read_table(workspace.annotation(split) / "labels.parquet")["annotator"].to_pylist())
        return cls(
            mined={split: _mined(workspace, split) for split in SPLITS},
            queries=dict(Counter(row["hard_kind"] or row["kind"] for row in queries)),
            train_pairs=data.table("train_pairs").num_rows,
            natural_groups=len(natural),
            labelled_by=sorted(annotators),
            detectors={title: read_json(path / "metrics.json") for title, path in reports.items()},
            reports={title: str(path / "report.html") for title, path in reports.items()},
            seconds=round(seconds, 1),
            places={
                **{f"report: {title}": str(path / "report.html") for title, path in reports.items()},
                **{
                    f"mined pairs, {split}": str(workspace.candidates(split) / "contact_sheet.html") for split in SPLITS
                },
                "dataset card": str(manifest / "README.md"),
            },
        )

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "claims": self.claims()}

    def claims(self) -> dict[str, bool]:
        """Whether the paper's claims about hard negatives and its filter hold in this demo's numbers."""
        baseline, filtered = list(self.detectors.values())[:2]
        return {
            "hard negatives lower the baseline's μAP": _less(baseline["uap"], baseline["uap_without_hard_negatives"]),
            "the ASL filter keeps a larger share of true than of false positives": _less(
                filtered["fp_kept"], filtered["tp_kept"]
            ),
        }

    def as_text(self) -> str:
        lines = ["", "RESULTS (a small corpus: compare the intervals, not the last digit)", ""]
        if self.labelled_by == ["oracle"]:
            lines += ["Labels: the known truth of the demo (annotator `oracle`, simulated), not given by people.", ""]
        for split, row in self.mined.items():
            lines.append(
                f"mined {split:<5}  {number_of(row['pairs'], 'pair')}, "
                f"{number_of(row['duplicates'], 'exact duplicate')}; the others: "
                f"{row['edited_copy']:.0%} edited copies, {row['hard_negative']:.0%} hard negatives, "
                f"{row['unrelated']:.0%} unrelated"
            )
        natural, reverse = self.queries.get("natural", 0), self.queries.get("reverse_crop", 0)
        lines += [
            f"hard negatives kept: {number_of(natural + reverse, 'query')} ({natural} natural of "
            f"{self.natural_groups} scenes and "
            f"families, {reverse} reverse crops), {number_of(self.train_pairs, 'training pair')}",
            f"with them in the test set: {number_of(self.queries.get('edited_copy', 0), 'edited copy')}, "
            f"{number_of(self.queries.get('distractor', 0), 'distractor')}",
            "",
        ]
        if self.natural_groups < FEW:
            lines += [
                f"too few scenes ({self.natural_groups}, at least {FEW} needed): these numbers prove nothing",
                "",
            ]
        lines += self._detector_lines()
        lines += ["", *(f"{claim}: {'yes' if holds else 'NO'}" for claim, holds in self.claims().items())]
        lines += ["", f"The demo took {self.seconds / 60:.1f} minutes. Where to look:"]
        width = max(map(len, self.places), default=0)
        lines += [f"  {what:{width}}  {path}" for what, path in self.places.items()]
        return "\n".join(lines)

    def _detector_lines(self) -> list[str]:
        width = max(map(len, self.detectors)) + 2
        lines = [
            f"{'':{width}}{'μAP with → without hard negatives':<42}{'P@N':<8}{'filter keeps TP / FP':<24}"
            "recovered  gap_closed  held"
        ]
        for title, m in self.detectors.items():
            filtered = m["tp_kept"]["value"] is not None
            precision = m["precision_after_filter"] if filtered else m["precision_at_n"]
            keeps = f"{_share(m['tp_kept'])} / {_share(m['fp_kept'])}" if filtered else "–"
            with_to_without = f"{_interval(m['uap'])} → {_interval(m['uap_without_hard_negatives'])}"
            three = "".join(
                f"{_number(m[key]):<{w}}" for key, w in (("recovered", 11), ("gap_closed", 12), ("held", 4))
            )
            lines.append(f"{title:{width}}{with_to_without:<42}{_number(precision):<8}{keeps:<24}{three}")
        n, protocol = next((m["n"], m["protocol"]["search"]) for m in self.detectors.values())
        return [
            *lines,
            f"N = {n}; search: {protocol}; brackets: 95 % intervals, bootstrap over groups",
            "P@N: precision at the cut N, after the filter if there is one",
            "recovered: share of the first detector's loss of μAP that is won back · gap_closed: how much smaller the "
            "detector's own loss is · held: its μAP with / without hard negatives",
        ]


def _mined(workspace: Workspace, split: str) -> dict[str, Any]:
    """Pairs mined for a split and the shares of the decisions on them (rechecked pairs are not counted)."""
    candidates = read_table(workspace.candidates(split) / "candidates.parquet")
    decisions = read_table(workspace.annotation(split) / "decisions.parquet").to_pylist()
    decided = {row["pair_id"]: row["decision"] for row in decisions}
    shown = [row["pair_id"] for row in candidates.to_pylist() if row["duplicate_of"] is None]
    labels = Counter(decided.get(pair) for pair in shown)
    total = max(1, len(shown))
    return {
        "pairs": candidates.num_rows,
        "duplicates": candidates.num_rows - len(shown),
        **{label: labels[label] / total for label in ("edited_copy", "hard_negative", "unrelated", "unsure")},
    }


def _less(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a["value"] is not None and b["value"] is not None and a["value"] < b["value"]


def _number(interval: dict[str, Any]) -> str:
    return "null" if interval["value"] is None else f"{interval['value']:.2f}"


def _share(interval: dict[str, Any]) -> str:
    return "null" if interval["value"] is None else f"{interval['value']:.0%}"


def _interval(interval: dict[str, Any]) -> str:
    if interval["value"] is None or interval["low"] is None:
        return _number(interval)
    return f"{interval['value']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"
