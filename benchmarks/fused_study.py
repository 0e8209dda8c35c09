"""The fused scorer against its baseline on the mini corpus, over seeds: `recovered`, `gap_closed`, `held` and the rest.

    python benchmarks/fused_study.py OUT [--seeds 5] [--quick]

For each seed: `ndec demo --seed S` in OUT/seed-S (another draw of roles, edits and scenes from the same corpus), then
`ndec train-asl --recipe fused` and `ndec benchmark --scorer fused`. Everything resumes: run it again to go on. A seed
takes about 15 minutes on 2 cores. Nothing is tuned here: settings are the defaults. The demo's labels are the known
truth of its pairs (simulated annotator `oracle`).
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MODEL = "efficientnet-lite0"
KINDS = ("all", "natural", "reverse_crop", "without")
TARGETS = {"recovered": 0.8, "gap_closed": 0.75, "held": 0.85, "recall_at_p90": 0.3}


def ndec(*words: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "ndec_builder", *map(str, words)], check=True)


def study(out: Path, seed: int, size: str) -> Path:
    """Run one seed and return its workspace."""
    workspace = out / f"seed-{seed}"
    ndec("demo", "--out", workspace, "--seed", str(seed), "--size", size)
    manifest = workspace / "manifests" / "demo-1.0.0"
    here = ("--workspace", workspace, "--manifest", manifest)
    ndec("train-asl", *here, "--recipe", "fused", "--seed", str(seed))
    for k in (None, 1, 10):
        name = "fused" if k is None else f"fused-k{k}"
        base, cut = "baseline" if k is None else f"baseline-k{k}", () if k is None else ("--k", str(k))
        if k is not None:
            ndec("benchmark", *here, "--model", MODEL, "--name", base, *cut)
        judged = ("--scorer", "fused", "--fused-model", workspace / "runs" / "fused")
        ndec(
            "benchmark",
            *here,
            "--model",
            MODEL,
            *judged,
            "--baseline",
            workspace / "reports" / base,
            "--name",
            name,
            *cut,
        )
    return workspace


def metrics(workspace: Path, report: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((workspace / "reports" / report / "metrics.json").read_text("utf-8"))
    return found


def hits(workspace: Path, report: str) -> set[tuple[str, str]]:
    """True pairs among the first N of a report's predictions."""
    manifest = workspace / "manifests" / "demo-1.0.0"
    truth = {tuple(row) for row in csv.reader((manifest / "ground_truth.csv").open(newline="")) if row[1]}
    n = metrics(workspace, report)["n"]
    rows = list(csv.reader((workspace / "reports" / report / "predictions.csv").open(newline="")))[1 : n + 1]
    return {(query, reference) for query, reference, _ in rows} & truth


def cell(value: dict[str, Any] | None) -> str:
    if value is None or value["value"] is None:
        return "null"
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def lines_of(workspace: Path, seed: int) -> list[str]:
    lines = []
    for search, base, fused in (("all pairs", "baseline", "fused"), ("k = 1", "baseline-k1", "fused-k1"),
                                ("k = 10", "baseline-k10", "fused-k10")):  # fmt: skip
        before, after = metrics(workspace, base), metrics(workspace, fused)
        kept = len(hits(workspace, base) & hits(workspace, fused)) / max(1, len(hits(workspace, base)))
        for kind in KINDS:
            one, two = (m if kind == "all" else m["by_hard_kind"].get(kind) for m in (before, after))
            if one is None or two is None:
                continue
            shown = [cell(one["uap"]), cell(two["uap"]), cell(one["precision_at_n"]), cell(two["precision_at_n"])]
            shown += [cell(two["recall_at_p90"]), *(cell(two[key]) for key in ("recovered", "gap_closed", "held"))]
            shown.append(f"{kept:.2f}" if kind == "all" else "")
            lines.append(f"| {seed} | {search} | {kind} | " + " | ".join(shown) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one seed of the small demo")
    options = parser.parse_args()
    rows: list[str] = []
    for seed in range(1 if options.quick else options.seeds):
        rows += lines_of(study(options.out, seed, "small" if options.quick else "full"), seed)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True).stdout
    header = ["seed", "search", "hard negatives", "μAP baseline", "μAP fused", "P@N baseline", "P@N fused",
              "R@P90 fused", "recovered", "gap closed", "held", "baseline's TP kept"]  # fmt: skip
    text = "\n".join([
        "# The fused scorer on the mini corpus", "",
        f"{datetime.date.today()} · {os.cpu_count()} cores, {platform.machine()} · commit {commit.strip()} · "
        f"`python benchmarks/{Path(__file__).name}`; labels simulated (known truth); 95 % intervals over groups; "
        f"targets {TARGETS}", "",
        "| " + " | ".join(header) + " |", "|" + "---|" * len(header), *rows, "",
    ])  # fmt: skip
    if not options.quick:
        (HERE / "results" / "fused_study.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
