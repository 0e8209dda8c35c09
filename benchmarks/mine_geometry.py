"""Cost of the geometry of a mined pair: CPU milliseconds, today's build and this one, in one run, interleaved.

    python benchmarks/mine_geometry.py WORKSPACE [--today CHECKOUT] [--pairs 100] [--rounds 3]

WORKSPACE holds a demo with mined pairs. Each contestant is a process of its own that measures the first pairs of the
split test as `ndec mine` does, in one process with one thread: pictures are read, decoded and described, pairs are
fitted. Medians over the rounds.

AUC: of a logistic regression that learns from the labels of these pairs (score and signals, as pre-labels do),
cross-validated over the groups of the queries, mean of six divisions into five folds; both builds are evaluated by this
one. Left out where the pairs have no decisions.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import machine, write_result

HERE = Path(__file__).resolve().parents[1]


def measure(root: str, count: int, output: str) -> None:
    """Print one measurement as JSON for each line on stdin; the geometry goes to the file `output`."""
    import resource

    from ndec_builder.core.storage import read_table, write_table
    from ndec_builder.core.workspace import Workspace

    try:
        from ndec_builder.candidates.geometry import table as module
        from ndec_builder.core.executor.base import Engine

        engine = Engine(here=True)
    except ImportError:  # a checkout from before they had these names
        from ndec_builder.candidates import geometry_table as module
        from ndec_builder.core.engines import Engine

        module.Engine = lambda workers: Engine(here=True)
        engine = 1

    workspace = Workspace(Path(root))
    pairs = read_table(workspace.candidates("test") / "candidates.parquet").slice(0, count)
    for _ in sys.stdin:
        with tempfile.TemporaryDirectory() as folder:
            before = resource.getrusage(resource.RUSAGE_SELF)
            found = module.measure(workspace, "test", pairs, Path(folder) / "geometry", engine)
            after = resource.getrusage(resource.RUSAGE_SELF)
        write_table(Path(output), found)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        fitted = found.num_rows - found["homography"].null_count
        print(
            json.dumps({"ms": 1000 * seconds / found.num_rows, "pairs": found.num_rows, "fitted": fitted}), flush=True
        )


def learned_auc(root: Path, geometry: Path) -> float | None:
    """The AUC that the module's docstring explains; None without labels."""
    import numpy as np

    from ndec_builder.candidates.logistic import fit_logistic
    from ndec_builder.candidates.prelabel import auc, candidate_features
    from ndec_builder.core.storage import read_table
    from ndec_builder.core.workspace import Workspace

    workspace = Workspace(root)
    decided = root / "annotation" / "test" / "decisions.parquet"
    if not decided.is_file():
        return None
    decisions = {row["pair_id"]: row["decision"] for row in read_table(decided).to_pylist()}
    measured = read_table(geometry)
    table = read_table(workspace.candidates("test") / "candidates.parquet")
    known = {name for name in measured["pair_id"].to_pylist() if decisions.get(name) not in (None, "unsure")}
    table = table.filter([name in known for name in table["pair_id"].to_pylist()])
    features = candidate_features(table, measured)
    copies = np.array([decisions[name] == "edited_copy" for name in table["pair_id"].to_pylist()])
    rows = workspace.image_rows("pool", table["query_id"].to_pylist(), ["group"])
    groups = [rows[name]["group"] or name for name in table["query_id"].to_pylist()]
    names, found = sorted(set(groups)), []
    for seed in range(6):
        fold_of = dict(zip(np.random.default_rng(seed).permutation(names), np.arange(len(names)) % 5, strict=True))
        folds, held = np.array([fold_of[group] for group in groups]), np.zeros(len(copies))
        for fold in range(5):
            test = folds == fold
            held[test] = fit_logistic(features[~test], copies[~test]).probabilities(features[test])
        found.append(auc(held, copies))
    return float(np.mean(found))


def contestant(checkout: Path, arguments: list[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": f"{checkout}{os.pathsep}{HERE / 'benchmarks'}"}
    environment |= {"OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(Path(__file__).resolve()), "--contestant", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def answer(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdin and process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    for line in process.stdout:
        if line.startswith("{"):
            result: dict[str, float] = json.loads(line)
            return result
    raise SystemExit(f"a contestant ended: {process.args}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--today", type=Path, help="checkout of the build to compare with")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    checkouts = {"today": given.today.absolute()} if given.today else {}
    checkouts["new"] = HERE
    root, folder = given.workspace.absolute(), Path(tempfile.mkdtemp())
    outputs = {name: folder / f"{name}.parquet" for name in checkouts}
    processes = {
        name: contestant(checkout, [str(root), str(given.pairs), str(outputs[name])])
        for name, checkout in checkouts.items()
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in processes}
    for _ in range(given.rounds):
        for name, process in processes.items():
            runs[name].append(answer(process))
    for process in processes.values():
        assert process.stdin
        process.stdin.close()
        process.wait()
    ms = {name: statistics.median(run["ms"] for run in found) for name, found in runs.items()}
    lines = [
        "# Geometry of a mined pair", "", machine(), "",
        "AUC: of a model that learns from people's labels of these pairs, cross-validated.", "",
        "| build | pairs | fitted | CPU ms a pair | today / it | AUC |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, found in runs.items():
        ratio = f"{ms['today'] / ms[name]:.2f} ×" if "today" in ms else "–"
        area = learned_auc(root, outputs[name])
        lines.append(
            f"| {name} | {found[0]['pairs']:.0f} | {found[0]['fitted']:.0f} | {ms[name]:.1f} | {ratio} "
            f"| {'–' if area is None else f'{area:.3f}'} |"
        )
    shutil.rmtree(folder)
    write_result("mine_geometry", "\n".join(lines))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contestant"]:
        measure(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        main()
