"""`ndec embed --list-models`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ndec_builder.embeddings.model_kinds import MODEL_KINDS


def ndec(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ndec_builder", *arguments], capture_output=True, text=True)


@pytest.mark.slow
def test_list_models_needs_no_role_and_no_workspace() -> None:
    text = ndec("embed", "--list-models").stdout
    for row in MODEL_KINDS.values():
        assert row.form in text and row.needs in text and row.license in text and row.commercial in text
    listed = json.loads(ndec("embed", "--list-models", "--json").stdout)["models"]
    assert [row["kind"] for row in listed] == list(MODEL_KINDS)
    assert {row["kind"]: row["commercial"] for row in listed}["multigrain"] == "no"


@pytest.mark.slow
def test_without_a_role_embed_is_a_usage_error() -> None:
    done = ndec("embed")
    assert done.returncode == 2 and "ndec embed reference" in done.stderr and not done.stdout
