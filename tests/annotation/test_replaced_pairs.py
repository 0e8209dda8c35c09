"""A picture is replaced after its pair was given out: nothing is lost, and the pair is asked again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import requests

from ndec_builder.annotation import resolve
from ndec_builder.annotation.assignment.replaced_pairs import replaced_pairs
from ndec_builder.annotation.settings import ResolveConfig, StatusConfig
from ndec_builder.annotation.status import former_text, status
from ndec_builder.annotation.upkeep import check
from ndec_builder.annotation.upkeep.settings import CheckConfig
from ndec_builder.annotation.web.image_server import MISSING_HEADER, ImageServer
from ndec_builder.annotation.web.pictures import Pictures
from ndec_builder.core.schemas import IMAGES, table_of
from ndec_builder.core.storage import read_json, read_table
from ndec_builder.manifests.writing.gather import _decisions
from support.replaced_picture import QUERY, Team, labelled_pair, list_images, pair_of_query, replace_picture, said

pytestmark = pytest.mark.slow


def test_both_annotators_are_asked_again_and_no_label_is_lost(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    team.push("ann", "ben", overlap=1.0)
    pair = pair_of_query(team)
    team.answer("ann", "hard_negative")
    team.pull()
    before = team.tables.labels
    replace_picture(team.workspace, "pool", QUERY, 900)
    capsys.readouterr()
    (line,) = former_text(StatusConfig(team.workspace.root))
    assert "1 labelled pair shows other pictures now: an image was replaced under the same id" in line
    assert f"(first pair: {pair})" in line
    assert "`ndec annotate push --split test` asks again: 1" in line

    team.answer("ben", "edited_copy", pairs=[pair])  # on a page that was opened before
    team.pull()
    text = said(capsys)
    assert "1 label is about pictures that were replaced after the task was made: stored, and not counted" in text
    team.push()
    text = said(capsys)
    assert "asked again by a new task: 2" in text and "2 sent to" in text
    run = read_json(team.workspace.annotation("test") / "run.json")
    assert run["counts"]["replaced"]["asked"] == 2 and run["counts"]["imported"] == 2
    tables = team.tables
    assert tables.labels.slice(0, before.num_rows).equals(before)  # append-only
    (late,) = tables.labels.slice(before.num_rows).to_pylist()
    assert (late["pair_id"], late["annotator"], late["label"]) == (pair, "ben", "edited_copy")
    assert [late["pictures"]] == [row["pictures"] for row in before.to_pylist() if row["pair_id"] == pair]
    assert pair not in tables.counting_labels["pair_id"].to_pylist() and tables.incidents.num_rows == 0
    assert team.open("ann") == [pair] and sorted(team.open("ben")).count(pair) == 1
    rows = {row["annotator"]: row for row in status(StatusConfig(team.workspace.root))}
    assert rows["ann"]["left"] == 1
    found = replaced_pairs(tables)
    assert found is not None and (found.asked, found.pairs) == (2, 1)

    state = team.server.state()
    team.push()  # nothing is left to do
    after = team.server.state()
    assert after["tasks"].keys() == state["tasks"].keys() and team.tables.labels.num_rows == tables.labels.num_rows

    team.answer("ann", "unrelated")
    team.answer("ben", "unrelated")
    team.pull()
    team.pull(everything=True)
    assert Counter(team.tables.labels["label"].to_pylist()) == {"hard_negative": 6, "edited_copy": 1, "unrelated": 7}
    assert team.tables.incidents.num_rows == 0
    capsys.readouterr()
    resolve.run(ResolveConfig(team.workspace.root))
    assert "other pictures now" not in said(capsys)
    decisions = {row["pair_id"]: row["decision"] for row in team.tables.decisions.to_pylist()}
    assert decisions[pair] == "unrelated" and len(decisions) == 6
    check.run(CheckConfig(team.workspace.root))
    found = read_json(team.workspace.annotation("test") / "check.json")
    assert set(found["differences_to_label_studio"].values()) == {0} and not found["problems"]


def test_an_open_task_is_taken_back_and_its_new_one_shows_the_new_picture(
    team: Team, capsys: pytest.CaptureFixture[str]
) -> None:
    team.push("ann")
    pair = pair_of_query(team)
    (old,) = team.tasks("ann", pair=pair)
    with ImageServer(team.workspace, 0) as images:
        former = images.url + old["data"]["query"].partition("/pair/")[2].join(["/pair/", ""])
        shown = requests.get(former)
        assert shown.ok and MISSING_HEADER not in shown.headers
        replace_picture(team.workspace, "pool", QUERY, 901)
        gone = requests.get(former)
        assert gone.headers[MISSING_HEADER] == "1" and gone.content != shown.content
        team.push()
        assert "1 open task showed a picture that was replaced since: taken back" in said(capsys)
        (new,) = team.tasks("ann", pair=pair)
        assert new["id"] != old["id"] and len(team.tasks("ann")) == 6
        now = requests.get(images.url + "/pair/" + new["data"]["query"].partition("/pair/")[2])
        assert now.ok and MISSING_HEADER not in now.headers and now.content not in (shown.content, gone.content)
        assert "max-age" in now.headers["Cache-Control"]
        plain = requests.get(f"{images.url}/pair/{pair}/query")  # the address of a task of an older version
        assert plain.content == now.content and plain.headers["Cache-Control"] == "no-store"
    assert team.tables.incidents.num_rows == 0


def test_the_old_bytes_again_make_the_old_label_count_again(team: Team) -> None:
    pair = labelled_pair(team)
    kept = (team.workspace.files("pool") / f"{QUERY}.jpg").read_bytes()
    assert kept
    replace_picture(team.workspace, "pool", QUERY, 902)
    team.push()
    assert team.open("ann") == [pair]
    replace_picture(team.workspace, "pool", QUERY, 3)  # pool-003 is scene 3
    assert (team.workspace.files("pool") / f"{QUERY}.jpg").read_bytes() == kept
    assert pair in team.tables.counting_labels["pair_id"].to_pylist()
    team.push()
    assert team.open("ann") == [] and replaced_pairs(team.tables) is None
    assert team.tables.labels.num_rows == 6 and team.tables.incidents.num_rows == 0


def adjudicated_pair(team: Team) -> str:
    """Ann, ben (double-check) and cat (adjudication) label all pairs differently; returns the pair of QUERY."""
    pair = labelled_pair(team)
    team.push("ben", round_="double_check", double_check="all")
    team.answer("ben", "edited_copy", "double_check")
    team.pull()
    team.push("cat", round_="adjudication")
    team.answer("cat", "unrelated", "adjudication")
    team.pull()
    return pair


def test_later_rounds_wait_for_the_labels_that_they_check(team: Team) -> None:
    """A double-check follows a first label, and an adjudication labels that differ."""
    pair = adjudicated_pair(team)
    replace_picture(team.workspace, "pool", QUERY, 903)
    team.push("ann")
    found = replaced_pairs(team.tables)
    assert found is not None and (found.asked, found.later, found.pairs) == (1, 2, 1)
    assert [team.open("ann"), team.open("ben", "double_check"), team.open("cat", "adjudication")] == [[pair], [], []]
    rows = {row["annotator"]: row["left"] for row in status(StatusConfig(team.workspace.root))}
    assert rows == {"ann": 1, "ben": 0, "cat": 0}
    team.answer("ann", "hard_negative")
    team.pull()
    team.push("ben", round_="double_check", double_check="all")
    assert [team.open("ben", "double_check"), team.open("cat", "adjudication")] == [[pair], []]
    team.answer("ben", "edited_copy", "double_check")
    team.pull()
    team.push("cat", round_="adjudication")
    assert team.open("cat", "adjudication") == [pair]
    team.answer("cat", "edited_copy", "adjudication")
    team.pull()
    assert replaced_pairs(team.tables) is None and team.tables.labels.num_rows == 3 * 7
    resolve.run(ResolveConfig(team.workspace.root))
    assert {r["decision"] for r in team.tables.decisions.to_pylist() if r["pair_id"] == pair} == {"edited_copy"}


def test_nobody_adjudicates_labels_that_agree_since_a_correction(team: Team) -> None:
    pair = adjudicated_pair(team)
    replace_picture(team.workspace, "pool", QUERY, 911)
    team.push("ann")
    team.answer("ann", "hard_negative")
    team.pull()
    team.push("ben", round_="double_check", double_check="all")
    team.answer("ben", "edited_copy", "double_check")
    team.pull()
    task = team.tasks("ann", pair=pair)[-1]
    assert team.server.label(task["project"], pair, "edited_copy", task=task["id"])
    team.pull()
    assert [row["label"] for row in team.tables.counting_labels.to_pylist() if row["pair_id"] == pair] == [
        "hard_negative", "edited_copy", "edited_copy",
    ]  # fmt: skip
    team.push("ann")
    found = replaced_pairs(team.tables)
    assert team.open("cat", "adjudication") == [] and found is not None and (found.asked, found.later) == (0, 1)


def test_a_pair_that_is_no_longer_mined_is_counted_and_not_asked_again(
    team: Team, make_candidates: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = labelled_pair(team)
    replace_picture(team.workspace, "pool", QUERY, 904)
    make_candidates(team.workspace, count=3)  # pool-000 to pool-002
    capsys.readouterr()
    team.push("ann")
    assert "not asked again, because the pair is no longer mined" in (text := said(capsys))
    assert "open pair is no longer among the mined" not in text
    found = replaced_pairs(team.tables)
    assert team.open("ann") == [] and found is not None and (found.asked, found.later, found.first) == (0, 1, pair)


def test_a_skipped_pair_is_offered_with_the_new_picture(team: Team) -> None:
    team.push("ann")
    pair = pair_of_query(team)
    team.answer("ann", None, pairs=[pair])
    team.pull()
    replace_picture(team.workspace, "pool", QUERY, 906)
    team.push("ann")
    (task,) = team.tasks("ann", pair=pair)
    assert (
        not task["annotations"] and task["data"]["pictures"] == team.tables.shown.tags({pair: images(team, pair)})[pair]
    )
    team.answer("ann", "unrelated", pairs=[pair])
    team.pull()
    assert team.tables.counting_labels["pair_id"].to_pylist() == [pair] and not team.tables.skipped


def test_a_pair_is_asked_again_if_a_picture_has_another_rotation(
    team: Team, capsys: pytest.CaptureFixture[str]
) -> None:
    """A metadata csv that came later: people had seen the picture upside down, and browsers keep what they showed."""
    pair = labelled_pair(team)
    path = team.workspace.images("pool")
    rows = read_table(path).to_pylist()
    turned = [row | {"rotation": 180} if row["image_id"] == QUERY else row for row in rows]
    list_images(team.workspace, "pool", table_of(IMAGES, turned))
    team.push("ann")
    assert "1 labelled pair shows other pictures now" in said(capsys)
    old, new = team.tasks("ann", pair=pair)
    assert team.open("ann") == [pair] and old["data"]["pictures"] != new["data"]["pictures"]
    assert old["data"]["query"] != new["data"]["query"]
    keys = ("pool", QUERY), ("reference", images(team, pair)[1])
    shown = [Pictures(team.workspace).are_shown(task["data"]["pictures"], *keys) for task in (old, new)]
    assert shown == [False, True]
    team.answer("ann", "edited_copy")
    team.pull()
    count = [row["label"] for row in team.tables.counting_labels.to_pylist() if row["pair_id"] == pair]
    assert count == ["edited_copy"]
    list_images(team.workspace, "pool", table_of(IMAGES, rows))
    count = [row["label"] for row in team.tables.counting_labels.to_pylist() if row["pair_id"] == pair]
    assert count == ["hard_negative"]  # as with bytes that return


def test_a_skip_of_the_old_picture_gives_the_new_one_to_somebody_else(team: Team) -> None:
    team.push("ann", "ben")
    pair = pair_of_query(team)
    (skipper,) = (name for name in ("ann", "ben") if pair in team.open(name))
    team.answer(skipper, None, pairs=[pair])
    team.pull()
    replace_picture(team.workspace, "pool", QUERY, 907)
    team.push()
    other = {"ann": "ben", "ben": "ann"}[skipper]
    (task,) = team.tasks(other, pair=pair)
    assert task["data"]["pictures"] == team.tables.shown.tags({pair: images(team, pair)})[pair]
    assert pair not in team.open(skipper) and pair in team.open(other)


def images(team: Team, pair: str) -> tuple[str, str]:
    (row,) = (row for row in team.tables.tasks.to_pylist() if row["pair_id"] == pair)
    return row["query_id"], row["reference_id"]


def test_a_gold_pair_has_a_tag_like_every_other(make_team: Callable[..., Team]) -> None:
    team = make_team(size=(320, 240))
    team.push("ann", gold=0.4)
    tasks = team.tasks("ann")
    assert len(tasks) > 6 and {len(task["data"]["pictures"]) for task in tasks} == {8}
    assert len({frozenset(task["data"]) for task in tasks}) == 1


def test_an_export_says_what_it_leaves_out(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    pair = labelled_pair(team)
    resolve.run(ResolveConfig(team.workspace.root))
    replace_picture(team.workspace, "pool", QUERY, 907)
    capsys.readouterr()
    kept = _decisions(team.workspace, "test")["pair_id"].to_pylist()
    assert pair not in kept and len(kept) == 5
    text = said(capsys)
    assert "split test: 1 labelled pair is left out" in text and f"(first pair: {pair})" in text
    assert "`ndec annotate push --split test` asks again" in text
