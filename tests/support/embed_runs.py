"""What a run of `ndec embed` did and wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndec_builder.core.executor.plan import Shard
from ndec_builder.embeddings import embed


def results(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file() and path.name != "run.json"}


def count_work(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record which shards are worked on."""
    done: list[int] = []
    work = embed.EmbedShard.__call__

    def counted(self: embed.EmbedShard, shard: Shard) -> object:
        done.append(shard.index)
        return work(self, shard)

    monkeypatch.setattr(embed.EmbedShard, "__call__", counted)
    return done
