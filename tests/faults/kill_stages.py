"""Kill all stages of the demo with SIGKILL at random times; the results must equal those of an uninterrupted run.

    python tests/faults/kill_stages.py [--kills 31] [--demo DIR] [--seed 0] [--stage NAME …] [--quick]

Each stage is the command line in its own process, on a small workspace, with a real Label Studio. It is killed up to
three times in a row at different times and then runs to its end. Every file of the workspace is then compared with that
of a run that was not killed. Half of the kills happen at a random time, half at a random change to a file (rename,
removal, opening for writing), where damage is most likely. Writes tests/faults/results/kill_stages.md.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import record  # noqa: E402
from faults.forked import convert_ahead, warm_up  # noqa: E402
from faults.stages_bench import Bench, Tally, label_studio  # noqa: E402


def run(kills: int, chain: int, demo: Path | None, size: int, seed: int, only: list[str]) -> dict[str, Tally]:
    alone = bool(only) and not set(only) - {"ingest", "edit", "embed", "mine"}
    with (
        tempfile.TemporaryDirectory(prefix="kill-stages-") as name,
        contextlib.nullcontext() if alone else label_studio(Path(name)),
    ):
        bench = Bench(Path(name), demo, size, seed)
        chosen = [stage for stage in bench.stages if stage.killed and (not only or stage.name in only)]
        bench.run_whole({stage.name for stage in chosen})
        tallies = {}
        for stage in chosen:
            tallies[stage.name] = bench.kill(stage, kills, chain)
            print(stage.name, bench.usual[stage.name], tallies[stage.name], file=sys.stderr, flush=True)
        return tallies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=31, help="of each stage")
    parser.add_argument("--chain", type=int, default=3, help="kills in a row at most before a command may end")
    parser.add_argument("--demo", type=Path, help="workspace of a finished demo whose pictures are used")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", action="append", default=[], help="only this one; may be given several times")
    parser.add_argument("--size", type=int, default=24, help="references and basic images; twice as many in the pool")
    parser.add_argument("--quick", action="store_true", help="writes no result file; fewer pictures")
    given = parser.parse_args()
    warm_up()
    if given.quick:
        convert_ahead()
    tallies = run(given.kills, given.chain, given.demo, 12 if given.quick else given.size, given.seed, given.stage)
    rows = [
        (name, t.by_time, t.by_change, t.ended_before, t.runs, t.same, t.left, f"{t.seconds:.0f}")
        for name, t in tallies.items()
    ]
    kills, runs = sum(t.kills for t in tallies.values()), sum(t.runs for t in tallies.values())
    same, left = sum(t.same for t in tallies.values()), sum(t.left for t in tallies.values())
    head = ("stage", "killed at a time", "killed before a change to a file", "ended before the kill", "runs resumed",
            "same bytes", "files left over", "seconds")  # fmt: skip
    notes = [
        f"{kills} kills in all; {same} of {runs} resumed runs gave the bytes of an uninterrupted one.",
        "",
        "Compared: sha256 of every file of the workspace but records of the run (run.json, inputs.json, metrics.jsonl, "
        "TensorBoard), what only this Label Studio knows (key.json, project_tasks.parquet, passwords) and the history "
        "of append-only tables (ledger.json, previous generations); of `push` also that Label Studio holds each task "
        "once.",
    ]
    title = "SIGKILL over all stages"
    record.write("kill_stages", title, head, rows, notes, keep=not given.quick and not given.stage)
    sys.exit(same != runs or bool(left))


if __name__ == "__main__":
    main()
