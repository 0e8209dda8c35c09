"""Labels that came with a file of pairs, from `mine --pairs FILE --labels COLUMN` to the dataset."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as given_values
from hypothesis import strategies as st

from faults.labelling_bench import server_key
from ndec_builder.annotation.label_tables import keys, newest_labels
from ndec_builder.annotation.pull import run as pull
from ndec_builder.annotation.push import run as push
from ndec_builder.annotation.records.given_labels import take_given_labels, waiting_text
from ndec_builder.annotation.records.ledger import chain_problem
from ndec_builder.annotation.resolve import run as resolve
from ndec_builder.annotation.send_back import run as send_back
from ndec_builder.annotation.settings import PullConfig, PushConfig, ResolveConfig, SendBackConfig, StatusConfig
from ndec_builder.annotation.staleness import stale_results
from ndec_builder.annotation.status import former_text, status, status_text
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.annotation.upkeep import check
from ndec_builder.annotation.upkeep.settings import CheckConfig
from ndec_builder.candidates.mine import run as mine
from ndec_builder.candidates.outside.given_labels import GIVEN_LABELS_FILE
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.cli.assist.next_steps import next_command
from ndec_builder.cli.assist.status import survey
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import GIVEN_LABELS, LABELS, REPLACED, pair_id, table_of
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.manifests.export import run as export
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.validate import validate
from support.described_bench import Bench
from support.fake_label_studio import TOKEN, FakeLabelStudio
from support.pictures import scene

CSV = "query,reference,verdict\np1,r1,dup\nr2,p2,hard_negative\np3,r3,hard_negative\np4,r3,\n"
MAP = ("dup=edited_copy",)
P = {n: pair_id("test", f"p{n}", f"r{min(n, 3)}") for n in range(1, 5)}  # the pairs of CSV, by number
FILE = "file:team.csv"


class Given:
    """A workspace with three references and five pool images, and a file of judged pairs."""

    def __init__(self, root: Path) -> None:
        self.root, self.workspace, self.file = root / "bench", Workspace(root / "bench"), root / "team.csv"

    def mine(self, text: str | None = CSV, **settings: object) -> Path:
        given: dict[str, object] = {"geometry": False, "pictures": False}
        if text is not None:
            self.file.write_text(text)
            given |= {"pairs": self.file, "labels": "verdict", "label_map": MAP}
        return mine(MineConfig(self.root, **given | settings))  # type: ignore[arg-type]

    def resolve(self) -> dict[str, str | None]:
        resolve(ResolveConfig(self.root))
        rows = self.tables().decisions.to_pylist()
        return {row["pair_id"]: row["decision"] for row in rows}

    def tables(self) -> AnnotationTables:
        return AnnotationTables(self.workspace, "test")

    def labels(self) -> list[tuple[str, str, str]]:
        return [(row["pair_id"], row["annotator"], row["label"]) for row in self.tables().labels.to_pylist()]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bench = Bench(tmp_path_factory.mktemp("template") / "bench")
    bench.add("reference", {f"r{n}": scene(n) for n in range(1, 4)})
    bench.add("pool", {f"p{n}": scene(60 + n) for n in range(1, 6)})
    return bench.workspace.root


@pytest.fixture
def given(template: Path, tmp_path: Path) -> Given:
    shutil.copytree(template, tmp_path / "bench")
    return Given(tmp_path)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeLabelStudio]:
    made = FakeLabelStudio()
    yield made
    made.close()


@pytest.fixture
def connected(given: Given, server: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch) -> FakeLabelStudio:
    server.reset()
    monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    return server


DECIDED = {P[1]: "edited_copy", P[2]: "hard_negative", P[3]: "hard_negative"}


def test_a_file_is_resolved_without_any_server(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    given.mine()
    said = capsys.readouterr().err
    assert "3 labels (1 edited_copy, 2 hard_negative, 0 unrelated, 0 unsure)" in said
    assert "4 pairs for people to label, 3 of them with a label from a file, scores" in said
    assert given.resolve() == DECIDED
    assert "3 of them came with team.csv and were not given here" in capsys.readouterr().err
    rows = given.tables().labels.to_pylist()
    assert {(r["round"], r["annotator"], r["project"], r["login"], r["seconds"]) for r in rows} == {
        ("first", FILE, None, None, None)
    }
    assert {row["annotated_at"] for row in rows} == {datetime.fromtimestamp(given.file.stat().st_mtime, UTC)}


def test_unknown_words_are_refused_with_those_seen(given: Given) -> None:
    with pytest.raises(UsageError) as error:
        given.mine(CSV + "p5,r1,Dup\np5,r2,Dup\n")
    assert "'Dup' (2 ×)" in str(error.value)
    assert "edited_copy, hard_negative, unrelated, unsure" in str(error.value)
    assert "--label-map Dup=edited_copy" in str(error.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"labels": "nope"}, "no column 'nope' of labels; its columns are query, reference, verdict"),
        ({"label_map": ("dup=copy",)}, "label_map is 'dup=copy'"),
        ({"label_map": ("dup",)}, "label_map is 'dup'"),
        ({"label_map": (*MAP, "dup=unrelated")}, "two meanings"),
        ({"pairs": None}, "give --pairs FILE too"),
        ({"labels": "", "label_map": MAP}, "give --labels COLUMN too"),
        ({"label_source": "a\nb"}, "without line breaks"),
    ],
)
def test_bad_options_are_refused(given: Given, settings: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        given.mine(**settings)


def test_json_has_no_column_of_labels(given: Given) -> None:
    path = given.root / "pairs.json"
    path.write_text('{"p1": ["r1"]}')
    with pytest.raises(UsageError, match="has no columns"):
        given.mine(pairs=path)


def test_a_word_may_mean_no_label(given: Given) -> None:
    given.mine(label_map=("dup=",))
    assert given.resolve() == {P[2]: "hard_negative", P[3]: "hard_negative"}


def test_rows_that_contradict_each_other_give_no_label(given: Given) -> None:
    directory = given.mine(CSV + "r1,p1,unrelated\np2,r2,hard_negative\np3,r3,\n")
    assert given.resolve() == {P[2]: "hard_negative", P[3]: "hard_negative"}
    left = read_table(directory / "given-pairs-left-out.parquet").to_pylist()
    assert [row["reason"].split(";")[0] for row in left] == [
        "labelled differently before",
        "given before, in this or the other direction",
        "given before, in this or the other direction",
    ]


def test_a_duplicate_gets_no_label(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    Bench(given.root).add("pool", {"p1": scene(1), **{f"p{n}": scene(60 + n) for n in range(2, 6)}})
    given.mine()
    assert "1 label is not used (1 edited_copy): the pairs are duplicates" in capsys.readouterr().err
    assert given.resolve() == {P[2]: "hard_negative", P[3]: "hard_negative"}


def test_resolving_twice_adds_nothing(given: Given) -> None:
    given.mine()
    given.resolve()
    before = given.labels()
    assert (given.resolve(), given.labels()) == (DECIDED, before)


@pytest.mark.slow
def test_labels_survive_another_mining(given: Given) -> None:
    given.mine()
    given.mine(None, top=2)
    assert {pair: given.resolve()[pair] for pair in DECIDED} == DECIDED


def test_another_file_adds_its_labels(given: Given) -> None:
    given.mine()
    given.mine("query,reference,verdict\np5,r1,unrelated\np1,r1,edited_copy\n", label_source="second")
    given.resolve()
    assert sorted(given.labels()) == sorted(
        [(pair, FILE, label) for pair, label in DECIDED.items()]
        + [(pair_id("test", "p5", "r1"), "file:second", "unrelated"), (P[1], "file:second", "edited_copy")]
    )


@pytest.mark.slow
def test_a_changed_label_is_a_new_row(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    given.mine()
    given.resolve()
    given.mine("query,reference,verdict\np3,r3,unrelated\n")
    said = capsys.readouterr().err
    assert "1 label differs from the last file of file:team.csv" in said
    assert "2 labels of file:team.csv from an earlier file, not in this one, still count" in said
    assert [str(stale.command) for stale in stale_results(given.workspace)] == ["ndec annotate resolve --split test"]
    assert given.resolve() == DECIDED | {P[3]: "unrelated"}
    assert given.labels()[-1] == (P[3], FILE, "unrelated")
    assert len(given.labels()) == 4
    assert stale_results(given.workspace) == []


@pytest.mark.slow
def test_a_picture_that_was_replaced_after_the_file_is_not_labelled_by_it(given: Given) -> None:
    given.mine()
    os.utime(given.file, (1e9, 1e9))
    mine(MineConfig(given.root, pairs=given.file, labels="verdict", label_map=MAP, pictures=False))
    replaced = {"image_id": "p3", "sha256": "0" * 64, "until": datetime(2020, 1, 1, tzinfo=UTC)}
    write_table(given.root / "images" / "pool-replaced.parquet", table_of(REPLACED, [replaced]))
    assert given.resolve() == DECIDED | {P[3]: None}
    given.mine()  # the same labels in a file of today
    assert given.resolve() == DECIDED


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
    assert former_text(StatusConfig(given.root)) == []


def test_an_export_before_resolving_says_what_to_do(given: Given) -> None:
    given.mine()
    with pytest.raises(NdecError, match="labels came with a file of pairs: run `ndec annotate resolve"):
        export(ExportConfig(given.root, distractors=0))


def test_ndec_status_names_the_file(given: Given) -> None:
    given.mine()
    assert any("wait for `ndec annotate resolve" in stage.text for stage in survey(given.root))
    given.resolve()
    assert any("by 0 people and file:team.csv" in stage.text for stage in survey(given.root))


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


GIVEN = st.tuples(st.sampled_from(["file:a", "file:b"]), st.sampled_from("pqrs"), st.sampled_from(LABELS[:3]))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given_values(st.lists(st.lists(GIVEN, max_size=5), max_size=4))
def test_after_any_sequence_of_files_the_newest_label_of_each_counts(
    tmp_path: Path, minings: list[list[tuple[str, str, str]]]
) -> None:
    """Against a dictionary: pairs of a file replace its earlier ones, nothing is added twice, old rows stay."""
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        workspace = Workspace(Path(folder))
        expected: dict[tuple[str, str], str] = {}
        for number, mining in enumerate(minings):
            expected |= {(name, pair): label for name, pair, label in mining}
            moment = datetime(2026, 11, 1 + number, tzinfo=UTC)
            rows = [
                {"pair_id": pair, "query_id": f"q{pair}", "reference_id": "r", "label": label, "annotator": name,
                 "given_at": moment}
                for (name, pair), label in sorted(expected.items())
            ]  # fmt: skip
            write_table(workspace.candidates("test") / GIVEN_LABELS_FILE, table_of(GIVEN_LABELS, rows))
            before = AnnotationTables(workspace, "test").labels
            take_given_labels(AnnotationTables(workspace, "test"))
            tables = AnnotationTables(workspace, "test")
            newest = keys(newest_labels(tables.counting_labels), "annotator", "pair_id", "label")
            assert {(name, pair): label for name, pair, label in newest} == expected
            assert tables.labels.slice(0, before.num_rows).equals(before)
            assert sorted(keys(tables.tasks, "annotator", "pair_id")) == sorted(expected)
            assert take_given_labels(tables) == 0 and waiting_text(tables) == []
            assert not chain_problem(tables.directory, "labels")
