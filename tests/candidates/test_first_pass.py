"""The promise of every exact first pass: what it leaves out is below a floor, or not above the query's bound."""

from __future__ import annotations

import tracemalloc
from unittest import mock

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.candidates.search import bf16, first_pass
from ndec_builder.candidates.search.bf16 import Bf16Error, Bf16Pass
from ndec_builder.candidates.search.exact import pairs_above, top_pairs
from ndec_builder.candidates.search.faiss_flat import FlatPass, GpuPass
from ndec_builder.candidates.search.first_pass import choose
from ndec_builder.candidates.search.proposals import SearchRequest
from ndec_builder.core.errors import UsageError
from support.needs import missing


def unit16(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def make(kind, references, tile):
    try:
        return Bf16Pass(references, tile) if kind == "bf16" else FlatPass(references, tile)
    except Bf16Error as error:
        missing(str(error))


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["bf16", "faiss"]), st.integers(1, 70), st.integers(1, 12))
def test_what_is_left_out_is_below_a_floor_or_the_bound(seed, kind, tile, depth):
    rng = np.random.default_rng(seed)
    n, m, d = rng.integers(1, [40, 90, 40]).tolist()
    queries, references = rng.normal(size=(n, d)), rng.normal(size=(m, d))
    if rng.random() < 0.5:  # close to one another: differences vanish in bf16
        queries, references = queries / 50 + queries[0], references / 50 + queries[0]
    queries, references = unit16(queries), unit16(references)
    exact = (queries.astype(np.float64) @ references.astype(np.float64).T).astype(np.float32)
    floors = [rng.choice(np.array([-np.inf, -0.5, 0, 0.1, np.median(exact)], np.float32), size) for size in (m, n)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rough = make(kind, references, tile).search(queries, SearchRequest(*floors, min(depth, m)))
    torch.set_num_threads(threads)
    found = set(zip(rough.rows.tolist(), rough.columns.tolist(), strict=True))
    assert len(found) == len(rough.rows)
    wanted = (exact >= floors[0][None]) & (exact >= floors[1][:, None]) & (exact > rough.bounds[:, None])
    assert {(int(q), int(r)) for q, r in np.argwhere(wanted)} <= found


def test_a_sum_that_bf16_rounds_down_still_counts(monkeypatch):
    """1 + 2**-8 is half way between two bf16 numbers and rounds to 1: no input is rounded, only the sum is."""
    queries = np.array([[1, 1]], np.float16)
    references = np.array([[1, 2.0**-9]] * 200 + [[1, 2.0**-8]] * 3, np.float16)
    monkeypatch.setattr(
        "ndec_builder.candidates.search.exact.choose", lambda _, __, vectors: make("bf16", vectors, 512)
    )
    assert sorted(pairs_above(queries, references, 1.003).references) == [200, 201, 202]


def test_products_that_are_off_are_noticed(monkeypatch):
    rng = np.random.default_rng(0)
    references = unit16(rng.normal(size=(300, 64)))
    real = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b: real(a, b) * 1.02)
    with pytest.raises(Bf16Error, match="the error of bf16 scores"):
        Bf16Pass(references)
    monkeypatch.setattr(first_pass, "has_bf16", lambda: True)
    monkeypatch.setattr(first_pass, "_SMALL", 0)
    monkeypatch.setattr(first_pass, "gpus", lambda: 0)
    assert isinstance(choose("auto", (10, 64), references), FlatPass)  # says so and goes on


def test_the_choice(monkeypatch, tmp_path):
    references = unit16(np.random.default_rng(0).normal(size=(30, 8)))
    monkeypatch.setattr(first_pass, "gpus", lambda: 0)
    assert isinstance(choose("auto", (10, 8), references), FlatPass)  # too small to load torch for
    monkeypatch.setattr(first_pass, "_SMALL", 0)
    for has, kind in ((True, Bf16Pass), (False, FlatPass)):
        monkeypatch.setattr(first_pass, "has_bf16", lambda has=has: has)
        assert isinstance(choose("auto", (10, 8), references), kind)
        assert isinstance(choose("faiss", (10, 8), references), FlatPass)
    with pytest.raises(UsageError, match="neither amx_bf16 nor avx512_bf16"):
        choose("bf16", (10, 8), references)
    with pytest.raises(UsageError, match="'flat' is unknown; it is one of auto, bf16, faiss"):
        choose("flat", (10, 8), references)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    for flags, has in (("flags : avx2 amx_bf16 amx_tile", True), ("flags: avx512_bf16", True), ("flags: avx2", False)):
        (tmp_path / "cpuinfo").write_text(flags)
        monkeypatch.setattr(bf16, "CPU_FLAGS", tmp_path / "cpuinfo")
        assert bf16.has_bf16() is has
    (tmp_path / "cpuinfo").write_text("flags: avx512_bf16")
    for limit, has in (("AVX2", False), ("avx512_core_vnni", False), ("AVX512_CORE_BF16", True), ("DEFAULT", True)):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
        assert bf16.has_bf16() is has
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(bf16, "CPU_FLAGS", tmp_path / "absent")
    assert not bf16.has_bf16()


def test_further_tiles_allocate_no_array_of_their_size():
    """Arrays of some MB that are made and freed for each tile leave gaps in the heap: a worker would grow."""
    rng = np.random.default_rng(4)
    references = unit16(rng.normal(size=(2048, 32)))
    wanted = SearchRequest(np.full(2048, 0.9, np.float32), np.full(1024, 0.9, np.float32), 8)
    sizes: list[int] = []
    engine, keep = make("bf16", references, 1024), bf16._keep_reached

    def measured(*given):
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        keep(*given)
        sizes.append(tracemalloc.get_traced_memory()[1] - before)

    with mock.patch.object(bf16, "_keep_reached", measured):
        tracemalloc.start()
        engine.search(references[:1024], wanted)
        tracemalloc.stop()
    assert len(sizes) == 2
    assert max(sizes) < 1024 * 1024 / 4  # a mask of a tile has 1 MiB


@pytest.mark.gpu
def test_all_gpus_find_the_same_pairs():
    if not (hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus()):
        pytest.skip("no GPU that FAISS sees")
    rng = np.random.default_rng(3)
    references, queries = unit16(rng.normal(size=(5000, 128))), unit16(rng.normal(size=(3000, 128)))
    names = [f"{i:04d}" for i in range(5000)]
    want, got = (
        top_pairs(names[:3000], queries, names, references, top=1000, block=700, engine=kind(references))
        for kind in (FlatPass, GpuPass)
    )
    for name in ("queries", "references", "scores"):
        assert getattr(got, name).tobytes() == getattr(want, name).tobytes()
