"""The verbs around a dataset as a person types them: what they print, and how they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ndec_builder.cli import app
from ndec_builder.core.errors import NdecError
from support.damages import LINKED
from support.decided_world import World


def ndec(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def directory(world: World) -> Path:
    done = ndec("export", "-w", world.workspace.root, "--distractors", 2, "--authors", "Ann; Bob")
    assert done.exit_code == 0, done.output
    return Path(done.stdout.strip())


@pytest.mark.slow
def test_validate_as_json(directory: Path) -> None:
    done = ndec("validate", directory, "--json")
    answer = json.loads(done.stdout)
    assert (
        done.exit_code == 0 and answer["valid"] and [entry["code"] for entry in answer["findings"]] == ["M401", "M403"]
    )
    LINKED["a pair twice"][1](directory)
    LINKED["an image file changed"][1](directory)
    done = ndec("validate", directory, "--json", "--no-images")
    answer = json.loads(done.stdout)
    codes = {entry["code"]: entry for entry in answer["findings"]}
    assert done.exit_code == 1 and not answer["valid"] and "M202" in codes and "M305" not in codes
    assert {"code", "severity", "what", "remedy", "count", "rows"} == codes["M202"].keys()
    done = ndec("validate", directory)
    assert isinstance(done.exception, NdecError) and "M305 error" in str(done.exception) and done.stdout == ""


@pytest.mark.slow
def test_diff_says_whether_the_version_is_raised_enough(world: World, directory: Path) -> None:
    assert ndec("diff", directory, directory).stdout.endswith("it is raised enough\n")
    other = Path(ndec("export", "-w", world.workspace.root, "--version", "1.0.1").stdout.strip())
    done = ndec("diff", directory, other)
    assert done.exit_code == 1 and "queries: 0 added, 2 removed, 0 changed" in done.stdout
    answer = json.loads(ndec("diff", directory, other, "--json").stdout)
    assert answer["needed"] == "major" and not answer["adequate"]


@pytest.mark.slow
def test_packed_attributed_and_released(world: World, directory: Path, tmp_path: Path) -> None:
    root = world.workspace.root
    packed = ndec(
        "export", "-w", root, "--name", "packed", "--materialize", "tar", "--resize", 20, "--image-format", "png"
    )
    assert packed.exit_code == 0, packed.output
    assert ndec("export", "-w", root, "--materialize", "rar").exception.exit_code == 2  # type: ignore[union-attr]
    apart = ndec("export", "-w", root, "--name", "apart", "--attribution-only", "--json")
    made = Path(json.loads(apart.stdout)["result"])
    (tmp_path / "ndec.toml").write_text("[fetch]\nretries = 0\ndelay = 0.0\ntimeout = 0.2\n")
    for path in (made / "data").rglob("*.parquet"):
        assert path.is_file()
    done = ndec("fetch", directory)
    assert done.exception.exit_code == 2 and "not attribution-only" in str(done.exception)  # type: ignore[union-attr]
    done = ndec("export-release", directory, "--out", tmp_path / "layout", "--json")
    assert json.loads(done.stdout)["result"] == str(tmp_path / "layout")
    assert sorted(path.name for path in (tmp_path / "layout").iterdir()) == [
        "negative_pair",
        "public_ground_truth_h5.csv",
        "query_images_h5",
    ]


def test_export_results_names_what_is_no_report(tmp_path: Path) -> None:
    done = ndec("export-results", tmp_path, "--format", "trec")
    assert done.exception.exit_code == 2 and "is not a report" in str(done.exception)  # type: ignore[union-attr]
