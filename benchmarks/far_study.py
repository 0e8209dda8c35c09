"""A second corpus that no part of training touches: other packages, edits by ImageMagick, evaluated as plain folders.

    python benchmarks/far_study.py OUT [--only-build] [--quick]

Needs apt (`apt-get download`) and ImageMagick's `convert`. Builds OUT/queries, OUT/references, truth.csv and kinds.csv
from the Debian packages in PACKAGES, then runs `ndec benchmark` with the default descriptor and the fit that comes with
ndec. Natural hard negatives: one documentation screenshot in several languages. Reverse crops: the reference is a crop
of the query. Evaluate it once per change of the scorer and report the result whatever it says; never tune on it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, write_result
from PIL import Image, ImageOps

from ndec_builder.demo.corpus.packages import unpack_deb
from ndec_builder.evaluation.benchmark import run
from ndec_builder.evaluation.settings import BenchmarkConfig

PACKAGES = ("gnome-backgrounds", "sway-backgrounds", "kphotoalbum", "khangman", "fotoxx-common", "marble-data",
            "lebiniou-data", "gnome-user-docs", "pysiogame")  # fmt: skip
LEAST, SIDE = 120, 800  # px: smallest side of a picture, longer side that is stored
SAME = 4.0  # mean difference in grey levels at 64 × 64 below which two pictures of a group count as one
PER_GROUP = 3  # natural hard negatives of one group
COPIES, CROPS, REFERENCES, DISTRACTORS = 320, 80, 460, 150
EDITS = {  # kind → what `convert` is told; OTHER is a picture that is no reference
    "invert": ("-negate",),
    "edge": ("-edge", "1"),
    "threshold": ("-colorspace", "Gray", "-threshold", "45%"),
    "posterise": ("+dither", "-posterize", "3"),
    "emboss": ("-emboss", "1"),
    "charcoal": ("-charcoal", "1"),
    "paint": ("-paint", "4"),
    "solarise": ("-solarize", "50%"),
    "sepia": ("-sepia-tone", "80%"),
    "halftone": ("-colorspace", "Gray", "-ordered-dither", "h6x6a"),
    "swirl": ("-swirl", "80"),
    "wave": ("-wave", "12x120"),
    "implode": ("-implode", "0.3"),
    "blend": ("OTHER", "-define", "compose:args=45", "-compose", "blend", "-composite"),
    "curve": ("-sigmoidal-contrast", "7,40%", "-gamma", "1.3"),
    "dark": ("-modulate", "45,60", "-gamma", "0.7"),
    "vignette": ("-background", "black", "-vignette", "0x30"),
    "kaleidoscope": ("-resize", "50%", "(", "+clone", "-flop", ")", "+append", "(", "+clone", "-flip", ")", "-append"),
    "tile": ("-resize", "34%", "(", "+clone", "+clone", ")", "+append", "(", "+clone", "+clone", ")", "-append"),
    "frame": ("-mattecolor", "sienna", "-frame", "30x30+8+8"),
    "pad": ("-bordercolor", "teal", "-border", "35%x20%"),
    "crop": ("-gravity", "center", "-crop", "55%x55%+0+0", "+repage"),
    "corner": ("-gravity", "southeast", "-crop", "50%x60%+0+0", "+repage", "-resize", "140%"),
    "rotate": ("-background", "gray30", "-rotate", "13"),
    "perspective": ("-virtual-pixel", "black", "-distort", "Perspective", "0,0 40,25 300,0 290,10 0,300 5,280 300,300 "
                    "270,300"),
    "flop": ("-flop", "-quality", "40"),
    "jpeg": ("-resize", "50%", "-quality", "12"),
    "blur": ("-blur", "0x4"),
    "noise": ("-attenuate", "0.6", "-seed", "1", "+noise", "Gaussian"),
    "underlay": ("-resize", "45%", "OTHER", "+swap", "-gravity", "northwest", "-geometry", "+60+40", "-composite"),
    "collage": ("-resize", "300x300!", "OTHER", "-resize", "300x300!", "+append", "(", "+clone", "-flop", "-swirl",
                "60", ")", "-append"),
    "screenshot": ("-gravity", "north", "-background", "gray95", "-splice", "0x40", "-gravity", "south", "-splice",
                   "0x70"),
}  # fmt: skip
RUNS: dict[str, dict[str, Any]] = {
    "cosine, whitened": {"scorer": "cosine"},
    "fused, each pair on its own, ten best": {"scorer": "fused", "competition": False, "rescored": 10},
    "+ competition": {"scorer": "fused", "rescored": 10},
    "+ the twenty best (the default)": {"scorer": "fused"},
    "+ local shortlist": {"scorer": "fused", "shortlist": "both"},
    "+ one per query": {"scorer": "fused", "shortlist": "both", "one_per_query": True},
}


@dataclass(frozen=True)
class Picture:
    """name: file name of the stored picture · group: pictures of one screenshot share it, others have their own."""

    path: Path
    name: str
    group: str


def order_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def fetch(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name in PACKAGES:
        if not list(folder.glob(f"{name}_*.deb")):
            subprocess.run(["apt-get", "download", "-q", name], cwd=folder, check=True, timeout=900)
        if not (folder / name).is_dir():
            unpack_deb(next(folder.glob(f"{name}_*.deb")), folder / name)
        found.append(folder / name)
    return found


def pictures(folders: Sequence[Path], out: Path) -> Iterator[Picture]:
    """All usable pictures, stored as png of at most SIDE px on white; equal bytes once."""
    seen: set[str] = set()
    out.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp")):
            if path.is_symlink() or ("HTML" in path.parts and path.stat().st_size < 8_000):
                continue
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            with Image.open(path) as opened:
                if digest in seen or min(opened.size) < LEAST:
                    continue
                seen.add(digest)
                shown = opened.convert("RGBA")
            white = Image.new("RGBA", shown.size, "white")
            white.alpha_composite(shown)
            image = white.convert("RGB")
            image.thumbnail((SIDE, SIDE))
            if min(image.size) < LEAST // 2 or np.asarray(image.convert("L")).std() < 8:
                continue
            translated = any(part in ("HTML", "help") for part in path.parts)
            group = f"{folder.name}/{path.name}" if translated else f"{folder.name}/{path.relative_to(folder)}"
            name = order_of(f"{folder.name}/{path.relative_to(folder)}")[:16]
            if not (out / f"{name}.png").is_file():
                image.save(out / f"{name}.png")
            yield Picture(out / f"{name}.png", name, group)


def tiny(picture: Picture) -> np.ndarray:
    with Image.open(picture.path) as image:
        return np.asarray(ImageOps.grayscale(image).resize((64, 64)), np.float32)


def grouped(found: Sequence[Picture]) -> dict[str, list[Picture]]:
    """Groups with pictures that differ by at least SAME; a picture like one of another group is left out."""
    groups: dict[str, list[Picture]] = defaultdict(list)
    kept: list[np.ndarray] = []
    for picture in sorted(found, key=lambda one: order_of(one.name)):
        small = tiny(picture)
        if kept and np.abs(np.stack(kept) - small).mean(axis=(1, 2)).min() < SAME:
            continue
        kept.append(small)
        groups[picture.group].append(picture)
    return groups


def converted(picture: Path, command: Sequence[str], other: Path, target: Path) -> None:
    if target.is_file():
        return
    with Image.open(picture) as image:
        size = f"{image.width}x{image.height}!"
    told: list[str] = []
    for part in command:
        told += ["(", str(other), "-resize", size, ")"] if part == "OTHER" else [part]
    subprocess.run(["convert", str(picture), *told, f"png:{target}.tmp"], check=True, timeout=300)
    Path(f"{target}.tmp").rename(target)


def build(out: Path, copies: int, crops: int, references: int, distractors: int) -> dict[str, str]:
    """Write the folders and tables; returns query → kind of edit for the copies."""
    groups = grouped(list(pictures(fetch(out / "packages"), out / "pictures")))
    names = sorted(groups, key=order_of)
    families = [name for name in names if len(groups[name]) > 1]
    single = [name for name in names if len(groups[name]) == 1]
    chosen = [*families, *single][:references]
    rest = single[references - len(families) :]
    others = [groups[name][0].path for name in rest[distractors : distractors + 40]]
    for folder in ("queries", "references"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, str, str, str, str]] = []  # query, reference, kind, hard_kind, group
    edits: dict[str, str] = {}
    kinds = list(EDITS)
    for place, name in enumerate(sorted(chosen, key=lambda one: order_of(f"role {one}"))):
        first, *siblings = groups[name]
        reference = f"r-{first.name}"
        is_crop = place < crops
        command = ("-gravity", "northeast", "-crop", "62%x66%+0+0", "+repage") if is_crop else ()
        converted(first.path, command, others[0], out / "references" / f"{reference}.png")
        if is_crop:
            converted(first.path, ("-quality", "90"), others[0], out / "queries" / f"w-{first.name}.png")
            rows.append((f"w-{first.name}", "", "hard_negative", "reverse_crop", name))
        elif place < crops + copies:
            kind = kinds[(place - crops) % len(kinds)]
            other = others[place % len(others)]
            converted(first.path, EDITS[kind], other, out / "queries" / f"c-{first.name}.png")
            rows.append((f"c-{first.name}", reference, "edited_copy", "", name))
            edits[f"c-{first.name}"] = kind
        for sibling in siblings[:PER_GROUP]:
            converted(sibling.path, (), others[0], out / "queries" / f"n-{sibling.name}.png")
            rows.append((f"n-{sibling.name}", "", "hard_negative", "natural", name))
    for name in rest[:distractors]:
        converted(groups[name][0].path, (), others[0], out / "queries" / f"d-{groups[name][0].name}.png")
        rows.append((f"d-{groups[name][0].name}", "", "distractor", "", name))
    with (out / "truth.csv").open("w", newline="") as file:
        csv.writer(file).writerows(row[:2] for row in rows)
    with (out / "kinds.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("query_id", "kind", "hard_kind", "group"), *((r[0], *r[2:]) for r in rows)])
    return edits


def evaluate(out: Path, edits: dict[str, str], runs: dict[str, dict[str, Any]]) -> list[str]:
    lines = ["| | μAP | without hard negatives | P@N | R@P90 | ECE | judged | copies P ≥ .5 | natural P ≥ .5 |",
             "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    by_kind: dict[str, list[bool]] = defaultdict(list)
    for number, (name, settings) in enumerate(runs.items()):
        report = run(BenchmarkConfig(
            workspace=out / "workspace", queries=out / "queries", references=out / "references",
            kinds=out / "kinds.csv", ground_truth=out / "truth.csv", model="efficientnet-lite0", device="cpu",
            name=f"run-{number}", **settings,
        ))  # fmt: skip
        metrics = json.loads((report / "metrics.json").read_text("utf-8"))
        with (report / "predictions.csv").open() as file:
            scores = {(q, r): float(s) for q, r, s in list(csv.reader(file))[1:]}
        with (out / "truth.csv").open() as file:
            truth = {q: r for q, r in csv.reader(file) if r}
        fused = settings["scorer"] == "fused"
        judged = np.mean([scores.get((q, r), -1) >= 0 for q, r in truth.items()]) if fused else None
        sure = {q: scores.get((q, r), -1) >= 0.5 for q, r in truth.items()} if fused else {}
        natural = {q for (q, _), s in scores.items() if q.startswith("n-") and s >= 0.5} if fused else set()
        cells = [shown(metrics["uap"]), shown(metrics["uap_without_hard_negatives"]), shown(metrics["precision_at_n"]),
                 shown(metrics["recall_at_p90"]), shown(metrics.get("calibration", {}).get("ece"))]  # fmt: skip
        cells += [f"{judged:.3f}", f"{np.mean(list(sure.values())):.2f}", str(len(natural))] if fused else ["–"] * 3
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
        for query, good in sure.items():
            by_kind[f"{edits[query]}"] += [good] if settings == {"scorer": "fused"} else []
    lines += ["", "Copies with P ≥ .5, by edit (the default): "]
    lines += [", ".join(f"{kind} {sum(good)}/{len(good)}" for kind, good in sorted(by_kind.items()) if good)]
    return lines


def shown(number: dict[str, float | None] | None) -> str:
    if not number or number["value"] is None:
        return "–"
    low, high = number["low"], number["high"]
    return f"{number['value']:.3f}" + ("" if low is None else f" ({low:.3f} … {high:.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only-build", action="store_true")
    parser.add_argument("--quick", action="store_true", help="60 references; nothing written")
    given = parser.parse_args()
    sizes = (40, 10, 60, 20) if given.quick else (COPIES, CROPS, REFERENCES, DISTRACTORS)
    edits = build(given.out, *sizes)
    with (given.out / "kinds.csv").open() as file:
        rows = list(csv.DictReader(file))
    hard = [row for row in rows if row["kind"] == "hard_negative"]
    natural = [row for row in hard if row["hard_kind"] == "natural"]
    about = (
        f"{len(list((given.out / 'references').iterdir()))} references; {len(rows)} queries: {len(edits)} copies by "
        f"ImageMagick, {len(natural)} natural hard negatives in {len({row['group'] for row in natural})} groups, "
        f"{len(hard) - len(natural)} reverse crops, {sum(row['kind'] == 'distractor' for row in rows)} distractors. "
        "Mostly screenshots, drawings and symbols, few photos. Labels are known truth."
    )
    print(about, flush=True)
    if given.only_build:
        return
    lines = ["# A corpus far from the training data", "", machine(), "", about, "", *evaluate(given.out, edits, RUNS)]
    if not given.quick:
        write_result("far_study", "\n".join(lines))


if __name__ == "__main__":
    main()
