"""A bad annotator's labels are sent back: set aside with who, when and why, re-labelled by others, never deleted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.annotation import pull, push, resolve, send_back
from ndec_builder.annotation.label_studio import projects
from ndec_builder.annotation.label_studio.connection import Connection
from ndec_builder.annotation.send_back import chosen_labels, move_set_aside
from ndec_builder.annotation.settings import (
    PullConfig,
    PushConfig,
    ResolveConfig,
    SendBackConfig,
    StatusConfig,
)
from ndec_builder.annotation.status import status
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import LABEL_ROWS, SET_ASIDE, TASKS, table_of
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.demo.oracle import answer_all

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROWS = ("pair_id", "round", "annotator", "label", "annotated_at")


def world(count: int, overlap: int = 0) -> tuple[Any, Any]:
    """`count` pairs of `bad`, labelled a minute apart; ben has the first `overlap` of them too, and ten of his own."""
    given_: list[tuple[str, str]] = [(f"p{n}", "bad") for n in range(count)]
    given_ += [(f"p{n}", "ben") for n in range(overlap)] + [(f"b{n}", "ben") for n in range(10)] + [("c", "cleo")]
    tasks = [
        {"pair_id": pair, "round": "first", "annotator": name, "batch": 1, "position": number + 1, "is_gold": False}
        for number, (pair, name) in enumerate(given_)
    ]
    tasks.append(tasks[0] | {"pair_id": "gold", "is_gold": True})
    labels = [
        {"pair_id": pair, "round": "first", "annotator": "bad", "label": "hard_negative", "is_gold": pair == "gold",
         "annotated_at": NOON + timedelta(minutes=number)}
        for number, pair in enumerate([*(f"p{n}" for n in range(count)), "gold"])
    ]  # fmt: skip
    return table_of(TASKS, tasks), table_of(LABEL_ROWS, labels)


@pytest.mark.slow
@given(st.integers(1, 40), st.integers(0, 10), st.integers(0, 45))
def test_pairs_sent_back_reach_an_annotator_who_has_not_seen_them(count: int, overlap: int, since: int) -> None:
    overlap = min(overlap, count)
    tasks, labels = world(count, overlap)
    moment = NOON + timedelta(minutes=since)
    config = SendBackConfig(Path(), "bad", why="all 2", since=moment.isoformat())
    chosen = chosen_labels(config, labels, table_of(SET_ASIDE, []))
    assert {row["pair_id"] for row in chosen} == {f"p{n}" for n in range(since, count)} | (
        {"gold"} if since <= count else set()
    )
    aside = table_of(SET_ASIDE, [{name: row[name] for name in ROWS} for row in chosen])
    moved = move_set_aside(config, tasks, labels, aside)
    after = moved.tasks.to_pylist()
    back = {f"p{n}" for n in range(since, count)}
    assert not moved.stuck and moved.moved + moved.dropped == len(back)
    holders: dict[str, list[str]] = {}
    for row in after:
        holders.setdefault(row["pair_id"], []).append(row["annotator"])
    for pair in back:
        assert "bad" not in holders[pair] and len(holders[pair]) == len(set(holders[pair])) >= 1
    assert holders["gold"] == ["bad"]  # a measure of the person: it stays
    assert all(holders[f"p{n}"][0] == "bad" for n in range(min(since, count)))
    again = move_set_aside(config, moved.tasks, labels, aside)  # killed and run again: nothing moves twice
    assert again.moved == 0 and again.tasks.equals(moved.tasks)
    rest = chosen_labels(config, labels, aside)
    assert rest == []


def test_impossible_settings_are_refused(tmp_path: Path) -> None:
    for flags, message in (
        ({"why": " "}, "say why"),
        ({"why": "x", "since": "yesterday"}, "since is 'yesterday'"),
        ({"why": "x", "others": ("ann",)}, "cannot go to ann again"),
        ({"why": "x", "round": "second"}, "round is 'second'"),
    ):
        with pytest.raises(UsageError, match=message):
            SendBackConfig(tmp_path, "ann", **flags)  # type: ignore[arg-type]


@pytest.mark.server
def test_answering_two_in_under_a_second_is_flagged_and_sent_back(
    served: tuple[Workspace, Connection], make_candidates: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIMULATED: `lazy` answers hard_negative in 0.4 s each; `ann` answers by the truth; then cleo takes over."""
    workspace, connection = served
    pairs = make_candidates(workspace, count=72)
    push.run(PushConfig(workspace.root, annotators=("lazy", "ann"), overlap=0.0, image_url=connection.image_url))

    def truth(query_id: str, reference_id: str) -> str:
        return ("edited_copy", "hard_negative", "unrelated")[int(query_id[-3:]) % 3]

    client = connection.client()
    key = projects.project_key(workspace, "test", "first", "lazy")
    number = projects.find_projects(client)[key].id
    result = [{"from_name": "verdict", "to_name": "query", "type": "choices", "value": {"choices": ["hard_negative"]}}]
    for task in client.tasks.list(project=number, include="id"):
        client.annotations.create(id=task.id, result=result, lead_time=0.4)
    answer_all(workspace, "test", connection, truth, "ann")
    pull.run(PullConfig(workspace.root))
    (lazy,) = (row for row in status(StatusConfig(workspace.root)) if row["annotator"] == "lazy")
    assert "fast: 0.4 s" in lazy["flags"] and "one answer: hard_negative on 100%" in lazy["flags"]
    assert "ndec annotate send-back lazy" in lazy["flags"]

    before = AnnotationTables(workspace, "test").labels
    config = SendBackConfig(workspace.root, "lazy", why="all 2, 0.4 s each", by="dora", image_url=connection.image_url)
    with pytest.raises(NdecError, match="'zoe' has no label"):
        send_back.run(SendBackConfig(workspace.root, "zoe", why="x"))
    send_back.run(config)
    assert AnnotationTables(workspace, "test").labels.equals(before)  # append-only
    aside = AnnotationTables(workspace, "test").set_aside.to_pylist()
    assert len(aside) == 36 and {(row["by"], row["why"]) for row in aside} == {("dora", "all 2, 0.4 s each")}
    assert aside[0]["set_aside_at"] is not None and "36 labels of lazy are set aside" in capsys.readouterr().err
    assert set(AnnotationTables(workspace, "test").counting_labels["annotator"].to_pylist()) == {"ann"}
    rows = {row["annotator"]: row for row in status(StatusConfig(workspace.root))}
    assert set(rows) == {"ann"} and (rows["ann"]["pairs"], rows["ann"]["left"]) == (72, 36)
    with pytest.raises(NdecError, match=r"'lazy' has no label .* that counts"):
        send_back.run(replace(config, why="another reason"))
    send_back.run(config)  # after a kill at its last step, nobody knows whether it was finished
    assert "the same command set 36 labels of lazy aside" in capsys.readouterr().err

    # The pairs are in ann's queue in Label Studio, and end decided by the truth.
    assert answer_all(workspace, "test", connection, truth, "ann") == 36
    pull.run(PullConfig(workspace.root))
    decisions = read_table(resolve.run(ResolveConfig(workspace.root))).to_pylist()
    assert len(decisions) == len(pairs) and {row["labels"] for row in decisions} == {1}
    shown = read_table(workspace.candidates("test") / "candidates.parquet").to_pylist()
    by_pair = {row["pair_id"]: truth(row["query_id"], "") for row in shown}
    assert {row["pair_id"]: row["decision"] for row in decisions} == by_pair

    # ann is alone now: nobody could take her pairs, and nothing is changed.
    with pytest.raises(NdecError, match=r"nothing is sent back: .* can go to nobody: all"):
        send_back.run(SendBackConfig(workspace.root, "ann", why="test"))
    assert AnnotationTables(workspace, "test").set_aside.num_rows == 36
