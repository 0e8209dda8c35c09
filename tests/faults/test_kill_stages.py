"""The fault runs over the real commands at a small size; the scripts in this folder run the full size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ndec_builder.annotation.label_studio.connection import Connection
from support.warm import Done, Warm

pytestmark = pytest.mark.slow


def run(warm: Warm, label_studio: Connection, script: str, *arguments: str) -> Done:
    where = {"LABEL_STUDIO_URL": label_studio.url, "LABEL_STUDIO_API_KEY": label_studio.token}
    return warm.script(script, arguments, Path.cwd(), where)


@pytest.mark.server
def test_six_kills_of_each_stage_change_no_byte(warm: Warm, label_studio: Connection) -> None:
    done = run(warm, label_studio, "kill_stages", "--quick", "--kills", "6", "--chain", "6")
    assert done.returncode == 0, done.text[-3000:]
    assert "60 kills in all" in done.text


@pytest.fixture(scope="module")
def bad_worlds(warm: Warm, label_studio: Connection) -> list[dict[str, object]]:
    done = run(warm, label_studio, "bad_worlds", "--quick", "--json")
    found: list[dict[str, object]] = json.loads(done.text.splitlines()[-1])
    return found


@pytest.mark.server
@pytest.mark.parametrize(
    ("fault", "least"),
    [
        ("full disk (file size limit)", 7),
        ("full disk (tmpfs)", 0),  # where this user may not mount there is none
        ("read-only folder", 3),
        ("clock that jumps", 3),
        ("two commands at once", 3),
        ("store that fails", 1),
        ("Label Studio is gone", 1),
        ("Label Studio cut off", 1),
        ("slow Label Studio", 1),
    ],
)
def test_a_bad_world_is_told_and_costs_nothing(bad_worlds: list[dict[str, object]], fault: str, least: int) -> None:
    found = [one for one in bad_worlds if str(one["fault"]).startswith(fault)]
    assert len(found) >= least, bad_worlds
    assert all(one["fine"] for one in found), found
