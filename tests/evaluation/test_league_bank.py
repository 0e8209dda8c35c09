"""`ndec league --bank`: the join is exact, the intervals know groups, and bad hashes are named."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.annotation.decisions.binomial import clopper_pearson
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.league.bank.false_matches import by_distance
from ndec_builder.league.bank.hamming import hamming_join, read_hashes
from ndec_builder.league.run import run
from ndec_builder.league.settings import LeagueConfig


def flipped(code: np.ndarray, bits: int, seed: int = 0) -> np.ndarray:
    """The hash with this number of bits changed."""
    places = np.random.default_rng(seed).choice(256, bits, replace=False)
    spread = np.unpackbits(code)
    spread[places] ^= 1
    return np.packbits(spread)


@pytest.mark.slow
@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(1, 30), st.integers(1, 30))
@settings(deadline=None, max_examples=30)
def test_the_join_finds_what_brute_force_finds(seed: int, radius: int, queries: int, references: int) -> None:
    rng = np.random.default_rng(seed)
    bank = rng.integers(0, 256, (references, 32), dtype=np.uint8)
    asked = np.array([flipped(bank[rng.integers(references)], int(rng.integers(0, 60)), i) for i in range(queries)])
    distances = np.unpackbits(asked[:, None] ^ bank[None], axis=2).sum(axis=2, dtype=np.int64)
    wanted = [(q, r, distances[q, r]) for q in range(queries) for r in range(references) if distances[q, r] <= radius]
    wanted.sort(key=lambda row: (row[0], row[2], row[1]))
    found = [
        row for block in hamming_join(asked, bank, radius) for row in zip(*map(np.ndarray.tolist, block), strict=True)
    ]
    assert found == wanted


def test_counts_grow_with_the_distance_and_are_per_million() -> None:
    rows = by_distance(np.array([0, 5, 5, 31, 32, 256]), list("abcdef"))
    assert [rows[d]["queries"] for d in (0, 4, 5, 30, 31)] == [1, 1, 3, 3, 4]
    assert rows[31]["per_million"] == pytest.approx(1e6 * 4 / 6)


def test_without_a_match_the_bound_is_that_of_the_groups() -> None:
    groups = ["a"] * 5 + ["b"] * 5
    row = by_distance(np.full(10, 200), groups)[31]
    assert (row["low"], row["high"]) == pytest.approx(tuple(1e6 * x for x in clopper_pearson(0, 2)))


def test_matches_of_one_group_count_less_than_of_many() -> None:
    nearest = np.array([3] * 4 + [200] * 16)
    alone, together = (
        by_distance(nearest, names)[31] for names in ([str(i) for i in range(20)], [str(i // 4) for i in range(20)])
    )
    assert together["high"] - together["low"] > 1.3 * (alone["high"] - alone["low"])
    assert alone["high"] == pytest.approx(1e6 * clopper_pearson(0.2 * 19, 19)[1])  # variance with 1 / (n − 1)


def test_the_interval_of_few_groups_covers_the_rate() -> None:
    """SIMULATED: four groups of 5 to 19 pictures that match together (beta-binomial, correlation 0.3), a rate of 0.3.

    Without the factor for few groups 87 % of the intervals hold it, with it 95 %.
    """
    rng, covered = np.random.default_rng(4), []
    for _ in range(300):
        sizes = rng.integers(5, 20, 4)
        matched = np.concatenate([rng.random(size) < rng.beta(0.7, 0.7 * 7 / 3) for size in sizes])
        row = by_distance(np.where(matched, 0, 256), np.repeat(list("abcd"), sizes).tolist())[0]
        covered.append(row["low"] <= 0.3e6 <= row["high"])
    assert np.mean(covered) >= 0.92


@pytest.mark.slow
def test_a_bank_against_hashes_writes_counts_offenders_and_a_negative_bank(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    bank = rng.integers(0, 256, (4, 32), dtype=np.uint8)
    harmless = [flipped(bank[2], 3), flipped(bank[2], 31), flipped(bank[1], 31), flipped(bank[0], 32)]
    (tmp_path / "bank.csv").write_text(
        "hash,name\n" + "".join(f"{h.tobytes().hex()},b{i}\n" for i, h in enumerate(bank))
    )
    (tmp_path / "fine.csv").write_text("".join(f"p{i},{h.tobytes().hex().upper()}\n" for i, h in enumerate(harmless)))
    out = run(
        LeagueConfig(workspace=tmp_path, bank=tmp_path / "bank.csv", benign=tmp_path / "fine.csv", out=tmp_path / "out")
    )
    result = json.loads((out / "bank.json").read_text())
    assert [result["by_distance"][d]["queries"] for d in (2, 3, 30, 31)] == [0, 1, 1, 3]
    worst = list(csv.reader((out / "worst_hashes.csv").open()))[1:]
    assert [(row[0], row[2]) for row in worst] == [("b2", "2"), ("b1", "1")]
    negative = list(csv.reader((out / "negative_bank.csv").open()))[1:]
    assert [(row[0], row[2], row[3]) for row in negative] == [("p0", "3", "b2"), ("p1", "31", "b2"), ("p2", "31", "b1")]
    assert "does not find crops" in (out / "bank.md").read_text()


@pytest.mark.parametrize("text", ["name,hash\na,12ab\n", f"x\n{'g' * 64}\n"])
def test_a_row_without_a_hash_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bank.csv"
    path.write_text(text)
    with pytest.raises(NdecError, match="line 2: no cell is a PDQ hash of 64 hex digits"):
        read_hashes(path)


def test_a_missing_or_empty_bank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file of hashes"):
        read_hashes(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("hash\n")
    with pytest.raises(NdecError, match="holds no PDQ hash"):
        read_hashes(tmp_path / "empty.csv")
