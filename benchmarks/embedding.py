"""Embed JPEGs of 1,024 px with the default model: ndec, plain loops and a peer's reader against an upper bound.

    python benchmarks/embedding.py [--quick] [--images DIR] [--count N] [--rounds N] [--peers DIR]

Each contestant is its own process. It loads the model, warms up, and then embeds all pictures in turn with the others,
which sleep meanwhile. Reports medians over the rounds. The bound is cores / (decode core-seconds + model core-seconds
per image); both are measured alone, in the same rounds.

--images  pictures to make the photos from (mosaics); default: synthetic pictures
--peers   folder for optional readers and decoders: pip install --no-deps --target DIR clip-retrieval simplejpeg
          pyvips pyvips-binary cffi pycparser
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import machine, write_result
from photos import make_photos

OURS, PLAIN, BF16, PEER = (
    "ndec",
    "plain loop, fp32",
    "the same, channels_last + bf16",
    "clip-retrieval's reader, same model",
)
TARGETS = {PLAIN: 3.0, BF16: 1.2}


class Contestant:
    """A process of `contestants.py` that answers each line with one measurement, as JSON."""

    def __init__(self, name: str, folder: Path, peers: Path | None) -> None:
        script = Path(__file__).with_name("contestants.py")
        command = [sys.executable, str(script), name, str(folder), str(peers or "")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self) -> dict[str, float]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a contestant died: {self.process.args}")
        answer: dict[str, float] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="48 pictures, one round")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--count", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--peers", type=Path)
    arguments = parser.parse_args()
    count, rounds = (48, 1) if arguments.quick else (512, 5)
    count, rounds = arguments.count or count, arguments.rounds or rounds
    with tempfile.TemporaryDirectory(prefix="ndec-embedding-") as temporary:
        folder = Path(temporary) / "photos"
        what = make_photos(folder, count, arguments.images)
        names = {OURS: "ndec", PLAIN: "plain", BF16: "bf16", "alone": "alone"}
        if arguments.peers and (arguments.peers / "clip_retrieval").is_dir():
            names[PEER] = "clip-retrieval"
        contestants = {label: Contestant(name, folder, arguments.peers) for label, name in names.items()}
        try:
            measured: dict[str, list[dict[str, float]]] = {label: [] for label in names}
            for _ in range(rounds):
                for label, contestant in contestants.items():
                    measured[label].append(contestant.run())
        finally:
            for contestant in contestants.values():
                contestant.close()
        decoders = Contestant("decoders", folder, arguments.peers)
        table = [decoders.run() for _ in range(min(rounds, 3))]
        decoders.close()
    text = report(what, rounds, measured, table)
    write_result("embedding-quick" if arguments.quick else "embedding", text)


def report(
    what: str, rounds: int, measured: dict[str, list[dict[str, float]]], decoders: list[dict[str, float]]
) -> str:
    rate = {
        label: statistics.median(run["images_per_second"] for run in runs)
        for label, runs in measured.items()
        if label != "alone"
    }
    decode, model = (
        statistics.median(run[name] for run in measured["alone"]) for name in ("decode_seconds", "model_seconds")
    )
    cores = len(os.sched_getaffinity(0))
    bound = cores / (decode + model)
    lines = [
        "# Embedding",
        "",
        machine(),
        "",
        f"{what}; efficientnet-lite0, 224 px; medians of {rounds} interleaved rounds.",
        "",
        "| | images / s | ndec is | target |",
        "|---|---|---|---|",
        f"| {OURS}: decode, describe, whiten, write | {rate[OURS]:.1f} | | |",
    ]
    for label in (PLAIN, BF16, PEER):
        if label in rate:
            target = f"≥ {TARGETS[label]:g} ×" if label in TARGETS else ""
            lines.append(f"| {label} | {rate[label]:.1f} | {rate[OURS] / rate[label]:.2f} × | {target} |")
    lines += [
        f"| bound: {cores} cores / ({decode * 1000:.2f} ms decode + {model * 1000:.2f} ms model, core time an image) | "
        f"{bound:.1f} | {rate[OURS] / bound:.0%} | ≥ 85 % |",
        "",
        f"Loops: torch's DataLoader with Pillow, the best of batch 8 and 32 with 1 and {cores} reader processes, "
        "and torch's own number of threads.",
        "",
        "## Decoders",
        "",
        "Core milliseconds from the bytes of a picture to its pixels, one thread. All JPEG decoders here call "
        "libjpeg-turbo and give the same pixels (checked in the run).",
        "",
        "| | ms |",
        "|---|---|",
    ]
    for label in decoders[0]:
        values = [run[label] for run in decoders if label in run]
        lines.append(f"| {label} | {statistics.median(values):.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
