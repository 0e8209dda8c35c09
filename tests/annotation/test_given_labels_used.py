"""Labels that came with a file of pairs: status, export, and people who label next to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.labelling_bench import server_key
from ndec_builder.annotation.pull import run as pull
from ndec_builder.annotation.push import run as push
from ndec_builder.annotation.resolve import run as resolve
from ndec_builder.annotation.send_back import run as send_back
from ndec_builder.annotation.settings import PullConfig, PushConfig, ResolveConfig, SendBackConfig, StatusConfig
from ndec_builder.annotation.status import former_text, status, status_text
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.annotation.upkeep import check
from ndec_builder.annotation.upkeep.settings import CheckConfig
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.cli.assist.next_steps import next_command
from ndec_builder.cli.assist.status import survey
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import pair_id
from ndec_builder.core.storage import read_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.manifests.export import run as export
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.validate import validate
from support.described_bench import Bench
from support.fake_label_studio import FakeLabelStudio
from support.given_file import CSV, DECIDED, FILE, Given, P
from support.pictures import scene


def test_status_before_and_after(given: Given) -> None:
    config = MineConfig(given.root, pairs=given.file, labels="verdict")
    assert "annotate resolve" in str(next_command("mine", config, given.mine()))
    assert former_text(StatusConfig(given.root)) == [
        "3 labels of file:team.csv wait for `ndec annotate resolve --split test`"
    ]
    with pytest.raises(NdecError, match="3 labels of file:team"):
        status(StatusConfig(given.root))
    given.resolve()
    (row,) = status(StatusConfig(given.root))
    assert (row["annotator"], row["pairs"], row["done"], row["left"]) == (FILE, 3, 3, 0)
    assert "came with that file, not given here" in status_text([row])
    assert former_text(StatusConfig(given.root)) == [
        "1 mined pair given to nobody yet: `ndec annotate push --split test`"
    ]


def test_an_export_before_resolving_says_what_to_do(given: Given) -> None:
    given.mine()
    with pytest.raises(NdecError, match="labels came with a file of pairs: run `ndec annotate resolve"):
        export(ExportConfig(given.root, distractors=0))


def test_ndec_status_names_the_file(given: Given) -> None:
    given.mine()
    assert any("wait for `ndec annotate resolve" in stage.text for stage in survey(given.root))
    given.resolve()
    assert any(
        stage.text.endswith("labelled, by file:team.csv") or "labelled, by file:team.csv;" in stage.text
        for stage in survey(given.root)
    )


def test_the_contact_sheet_says_so(given: Given) -> None:
    page = (given.mine(pictures=True) / "contact_sheet.html").read_text("utf-8")
    assert "(3 of them already have a label that came with a file)" in page
    assert "edited copy in team.csv" in page


@pytest.mark.slow
def test_the_dataset_says_where_its_labels_come_from(given: Given) -> None:
    given.mine()
    given.resolve()
    dataset = export(ExportConfig(given.root, distractors=0))
    info, croissant = read_json(dataset / "manifest.json"), read_json(dataset / "croissant.json")
    assert info["labels_by"] == "labels that came with team.csv"
    assert "Split test: 3 labels came with team.csv; nobody gave them with ndec." in (dataset / "README.md").read_text()
    assert "3 labels came with team.csv" in croissant["rai:dataAnnotationProtocol"]
    assert "rai:dataAnnotationPlatform" not in croissant
    assert [finding for finding in validate(dataset) if finding.is_error] == []


def projects_of(server: FakeLabelStudio) -> dict[str, int]:
    return {server_key(one).rpartition("/")[2]: number for number, one in server.state()["projects"].items()}


@pytest.mark.slow
def test_people_get_only_pairs_without_a_label(given: Given, connected: FakeLabelStudio) -> None:
    given.mine()
    push(PushConfig(given.root))
    assert [task["data"]["pair_id"] for task in connected.state()["tasks"].values()] == [P[4]]
    assert set(projects_of(connected)) == {"annotator-1"}
    pull(PullConfig(given.root))
    check.run(CheckConfig(given.root))
    assert read_json(given.workspace.annotation("test") / "check.json")["problems"] == []
    assert len(given.labels()) == 3


@pytest.mark.slow
def test_a_person_who_disagrees_makes_a_dispute(given: Given, connected: FakeLabelStudio) -> None:
    given.mine()
    push(PushConfig(given.root, annotators=("ann",), round="double_check"))
    (number,) = projects_of(connected).values()
    connected.label(number, P[2], "hard_negative")
    connected.label(number, P[3], "edited_copy")
    pull(PullConfig(given.root))
    assert given.resolve() == DECIDED | {P[3]: None}
    push(PushConfig(given.root, annotators=("cleo",), round="adjudication"))
    connected.label(projects_of(connected)["cleo"], P[3], "unrelated")
    pull(PullConfig(given.root))
    assert given.resolve() == DECIDED | {P[3]: "unrelated"}
    bases = {row["pair_id"]: row["basis"] for row in given.tables().decisions.to_pylist()}
    assert bases == {P[1]: "agreed", P[2]: "double_checked", P[3]: "adjudicated"}
    dataset = export(ExportConfig(given.root, distractors=0))
    assert read_json(dataset / "manifest.json")["labels_by"] == "people, and labels that came with team.csv"


@pytest.mark.slow
def test_labels_of_a_file_can_be_sent_back(given: Given, connected: FakeLabelStudio) -> None:
    given.mine()
    push(PushConfig(given.root, annotators=("ann",)))
    send_back(SendBackConfig(given.root, FILE, why="judged at 64 px"))
    tables = given.tables()
    assert {row["annotator"] for row in tables.tasks.to_pylist()} == {"ann"}
    assert tables.counting_labels.num_rows == 0
    given.mine(CSV + "p5,r1,unrelated\n")  # the same labels do not come back
    pull(PullConfig(given.root))
    assert [row["pair_id"] for row in given.tables().counting_labels.to_pylist()] == [pair_id("test", "p5", "r1")]


def test_no_person_can_have_the_name_of_a_file() -> None:
    with pytest.raises(UsageError, match="a name is up to 40 letters"):
        PushConfig(Path(), annotators=(FILE,))


@pytest.mark.slow
def test_train_pairs_take_labels_too(given: Given, tmp_path: Path) -> None:
    Bench(given.root).add("basic", {"b1": scene(31), "b2": scene(32)})
    given.mine("query,reference,verdict\nb1,p1,hard_negative\n", split="train")
    resolve(ResolveConfig(given.root, split="train"))
    rows = AnnotationTables(Workspace(given.root), "train").decisions.to_pylist()
    assert [(row["pair_id"], row["decision"]) for row in rows] == [(pair_id("train", "p1", "b1"), "hard_negative")]
