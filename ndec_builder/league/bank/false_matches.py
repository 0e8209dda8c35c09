"""`ndec league --bank`: how often a list of PDQ hashes matches harmless pictures, at each distance.

An exchange hands out hashes and no pictures, so recall cannot be measured here. PDQ does not find crops.
"""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from ndec_builder.annotation.decisions.binomial import clopper_pearson
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import atomic_path, write_json, write_text
from ndec_builder.evaluation.dataset import folder_table, from_manifest
from ndec_builder.league.bank.hamming import BITS, hamming_join, read_hashes
from ndec_builder.league.entries import RUNNER
from ndec_builder.league.environments import find_peer
from ndec_builder.league.pictures import pictures_folder, write_folder
from ndec_builder.league.settings import LeagueConfig

RADIUS = 31  # the distance that ThreatExchange's README recommends, and the largest that is counted
_WORST = 100  # hashes of the bank listed with the most false matches
_BLIND = (
    "PDQ is one hash of the complete picture: it does not find crops, and mirrored or rotated copies only with extra "
    "hashes. A small number here is no claim about what the bank finds."
)


def run_bank(config: LeagueConfig, out: Path) -> Path:
    """Write bank.json, bank.md, worst_hashes.csv and negative_bank.csv; returns the directory.

    negative_bank.csv lists the harmless pictures that match, so that their matches can be suppressed.
    """
    assert config.bank is not None
    bank_names, bank = read_hashes(config.bank)
    names, hashes, groups, skipped = _benign(config, out)
    nearest = np.full(len(hashes), BITS, dtype=np.int64)
    nearest_hash = np.zeros(len(hashes), dtype=np.int64)
    hits = np.zeros(len(bank), dtype=np.int64)
    for asked, rows, distances in hamming_join(hashes, bank, RADIUS):
        first = np.unique(asked, return_index=True)[1]
        nearest[asked[first]], nearest_hash[asked[first]] = distances[first], rows[first]
        hits += np.bincount(rows, minlength=len(bank))
    result = {
        "bank": config.bank.name,
        "bank_hashes": len(bank),
        "bank_hashes_distinct": len(np.unique(bank, axis=0)),
        "queries": len(hashes),
        "groups": len(set(groups)),
        "skipped": skipped,
        "by_distance": by_distance(nearest, groups),
        "note": _BLIND,
    }
    worst = np.lexsort((np.arange(len(bank)), -hits))[:_WORST]
    _write_csv(
        out / "worst_hashes.csv", ("name", "hash", "false_matches"),
        [(bank_names[i], bank[i].tobytes().hex(), int(hits[i])) for i in worst if hits[i]],
    )  # fmt: skip
    matched = np.flatnonzero(nearest <= RADIUS)
    _write_csv(
        out / "negative_bank.csv", ("name", "hash", "distance", "nearest_in_bank"),
        [(names[i], hashes[i].tobytes().hex(), int(nearest[i]), bank_names[nearest_hash[i]]) for i in matched],
    )  # fmt: skip
    write_json(out / "bank.json", result)
    write_text(out / "bank.md", _markdown(result))
    say(f"{len(matched):,} of {len(hashes):,} harmless pictures match within {RADIUS}; wrote {out / 'bank.md'}")
    return out


def by_distance(nearest: np.ndarray, groups: Sequence[str]) -> list[dict[str, Any]]:
    """Queries with a false match at each distance 0 … RADIUS, and per million with a 95 % interval.

    Interval: Clopper–Pearson with the effective sample size of Korn and Graubard (1998), because pictures of one group
    match together, with their factor for few groups: (t quantile of pictures / of groups)². Where nothing or everything
    matches it is the number of groups, which errs on the wide side.
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(group).astype(np.float64)
    rows = []
    for distance in range(RADIUS + 1):
        matched = nearest <= distance
        count, total = int(matched.sum()), len(matched)
        share = count / total
        effective = float(len(sizes))
        if 0 < count < total and len(sizes) > 1:
            residual = np.bincount(group, weights=matched.astype(np.float64)) - share * sizes
            variance = len(sizes) / (len(sizes) - 1) * float((residual**2).sum()) / total**2
            few = stdtrit(total - 1, 0.975) / stdtrit(len(sizes) - 1, 0.975)  # the variance of few groups is uncertain
            effective = min(float(total), few**2 * share * (1 - share) / variance) if variance > 0 else float(total)
        low, high = clopper_pearson(share * effective, effective)
        rows.append({
            "distance": distance, "queries": count, "per_million": 1e6 * share,
            "low": 1e6 * low, "high": 1e6 * high,
        })  # fmt: skip
    return rows


def _benign(config: LeagueConfig, out: Path) -> tuple[list[str], np.ndarray, list[str], dict[str, int]]:
    """Names, hashes and groups of the harmless pictures, and how many of them have no hash and why."""
    if config.benign is not None and config.benign.suffix.lower() == ".csv":
        given, given_hashes = read_hashes(config.benign)
        return given, given_hashes, [str(i) for i in range(len(given))], {}
    peer = find_peer("pdq")
    if peer.version() is None:
        raise NdecError(
            "--bank hashes pictures with PDQ, which is not installed: run `ndec league install pdq`, or give "
            "--benign a csv of hashes"
        )
    if config.manifest is not None:
        data = from_manifest(config.manifest)
        table, resolve = data.queries.filter(np.array([kind != "edited_copy" for kind in data.kinds])), data.resolve
    else:
        assert config.benign is not None
        table, resolve = folder_table("query", config.benign, "auto"), str
    names: list[str] = table["image_id"].to_pylist()
    groups = [group or name for group, name in zip(table["group"].to_pylist(), names, strict=True)]
    with pictures_folder(out) as folder:
        write_folder(table, resolve, folder, "q")
        command = [str(peer.python), "-I", str(RUNNER), str(peer.adapter), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NdecError(f"PDQ stopped: {done.stderr.strip().splitlines()[-1:]}; fix that and run it again")
    found = json.loads(done.stdout)
    rows = [int(stem[1:]) for stem in found["codes"]]
    skipped = {"cannot be read": len(found["failed"]), "quality of at most 49": len(found["left_out"])}
    if not rows:
        raise NdecError(f"no harmless picture has a PDQ hash: {skipped}")
    hashes = np.frombuffer(bytes.fromhex("".join(found["codes"].values())), np.uint8).reshape(-1, BITS // 8)
    left = {reason: count for reason, count in skipped.items() if count}
    return [names[row] for row in rows], hashes, [groups[row] for row in rows], left


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with atomic_path(path) as temporary, Path(temporary).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def _markdown(result: dict[str, Any]) -> str:
    lines = [
        f"# False matches of {result['bank']}", "",
        f"{result['bank_hashes']:,} hashes ({result['bank_hashes_distinct']:,} distinct) against {result['queries']:,} "
        f"harmless pictures of {result['groups']:,} groups. {result['note']}", "",
        *(f"{number_of(count, 'picture is', 'pictures are')} left out: {reason}."
          for reason, count in result["skipped"].items()), "",
        "| distance ≤ | pictures that match | per million | 95 % interval |", "|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {row['distance']} | {row['queries']:,} | {row['per_million']:,.0f} "
        f"| {row['low']:,.0f} … {row['high']:,.0f} |"
        for row in result["by_distance"]
    ]
    return "\n".join(lines) + "\n"
