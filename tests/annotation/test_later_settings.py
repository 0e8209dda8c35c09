"""Commands that are run again with other settings, and people who come and go in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ndec_builder.annotation import leave, pull, push, resolve, send_back
from ndec_builder.annotation.label_studio import projects
from ndec_builder.annotation.label_studio.connection import other_addresses
from ndec_builder.annotation.label_studio.server_snapshot import ServerSnapshot
from ndec_builder.annotation.push_options import PushOptions
from ndec_builder.annotation.settings import LeaveConfig, PullConfig, PushConfig, ResolveConfig, SendBackConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.annotation.upkeep import forget
from ndec_builder.annotation.upkeep.settings import ForgetConfig
from ndec_builder.core.workspace import Workspace
from support.fake_label_studio import TOKEN, FakeLabelStudio


@pytest.fixture
def bench(
    tmp_path: Path, fake_label_studio: FakeLabelStudio, make_candidates: Any, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    fake_label_studio.reset()
    monkeypatch.setenv("LABEL_STUDIO_URL", fake_label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    workspace = Workspace(tmp_path / "ws")
    make_candidates(workspace, count=12)
    return workspace


def holders(workspace: Workspace) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in AnnotationTables(workspace, "test").tasks.to_pylist():
        found.setdefault(row["annotator"], set()).add(row["pair_id"])
    return found


def label_all(workspace: Workspace, server: FakeLabelStudio, annotator: str, choice: str) -> None:
    key = projects.project_key(workspace, "test", "first", annotator)
    (number,) = [n for n, one in server.state()["projects"].items() if one["description"].endswith(key)]
    for pair in holders(workspace)[annotator]:
        assert server.label(number, pair, choice)


def test_pairs_do_not_go_to_somebody_who_left(bench: Workspace, fake_label_studio: FakeLabelStudio) -> None:
    push.run(PushConfig(bench.root, annotators=("ann", "ben", "cleo"), overlap=0.0))
    label_all(bench, fake_label_studio, "ben", "hard_negative")
    label_all(bench, fake_label_studio, "cleo", "hard_negative")
    pull.run(PullConfig(bench.root))
    leave.run(LeaveConfig(bench.root, "ben"))
    before = holders(bench)
    leave.run(LeaveConfig(bench.root, "ann"))
    assert holders(bench) == {"ben": before["ben"], "cleo": before["cleo"] | before["ann"]}
    send_back.run(SendBackConfig(bench.root, "cleo", why="trial", others=("dan",)))
    assert "ben" not in {name for name, pairs in holders(bench).items() if pairs != before.get(name, pairs)}


def test_a_newcomer_does_not_get_a_pair_that_was_labelled_by_the_same_person_before(
    bench: Workspace, fake_label_studio: FakeLabelStudio
) -> None:
    push.run(PushConfig(bench.root, annotators=("ann", "ben"), overlap=0.0))
    label_all(bench, fake_label_studio, "ann", "hard_negative")
    pull.run(PullConfig(bench.root))
    send_back.run(SendBackConfig(bench.root, "ann", why="trial", others=("ben",)))
    seen = {row["pair_id"] for row in AnnotationTables(bench, "test").labels.to_pylist()}
    label_all(bench, fake_label_studio, "ben", "hard_negative")
    pull.run(PullConfig(bench.root))
    push.run(PushConfig(bench.root, round="double_check", annotators=("cleo",)))
    push.run(PushConfig(bench.root, round="double_check", annotators=("ann",)))
    given = {
        row["pair_id"]
        for row in AnnotationTables(bench, "test").tasks.to_pylist()
        if (row["round"], row["annotator"]) == ("double_check", "ann")
    }
    assert given and not given & seen


def test_a_push_without_a_slice_keeps_where_the_slice_was_drawn() -> None:
    drawn = PushOptions().after_push(False, 0.7, 200)
    later = drawn.after_push(True, 0.9, 0)
    assert (later.check_above, later.check_pairs) == (0.7, 200)
    assert later.after_push(False, 0.8, 300).check_above == 0.8
    assert PushOptions().after_push(False, 0.9, 0).check_above == 1.0  # none was drawn


@pytest.mark.parametrize("first", [True, False])
def test_hints_that_are_switched_later_are_said(
    bench: Workspace, capsys: pytest.CaptureFixture[str], first: bool
) -> None:
    push.run(PushConfig(bench.root, annotators=("ann",), hints=first, count=4))
    push.run(PushConfig(bench.root, annotators=("ann",), hints=first, count=4))
    assert "hints are" not in capsys.readouterr().err
    push.run(PushConfig(bench.root, annotators=("ann",), hints=not first, count=4))
    said = " ".join(capsys.readouterr().err.split())
    assert ("pairs that were sent with a hint still show it" in said) == first
    assert ("was made without them, and its page shows none" in said) == (not first)


def test_the_address_that_tasks_were_sent_with_is_remembered_unless_it_is_one_of_the_users_own(
    bench: Workspace,
) -> None:
    push.run(PushConfig(bench.root, annotators=("ann",), count=4, image_url="https://pictures.example/"))
    assert other_addresses(bench, "http://127.0.0.1:8701/key/k") == []
    push.run(PushConfig(bench.root, annotators=("ann",), count=4))
    assert other_addresses(bench, "http://127.0.0.1:8701/key/k") == []
    assert other_addresses(bench, "http://127.0.0.1:8801/key/k") == ["http://127.0.0.1:8701"]


def test_nobody_gets_an_account_under_a_pseudonym(
    bench: Workspace, fake_label_studio: FakeLabelStudio, make_candidates: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(push, "make_accounts", lambda _, names: asked.append(list(names)) or {})
    push.run(PushConfig(bench.root, annotators=("ann", "ben"), overlap=0.0))
    label_all(bench, fake_label_studio, "ann", "unsure")
    label_all(bench, fake_label_studio, "ben", "unsure")
    pull.run(PullConfig(bench.root))
    forget.run(ForgetConfig(bench.root, "ann"))
    make_candidates(bench, count=14)
    before = holders(bench)
    push.run(PushConfig(bench.root))
    assert asked == [["ann", "ben"], ["ben"]]
    assert {name for name, pairs in holders(bench).items() if pairs != before[name]} == {"ben"}


def test_decisions_by_another_plan_than_that_of_the_pushes_are_said(
    bench: Workspace, fake_label_studio: FakeLabelStudio, capsys: pytest.CaptureFixture[str]
) -> None:
    push.run(PushConfig(bench.root, annotators=("ann",)))
    label_all(bench, fake_label_studio, "ann", "hard_negative")
    pull.run(PullConfig(bench.root))
    resolve.run(ResolveConfig(bench.root, plan="economical"))  # the first round does not depend on decisions
    assert "decide =" not in capsys.readouterr().err
    push.run(PushConfig(bench.root, round="audit", annotators=("ben",), plan="economical"))
    resolve.run(ResolveConfig(bench.root, plan="economical"))
    assert "decide =" not in capsys.readouterr().err
    resolve.run(ResolveConfig(bench.root))
    assert "given to annotators with decide = weighed, and this resolves with decide = agreement" in " ".join(
        capsys.readouterr().err.split()
    )


def test_the_address_is_remembered_if_the_push_dies_after_the_import(
    bench: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PushConfig(bench.root, annotators=("ann",))
    with monkeypatch.context() as patch:
        patch.setattr(ServerSnapshot, "write", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            push.run(config)
    push.run(config)  # sends nothing
    assert other_addresses(bench, "http://127.0.0.1:8801/key/k") == ["http://127.0.0.1:8701"]
