"""The labelling page in a real browser: one key per pair, back, drafts, pre-labels, missing pictures, aligned views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ndec_builder.annotation import pull, push
from ndec_builder.annotation.label_studio import projects
from ndec_builder.annotation.label_studio.connection import Connection
from ndec_builder.annotation.settings import PullConfig, PushConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.schemas import CANDIDATES, IMAGES, pair_id, table_of
from ndec_builder.core.storage import read_json, read_table, sha256_file, write_table
from ndec_builder.core.workspace import Workspace
from support.labelling_page import LAYOUT, fits, labelling, measure_layout, next_pair, wait_until_saved
from support.pictures import scene

pytestmark = [pytest.mark.server, pytest.mark.browser]
KEYS = {"1": "edited_copy", "2": "hard_negative", "3": "unrelated", "4": "unsure"}
NAMES = {"1": "Edited copy", "2": "Hard negative", "3": "Unrelated", "4": "Unsure"}  # shown for KEYS
ARTEFACTS = Path(__file__).parents[2] / "test-artefacts"


def project_id(workspace: Workspace, connection: Connection) -> int:
    key = projects.project_key(workspace, "test", "first", "ann")
    return projects.find_projects(connection.client())[key].id


def pulled_labels(workspace: Workspace) -> dict[str, str]:
    rows = read_table(pull.run(PullConfig(workspace.root))).to_pylist()
    assert all(row["seconds"] > 0 for row in rows)
    return {row["pair_id"]: row["label"] for row in rows}


def queue_position(page: Any) -> str:
    """The place in the queue that the bottom line states once the page is at rest."""
    page.wait_for_function("!document.documentElement.dataset.ndecBusy", timeout=20_000)
    page.wait_for_timeout(500)  # the line is drawn five times a second
    return str(page.inner_text("#ndec-position"))


def test_twenty_pairs_by_single_keys_and_one_undone(served: tuple[Workspace, Connection], make_candidates: Any) -> None:
    workspace, connection = served
    pairs = make_candidates(workspace, count=22, size=(1024, 768))
    push.run(PushConfig(workspace.root, annotators=("ann",), image_url=connection.image_url))
    pressed = [str(1 + (7 * i + i // 3) % 4) for i in range(20)]
    with labelling(connection, project_id(workspace, connection)) as page:
        shown = ""
        for index, digit in enumerate(pressed):
            shown = next_pair(page, shown)
            if index == 0:
                ARTEFACTS.mkdir(exist_ok=True)
                page.wait_for_selector("#ndec-keys")
                page.screenshot(path=str(ARTEFACTS / "labelling-page.png"))
                layout = page.evaluate(LAYOUT)
            page.keyboard.press(digit)
            page.keyboard.press("3")  # an impatient second key must not land on this pair or the next
            if index == 9:  # a mistake: back, correct, and on to the open pair
                here = next_pair(page, shown)
                page.keyboard.press("Backspace")
                back = next_pair(page, here)
                assert page.evaluate("document.querySelector('.ndec input[type=radio]:checked').name") == NAMES[digit]
                pressed[9] = "4" if digit == "1" else "1"
                page.keyboard.press(pressed[9])
                page.wait_for_selector("[data-testid=bottombar-submit-button]", timeout=20_000)
                shown = back
        shown = next_pair(page, shown)  # the last label is saved
        page.reload()  # a new visit: two pairs are open, and Backspace leads to those of the visit before
        here = next_pair(page, shown)
        assert queue_position(page) == "21 of 22"
        page.keyboard.press("Backspace")
        next_pair(page, here)
        assert queue_position(page) == "an earlier pair"
        pressed[19] = "4" if pressed[19] == "1" else "1"
        page.keyboard.press(pressed[19])
        page.wait_for_selector("[data-testid=bottombar-submit-button]", timeout=20_000)
        next_pair(page, "")
        assert queue_position(page) == "21 of 22"
    assert pulled_labels(workspace) == {
        pair_id("test", *pair): KEYS[digit] for pair, digit in zip(pairs, pressed, strict=False)
    }
    (left, _, left_end, left_bottom), (right, _, right_end, right_bottom) = layout["pictures"]
    assert left < left_end <= right < right_end <= 1440 and max(left_bottom, right_bottom) <= 900
    assert min(left_end - left, right_end - right) > 600, "the pictures are small"
    assert len(layout["choices"]) == 4 and all(0 < box[1] < 200 for box in layout["choices"])
    assert not any(word in layout["text"].lower() for word in ("similarity", "rank", "pre-label", "score"))


def test_drafts_pre_labels_missing_pictures_and_the_aligned_view(
    served: tuple[Workspace, Connection], make_candidates: Any
) -> None:
    workspace, connection = served
    pairs = make_candidates(workspace, count=4, size=(640, 480))
    push.run(PushConfig(workspace.root, annotators=("ann",), image_url=connection.image_url))
    project = project_id(workspace, connection)
    client = connection.client()
    tasks = sorted(client.tasks.list(project=project, include="id,data"), key=lambda task: task.data["position"])
    # A pre-label that preselects a choice: the same key must keep it, not switch it off.
    filled = [{"from_name": "verdict", "to_name": "query", "type": "choices", "value": {"choices": ["hard_negative"]}}]
    client.predictions.create(task=tasks[0].id, result=filled, score=0.9, model_version="prelabel")
    client.projects.update(id=project, show_collab_predictions=True, model_version="prelabel")
    query = workspace.files("pool") / f"{pairs[2][0]}.jpg"  # the third pair's picture is missing
    query.rename(query.with_suffix(".away"))
    with labelling(connection, project) as page:
        shown = next_pair(page, "")
        checked = "document.querySelector('.ndec input[type=radio]:checked')?.name"
        assert page.evaluate(checked) == "Hard negative"
        page.keyboard.press("2")
        shown = next_pair(page, shown)
        with page.expect_response(
            lambda answer: "/drafts" in answer.url, timeout=20_000
        ):  # a choice by mouse is a draft
            page.click(".ndec input[name=Unsure]")
        page.reload()
        shown = next_pair(page, shown)
        page.wait_for_function(f"{checked} === 'Unsure'", timeout=20_000)
        page.keyboard.press("c")
        page.wait_for_function("document.querySelector('#ndec-view img')?.naturalWidth > 0", timeout=30_000)
        page.keyboard.press("d")
        page.wait_for_function("document.querySelector('#ndec-view[data-key=d] img')?.naturalWidth > 0", timeout=30_000)
        page.keyboard.press("Escape")
        assert page.query_selector("#ndec-view") is None
        page.keyboard.press("4")
        shown = next_pair(page, shown)
        page.keyboard.press("1")  # a placeholder must not be labelled
        page.wait_for_selector("#ndec-tell:not([hidden])", timeout=20_000)
        assert "missing" in page.inner_text("#ndec-tell")
        # The connection is lost for a moment. Label Studio itself loads the pictures with another kind of request.
        page.route("**/pair/**", lambda r: r.abort() if r.request.resource_type == "fetch" else r.continue_())
        page.click("[data-testid=bottombar-skip-button]")
        shown = next_pair(page, shown)
        page.keyboard.press("3")
        page.wait_for_function("document.querySelector('#ndec-tell')?.innerText.includes('press the key again')")
        page.unroute("**/pair/**")
        page.keyboard.press("3")
        wait_until_saved(page)
    labels = pulled_labels(workspace)
    assert labels == {
        pair_id("test", *pairs[i]): label for i, label in ((0, "hard_negative"), (1, "unsure"), (3, "unrelated"))
    }
    assert list(read_json(workspace.root / "annotation" / "missing_images.json")) == [f"pool/{pairs[2][0]}"]


def test_suggestions_are_shown_but_preselect_nothing(
    served: tuple[Workspace, Connection], make_candidates: Any
) -> None:
    """With hints on: a line of text and a prediction, but no preselected choice; the suggested key works as well."""
    workspace, connection = served
    make_candidates(workspace, count=4, size=(320, 240))
    table = read_table(workspace.candidates("test") / "candidates.parquet")
    rows = [
        row | {"prelabel": "edited_copy", "prelabel_confidence": 0.9 + row["rank"] / 100} for row in table.to_pylist()
    ]
    write_table(workspace.candidates("test") / "candidates.parquet", table_of(CANDIDATES, rows))
    config = PushConfig(
        workspace.root, annotators=("ann",), hints=True, gold=0.3, check_above=0.99, image_url=connection.image_url
    )
    tasks = read_table(push.run(config)).sort_by("position").to_pylist()
    gold = {row["pair_id"] for row in tasks if row["is_gold"]}
    assert len(gold) == 2 and len(tasks) == 6
    project = project_id(workspace, connection)
    listed = list(connection.client().tasks.list(project=project, fields="all"))
    by_pair = {task.data["pair_id"]: task for task in listed}
    for task in listed:  # gold pairs too: one without a hint would stand out
        (prediction,) = connection.client().predictions.list(task=task.id)
        (item,) = prediction.result
        assert (item["from_name"], item["value"]) == ("verdict", {"choices": ["edited_copy"]})
        assert prediction.model_version == "ndec-prelabel" and 0.9 < prediction.score <= 0.94
        assert task.data["hint"].startswith("rank ") and "edited_copy (9" in task.data["hint"]
        assert set(task.data) == {"pair_id", "query", "reference", "position", "pictures", "hint"}
    assert not connection.client().projects.get(id=project).show_collab_predictions
    ARTEFACTS.mkdir(exist_ok=True)
    pressed = ["1", "2", "1", "4", "3", "1"]  # 1 is the suggested one
    with labelling(connection, project) as page:
        shown = ""
        for index, digit in enumerate(pressed):
            shown = next_pair(page, shown)
            assert page.evaluate("document.querySelector('.ndec input[type=radio]:checked')") is None  # not preselected
            if index == 0:
                page.screenshot(path=str(ARTEFACTS / "labelling-page-hints.png"))
            hint = by_pair[tasks[index]["pair_id"]].data["hint"]
            assert hint in page.evaluate("document.body.innerText")
            page.keyboard.press(digit)
            if index == 2:  # back to a pair with a suggestion, and corrected
                here = next_pair(page, shown)
                page.keyboard.press("Backspace")
                back = next_pair(page, here)
                assert page.evaluate("document.querySelector('.ndec input[type=radio]:checked').name") == "Edited copy"
                pressed[2] = "2"
                page.keyboard.press("2")
                page.wait_for_selector("[data-testid=bottombar-submit-button]", timeout=20_000)
                shown = back
        wait_until_saved(page)
    assert pulled_labels(workspace) == {
        task["pair_id"]: KEYS[digit] for task, digit in zip(tasks, pressed, strict=True)
    }
    labels = read_table(workspace.annotation("test") / "labels.parquet").to_pylist()
    assert {row["pair_id"] for row in labels if row["is_gold"]} == gold


def test_the_layout_at_four_window_sizes_touch_buttons_and_skipped_pairs(
    served: tuple[Workspace, Connection], make_candidates: Any
) -> None:
    workspace, connection = served
    pairs = make_candidates(workspace, count=3, size=(1200, 400))
    for role, image_id in zip(("pool", "reference"), pairs[1], strict=True):  # the second pair is tall
        scene(3, (400, 900)).save(workspace.files(role) / f"{image_id}.jpg")
    for role, image_id in zip(("pool", "reference"), pairs[2], strict=True):  # the third is smaller than its frame
        scene(4, (266, 183)).save(workspace.files(role) / f"{image_id}.jpg")
    for role in ("pool", "reference"):  # as ingested with these files
        rows = read_table(workspace.images(role)).to_pylist()
        rows = [row | {"sha256": sha256_file(workspace.files(role) / f"{row['image_id']}.jpg")} for row in rows]
        write_table(workspace.images(role), table_of(IMAGES, rows))
    push.run(PushConfig(workspace.root, annotators=("ann",), image_url=connection.image_url))
    with labelling(connection, project_id(workspace, connection)) as page:
        login = page.context.browser.new_page(viewport={"width": 390, "height": 844})
        login.goto(connection.url)
        login.wait_for_selector("#ndec-login")
        text = login.inner_text("#ndec-login")
        assert connection.user in text
        assert "label_studio/accounts.json" in text and "label_studio/secrets.json" in text
        assert fits(login, ".form-wrapper")
        login.close()

        shown = next_pair(page, "")
        wide = {width: measure_layout(page, width, height) for width, height in ((1366, 768), (390, 844))}
        for layout in wide.values():  # wide pictures are stacked
            query, reference = layout["pictures"]
            assert query[3] <= reference[1]
        assert min(box[2] - box[0] for box in wide[1366]["pictures"]) > 700
        assert wide[1366]["names"] == ["Edited copy", "Hard negative", "Unrelated", "Unsure"]
        assert wide[1366]["alt"] == ["Query picture", "Reference picture"]
        assert wide[1366]["position"] == "1 of 3"
        page.set_viewport_size({"width": 1366, "height": 768})
        page.keyboard.press("1")
        page.wait_for_selector("text=Annotation saved successfully", timeout=20_000)
        toast = page.locator("[class^=toast-viewport]").first.bounding_box()
        keys = page.locator("#ndec-keys").first.bounding_box()
        assert toast is not None and (keys is None or toast["y"] + toast["height"] <= keys["y"])

        shown = next_pair(page, shown)
        for width, height in ((1366, 768), (1920, 1080)):  # tall pictures are side by side
            layout = measure_layout(page, width, height)
            query, reference = layout["pictures"]
            assert query[2] <= reference[0]
            assert min(box[3] - box[1] for box in layout["pictures"]) > 0.7 * height
            assert layout["position"] == "2 of 3"
            assert not any(layout["buttons"])
        for width, height in ((800, 1000), (390, 844)):
            layout = measure_layout(page, width, height)
            query, reference = layout["pictures"]
            assert query[3] <= reference[1]
            assert reference[3] <= min(box[1] for box in layout["buttons"])
            assert len(layout["buttons"]) == 4
            assert all(box[3] - box[1] >= 48 and box[2] <= width and box[3] <= height for box in layout["buttons"])
            assert layout["scroll"] <= width
        page.click("#ndec-buttons button[data-label=hard_negative]")
        next_pair(page, shown)
        for width, height in ((1366, 768), (1920, 1080), (900, 1000), (800, 1000), (390, 844)):
            layout = measure_layout(page, width, height)
            left, top, right, bottom = layout["line"]
            for box in layout["keys"]:  # the line cuts off whatever is outside of it
                assert left <= box[0] and top <= box[1] and box[2] <= right and box[3] <= bottom
        page.click("#ndec-keys a:text('skip')")
        page.wait_for_selector("#ndec-end button", timeout=20_000)
        assert "You skipped 1." in page.inner_text("#ndec-end")
        page.click("#ndec-end button")
        next_pair(page, "")
        page.click("#ndec-buttons button[data-label=unrelated]")
        page.wait_for_selector("text=You skipped none.", timeout=20_000)
    labels = ("edited_copy", "hard_negative", "unrelated")
    assert pulled_labels(workspace) == {
        pair_id("test", *pair): label for pair, label in zip(pairs, labels, strict=True)
    }
    assert AnnotationTables(workspace, "test").incidents.num_rows == 0
