"""Settings that do not go together are refused before any work, with exit code 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ndec_builder.core.errors import UsageError
from ndec_builder.evaluation.settings import BenchmarkConfig

P = Path("x")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": "m"}, "needs a dataset"),
        ({"model": "m", "queries": P, "references": P}, "given: --queries, --references"),
        ({"model": "m", "manifest": P, "queries": P}, "not both"),
        ({"manifest": P}, "exactly one source .* given: none"),
        ({"manifest": P, "model": "m", "predictions": P}, "given: --model, --predictions"),
        ({"manifest": P, "model": "m", "scorer": "cosin"}, "did you mean 'cosine'"),
        ({"manifest": P, "model": "m", "scope": "top"}, "scope is 'top'; it must be all or topN"),
        ({"manifest": P, "model": "m", "action": "delete"}, "action is 'delete'"),
        ({"manifest": P, "model": "m", "scorer": "asl"}, "--asl-checkpoint"),
        ({"manifest": P, "model": "m", "asl_checkpoint": P}, "by --scorer asl only"),
        ({"manifest": P, "predictions": P, "k": 3}, "belong to a search"),
        ({"manifest": P, "model": "m", "k": 0}, "k is 0; it must be at least 1"),
        ({"manifest": P, "model": "m", "n": -1}, "n is -1"),
        ({"manifest": P, "model": "m", "replicates": 5}, "replicates is 5; it must be at least 100"),
        ({"manifest": P, "model": "m", "threshold": 0.0}, "threshold is 0.0; it must be above 0"),
    ],
)
def test_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        BenchmarkConfig(workspace=P, **fields).check()
    assert caught.value.exit_code == 2


def test_accepted() -> None:
    BenchmarkConfig(workspace=P, manifest=P, checkpoint=P, scorer="asl").check()
    BenchmarkConfig(workspace=P, manifest=P, predictions=P, scorer="asl", asl_checkpoint=P).check()
    BenchmarkConfig(workspace=P, queries=P, references=P, ground_truth=P, model="m", k=10).check()
