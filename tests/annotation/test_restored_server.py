"""A Label Studio whose database was replaced by an older copy: pulled labels count on, whatever the clocks say."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.labelling_bench import server_key
from faults.labelling_scenes import make_world
from ndec_builder.annotation.label_studio import projects
from ndec_builder.annotation.pull import run as pull
from ndec_builder.annotation.push import run as push
from ndec_builder.annotation.settings import PullConfig, PushConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.annotation.upkeep import check, forget
from ndec_builder.annotation.upkeep.settings import CheckConfig, ForgetConfig
from ndec_builder.core.workspace import Workspace
from support.fake_label_studio import TOKEN, FakeLabelStudio


@pytest.fixture(scope="module")
def server() -> Iterator[FakeLabelStudio]:
    made = FakeLabelStudio()
    yield made
    made.close()


class Project:
    """One annotator's project with ten open pairs."""

    def __init__(self, root: Path, server: FakeLabelStudio) -> None:
        server.reset()
        make_world(root)
        self.root, self.server = root, server
        push(PushConfig(root, annotators=("ann",)))
        state = server.state()
        (self.number,) = (number for number, one in state["projects"].items() if server_key(one).endswith("first/ann"))
        self.pairs = [task["data"]["pair_id"] for _, task in sorted(state["tasks"].items())]

    def label(self, pair: int, choice: str | None) -> None:
        assert self.server.label(self.number, self.pairs[pair], choice)

    def pull(self, **more: bool) -> dict[int, str]:
        """Pair → its label that counts, after a pull."""
        pull(PullConfig(self.root, **more))
        rows = AnnotationTables(Workspace(self.root), "test").valid_labels.to_pylist()
        return {self.pairs.index(row["pair_id"]): row["label"] for row in rows}

    def incidents(self) -> list[tuple[str, Any, Any]]:
        rows = AnnotationTables(Workspace(self.root), "test").incidents.to_pylist()
        return [(row["kind"], row["label"], row["new_label"]) for row in rows]


@pytest.fixture
def project(tmp_path: Path, server: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    return Project(tmp_path / "bench", server)


@pytest.mark.slow
def test_one_missing_label_counts_on(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.label(0, "unrelated")
    project.pull()
    copy = project.server.state()
    project.label(1, "hard_negative")
    both = {0: "unrelated", 1: "hard_negative"}
    assert project.pull() == both
    project.server.restore(copy)
    capsys.readouterr()
    assert project.pull() == both
    assert "it knows of 1 answer in" in (said := capsys.readouterr().err) and "stores 2. 1 label is missing" in said
    assert project.incidents() == [("label_missing", "hard_negative", "deleted")]
    assert project.pull(everything=True) == both
    assert project.incidents() == [("label_missing", "hard_negative", "deleted")]
    assert "older copy" not in capsys.readouterr().err
    assert project.pull(everything=True, accept_deleted=True) == {0: "unrelated"}


@pytest.mark.slow
def test_a_label_that_a_person_deleted_does_not_count(project: Project) -> None:
    project.label(0, "unrelated")
    project.label(1, "hard_negative")
    project.pull()
    assert project.server.delete_label(project.number, project.pairs[1])
    assert project.pull() == {0: "unrelated"}
    assert project.incidents() == [("annotation_deleted", "hard_negative", None)]


@pytest.mark.slow
@pytest.mark.parametrize(("clock", "pulled"), [(0, True), (-86_400, True), (86_400, True), (0, False)])
def test_an_older_answer_does_not_replace_the_stored_one(project: Project, clock: int, pulled: bool) -> None:
    """`pulled`: whether the older answer is stored, too. If not, only the clock tells it from a new one."""
    project.label(0, "unrelated")
    if pulled:
        project.pull()
    copy = project.server.state()
    project.server.set_clock(clock)
    project.label(0, "hard_negative")
    assert project.pull(everything=True) == {0: "hard_negative"}
    if not pulled:
        project.label(1, "unsure")
        project.pull()
    stored = {0: "hard_negative"} | ({} if pulled else {1: "unsure"})
    project.server.restore(copy)
    assert project.pull() == stored
    assert ("label_older", "hard_negative", "unrelated") in project.incidents()
    assert project.pull(everything=True) == stored
    project.label(0, "edited_copy")
    assert project.pull()[0] == "edited_copy"


@pytest.mark.slow
def test_a_label_that_was_withdrawn_by_skip_does_not_come_back(project: Project) -> None:
    project.label(0, "unrelated")
    project.pull()
    copy = project.server.state()
    project.label(0, None)
    assert project.pull() == {}
    project.server.restore(copy)
    assert project.pull() == project.pull(everything=True) == {}


@pytest.mark.slow
def test_a_label_that_was_deleted_and_is_there_again_counts(project: Project) -> None:
    """As after an older copy was put in place by mistake, accepted, and replaced by the right one."""
    project.label(0, "unrelated")
    project.pull()
    right = project.server.state()
    project.server.delete_label(project.number, project.pairs[0])
    assert project.pull(everything=True, accept_deleted=True) == {}
    project.server.restore(right)
    assert project.pull(everything=True) == {0: "unrelated"}


@pytest.mark.slow
def test_an_older_skip_does_not_withdraw_a_label(project: Project) -> None:
    project.label(0, None)
    project.pull()
    copy = project.server.state()
    project.label(0, "unrelated")
    assert project.pull() == {0: "unrelated"}
    project.server.restore(copy)
    assert project.pull() == project.pull(everything=True) == {0: "unrelated"}


@pytest.mark.slow
def test_corrections_are_found_after_an_older_workspace_and_a_clock_that_went_back(
    project: Project, tmp_path: Path
) -> None:
    project.label(0, "unrelated")
    project.pull()
    shutil.copytree(project.root, tmp_path / "copy")
    project.server.set_clock(-86_400)
    project.label(0, "hard_negative")
    project.pull(everything=True)
    shutil.rmtree(project.root)
    shutil.copytree(tmp_path / "copy", project.root)
    assert project.pull() == {0: "hard_negative"}


@pytest.mark.slow
def test_labels_of_somebody_whom_an_older_workspace_does_not_know_are_pulled(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(project.root, tmp_path / "copy")
    push(PushConfig(project.root, annotators=("ann", "ben")))
    state = project.server.state()
    number, pair = next((task["project"], task["data"]["pair_id"]) for task in state["tasks"].values() if
                        task["project"] != project.number)  # fmt: skip
    project.server.label(number, pair, "unrelated")
    shutil.rmtree(project.root)
    shutil.copytree(tmp_path / "copy", project.root)
    capsys.readouterr()
    assert project.pull() == {project.pairs.index(pair): "unrelated"}
    said = capsys.readouterr().err
    assert (
        "ben has no pairs in tasks.parquet (round first), but its project 'ndec bench test first ben' has 1 label"
        in said
    )


@pytest.mark.slow
def test_an_older_workspace_does_not_take_what_a_restored_database_lacks_for_deleted(
    project: Project, tmp_path: Path
) -> None:
    """The database was restored, a pull noticed it, and then the workspace was restored from before that pull."""
    copy = project.server.state()
    project.label(0, "unrelated")
    assert project.pull() == {0: "unrelated"}
    shutil.copytree(project.root, tmp_path / "copy")
    project.server.restore(copy)
    assert project.pull() == {0: "unrelated"}
    shutil.rmtree(project.root)
    shutil.copytree(tmp_path / "copy", project.root)
    assert project.pull() == project.pull(everything=True) == {0: "unrelated"}


@pytest.mark.slow
def test_a_deletion_counts_after_an_interrupted_pull(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.label(0, "unrelated")
    project.label(1, "unsure")
    project.pull()
    project.server.delete_label(project.number, project.pairs[1])
    real = projects.write_stored

    def die(*given: Any) -> None:
        real(*given)
        raise InterruptedError

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(projects, "write_stored", die)
        project.pull()
    assert project.server.state()["projects"][project.number]["description"].endswith("\nndec-stored: 3")
    assert project.pull() == {0: "unrelated"}


@pytest.mark.slow
def test_check_does_not_change_the_description(project: Project) -> None:
    project.label(0, "unrelated")
    project.pull()
    project.label(1, "unrelated")
    before = project.server.state()["projects"]
    assert before[project.number]["description"].endswith("\nndec-stored: 1")
    check.run(CheckConfig(project.root))
    assert project.server.state()["projects"] == before


@pytest.mark.slow
def test_a_label_whose_task_is_gone_is_reported_in_an_older_workspace(project: Project, tmp_path: Path) -> None:
    """The pair was skipped after the copy was made, and `leave` gave it to somebody else: nothing knows of the skip."""
    project.label(0, "hard_negative")
    project.label(1, "unrelated")
    assert project.pull() == {0: "hard_negative", 1: "unrelated"}
    shutil.copytree(project.root, tmp_path / "copy")
    project.label(0, None)
    assert project.pull() == {1: "unrelated"}
    project.server.delete_task(project.number, project.pairs[0])
    shutil.rmtree(project.root)
    shutil.copytree(tmp_path / "copy", project.root)
    for _ in range(2):  # the second pull adds nothing
        assert project.pull(everything=True) == {0: "hard_negative", 1: "unrelated"}
        assert [one for one in project.incidents() if one[0] == "label_missing"] == [
            ("label_missing", "hard_negative", "deleted")
        ]
    assert project.pull(everything=True, accept_deleted=True) == {1: "unrelated"}


@pytest.mark.slow
def test_a_label_whose_task_a_person_deleted_counts_on(project: Project) -> None:
    project.label(0, "hard_negative")
    project.pull()
    project.server.delete_task(project.number, project.pairs[0])
    assert project.pull(everything=True, accept_deleted=True) == {0: "hard_negative"}
    assert project.incidents() == [("task_deleted", "hard_negative", None)]


@pytest.mark.slow
def test_a_database_is_no_older_copy_because_a_name_was_forgotten(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.label(0, "unrelated")
    project.label(1, "unrelated")
    project.pull()
    forget.run(ForgetConfig(project.root, "ann"))
    assert "1 project was renamed" in " ".join(capsys.readouterr().err.split())
    project.label(0, None)  # deleted on purpose
    assert project.pull() == {1: "unrelated"}
    assert "older copy" not in capsys.readouterr().err
