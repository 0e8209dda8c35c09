"""Fuzz every parser of outside bytes with hypothesis: each input is read or refused with an error of ndec.

    python tests/faults/fuzz.py [--seconds 600] [--only WORD] [--quick]

Valid inputs are cut, flipped, overwritten, doubled and mixed; a tenth is noise. Each parser runs in its own process
with 30 s per input and a memory limit, so a crash of that process is found too. Writes tests/faults/results/fuzz.md
with the time and the number of inputs of each parser.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from faults import record  # noqa: E402
from faults.fuzz_targets import Target, targets  # noqa: E402
from support.processes import fork  # noqa: E402

ALARM = 30  # seconds for one input
MEMORY = 3 << 30  # bytes that a parser may map beyond what the process has before it begins
EXAMPLES = 400  # inputs of one round of hypothesis


@dataclass
class Result:
    name: str
    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    failure: str = ""


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with up to five places damaged, or noise."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=400))
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(("flip", "write", "cut", "insert", "delete", "double", "number"))):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "write":
                data[at : at + 4] = draw(st.binary(min_size=1, max_size=8))
            case "cut":
                del data[at:]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=16))
            case "delete":
                del data[at : at + draw(st.integers(1, 64))]
            case "double":
                data[at:at] = data[at : at + draw(st.integers(1, 200))]
            case "number":
                data[at : at + 4] = draw(st.sampled_from((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))).to_bytes(
                    4, "little"
                )
    return bytes(data)


def fuzz(target: Target, seconds: float, examples: int, first_seed: int) -> Result:
    """Rounds of hypothesis until the time is over; stops at the first failure, which it makes small."""
    result, begun = Result(target.name), time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="ndec-fuzz-"))
    last = [b""]
    seeds = target.seeds()

    def one(data: bytes) -> None:
        folder = Path(tempfile.mkdtemp(dir=scratch))
        last[0] = data
        started = time.monotonic()
        signal.alarm(ALARM)
        try:
            target.read(data, folder)
        except target.allowed:
            result.refused += 1
        finally:
            signal.alarm(0)
            result.slowest = max(result.slowest, time.monotonic() - started)
            shutil.rmtree(folder, ignore_errors=True)
        result.inputs += 1

    number = first_seed
    while not result.failure and (number == first_seed or time.monotonic() - begun < seconds):
        run = settings(
            max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )(seed(number)(given(damaged(seeds))(one)))  # fmt: skip
        try:
            run()
        except Exception as error:
            shown = base64.b64encode(last[0][:3000]).decode()
            result.failure = f"{type(error).__name__}: {str(error)[:200]} for {shown}"
        number += 1
    shutil.rmtree(scratch, ignore_errors=True)
    result.seconds = time.monotonic() - begun
    return result


def apart(target: Target, seconds: float, examples: int, first_seed: int) -> Result:
    """`fuzz` in a process of its own; its death is a failure too."""
    receive, send = os.pipe()
    begun = time.monotonic()
    child = fork()
    if child == 0:
        os.close(receive)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)  # libtiff and others talk
        os.dup2(quiet, 2)
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a hang in C ends too
        text = json.dumps(asdict(fuzz(target, seconds, examples, first_seed)))
        with os.fdopen(send, "w") as file:
            file.write(text)
        os._exit(0)
    os.close(send)
    with os.fdopen(receive) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    if not text:
        how = (
            f"killed by {signal.Signals(-code).name}"
            if (code := os.waitstatus_to_exitcode(status)) < 0
            else f"exit {code}"
        )
        return Result(target.name, seconds=time.monotonic() - begun, failure=f"the process died: {how}")
    return Result(**json.loads(text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="for all parsers together")
    parser.add_argument("--only", default="", help="parsers with this word in their name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="30 inputs a parser; writes no result file")
    arguments = parser.parse_args()
    chosen = [target for target in targets() if arguments.only in target.name]
    share, examples = (0.0, 30) if arguments.quick else (arguments.seconds / len(chosen), EXAMPLES)
    results = []
    for target in chosen:
        results.append(apart(target, share, examples, arguments.seed))
        print(results[-1], file=sys.stderr, flush=True)
    rows = [
        (r.name, f"{r.seconds:.0f}", f"{r.inputs:,}", f"{r.refused:,}", f"{r.slowest:.2f}", r.failure[:80] or "none")
        for r in results
    ]
    head = ("parser", "seconds", "inputs", "refused in its own words", "slowest, s", "failure")
    notes = [
        f"{sum(r.inputs for r in results):,} inputs in {sum(r.seconds for r in results) / 60:.1f} minutes; "
        f"{sum(bool(r.failure) for r in results)} parsers failed. An input may take {ALARM} s and map "
        f"{MEMORY >> 30} GiB.",
    ]
    keep = not arguments.quick and not arguments.only
    record.write("fuzz", "Fuzzing of every parser of outside bytes", head, rows, notes, keep=keep)
    sys.exit(any(r.failure for r in results))


if __name__ == "__main__":
    main()
