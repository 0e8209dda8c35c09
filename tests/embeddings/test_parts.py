"""Parts hold the same rows in the same files, however they were cut before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.core.storage import read_table
from ndec_builder.embeddings.parts import read_shard, write_part, write_parts


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=6), st.integers(1, 9))
def test_parts_do_not_depend_on_the_shards(tmp_path_factory, sizes: list[int], size: int) -> None:
    folder: Path = tmp_path_factory.mktemp("parts")
    vectors = np.random.default_rng(0).standard_normal((sum(sizes), 3)).astype(np.float32)
    ids = [f"i{row}" for row in range(len(vectors))]
    start = 0
    for number, count in enumerate(sizes):
        write_part(folder, f"shard-{number}", ids[start : start + count], vectors[start : start + count])
        start += count
    (folder / "part-00099.npy").touch()  # of an earlier run
    count = write_parts(folder, (read_shard(folder, f"shard-{number}") for number in range(len(sizes))), size)
    assert count == -(-len(vectors) // size)
    assert len(list(folder.glob("part-*"))) == 2 * count
    write_part(folder, "whole", ids, vectors)
    for index in range(count):
        rows = slice(index * size, (index + 1) * size)
        part, table = read_shard(folder, f"part-{index:05d}")
        assert part.tobytes() == np.load(folder / "whole.npy")[rows].tobytes()
        assert table["image_id"].to_pylist() == ids[rows]
        assert table.equals(read_table(folder / "whole.parquet").slice(rows.start, len(part)))
