"""Labels that came with a file of pairs: mining, what is refused, and the rows they become."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as given_values
from hypothesis import strategies as st

from ndec_builder.annotation.label_tables import keys, newest_labels
from ndec_builder.annotation.records.given_labels import take_given_labels, waiting_text
from ndec_builder.annotation.records.ledger import chain_problem
from ndec_builder.annotation.staleness import stale_results
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.candidates.mine import run as mine
from ndec_builder.candidates.outside.given_labels import GIVEN_LABELS_FILE
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.errors import UsageError
from ndec_builder.core.schemas import GIVEN_LABELS, LABELS, REPLACED, pair_id, table_of
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.core.workspace import Workspace
from support.described_bench import Bench
from support.given_file import CSV, DECIDED, FILE, MAP, Given, P
from support.pictures import scene
from support.votes import labels_of


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


def under_another_name(given: Given, text: str, **settings: object) -> None:
    other = given.root.parent / "team-2.csv"
    other.write_text(text)
    given.mine(None, pairs=other, labels="verdict", label_map=MAP, **settings)


@pytest.mark.parametrize("more", ["", "p5,r1,unrelated\n"], ids=["copy", "longer version"])
def test_a_file_under_a_second_name_is_no_second_annotator(given: Given, more: str) -> None:
    given.mine()
    given.resolve()
    with pytest.raises(UsageError, match=r"team-2\.csv: 3 of its pairs .* file:team\.csv too, 0 of them a different"):
        under_another_name(given, CSV + more)
    under_another_name(given, CSV + more, label_source="team.csv")
    given.resolve()
    assert {name for _, name, _ in given.labels()} == {FILE} and len(given.labels()) == 3 + bool(more)


def labelled_by_ann(given: Given, labels: dict[str, str]) -> None:
    given.tables().write("labels", labels_of([(pair, "first", "ann", label) for pair, label in labels.items()]))


@pytest.mark.parametrize("more", [{}, {"0" * 16: "unrelated"}], ids=["all of them", "a part"])
def test_your_own_labels_as_a_file_are_no_second_annotator(given: Given, more: dict[str, str]) -> None:
    labelled_by_ann(given, more | DECIDED)
    with pytest.raises(UsageError, match=r"3 of its pairs have a label of ann too, 0 of .* leave out --labels"):
        given.mine()
    given.mine(label_source="somebody else")
    stored = read_table(given.workspace.candidates("test") / GIVEN_LABELS_FILE)
    assert set(stored["annotator"].to_pylist()) == {"file:somebody else"}


def test_a_file_that_people_double_checked_can_be_mined_again(given: Given) -> None:
    given.mine()
    labelled_by_ann(given, {P[1]: "edited_copy"})
    given.mine()
    given.resolve()
    assert (P[1], FILE, "edited_copy") in given.labels()


def test_a_file_that_differs_from_your_labels_is_a_second_annotator(
    given: Given, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled_by_ann(given, {P[1]: "edited_copy", P[2]: "unrelated"})
    given.mine()
    assert f"2 of its pairs have a label of ann too, 1 of them a different one; {FILE} and ann" in (
        capsys.readouterr().err
    )


def test_two_files_that_differ_are_two_annotators(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    given.mine()
    under_another_name(given, "query,reference,verdict\np1,r1,dup\np3,r3,unrelated\n")
    assert "2 of its pairs have a label of file:team.csv too, 1 of them a different one; file:team-2.csv and " in (
        capsys.readouterr().err
    )
    given.resolve()
    assert {name for _, name, _ in given.labels()} == {FILE, "file:team-2.csv"}
    # the labels of one file may have chosen the pairs of the other: that is no overlap drawn at random
    agreed = read_json(given.workspace.annotation("test") / "agreement.json")
    assert (agreed["kappa"], agreed["rounds"]["first"]["pairs"], agreed["residual"]["n"]) == (None, 0, 0)


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


GIVEN = st.tuples(st.sampled_from(["file:a", "file:b"]), st.sampled_from("pqrs"), st.sampled_from(LABELS[:3]))


@pytest.mark.slow
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
