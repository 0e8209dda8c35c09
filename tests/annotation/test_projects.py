"""Which edits of a labelling page are reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndec_builder.annotation.label_studio.projects import is_own_title, labelling_page, project_title, same_page
from ndec_builder.core.workspace import Workspace


def test_a_page_with_another_layout_or_older_choice_names_is_the_same() -> None:
    page = labelling_page(hints=False)
    older = page.replace('value="Edited copy" alias="edited_copy"', 'value="edited_copy"').replace("font-size", "color")
    assert older.count("alias=") == page.count("alias=") - 1
    assert same_page(older, page)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Nothing in common", "x"),
        ('alias="unsure"', 'alias="unrelated"'),
        ('hotkey="1"', 'hotkey="9"'),
        ('value="$query"', 'value="$reference"'),
        ("<Choice ", "<Choice <"),
    ],
)
def test_edited_questions_choices_and_pictures_are_reported(old: str, new: str) -> None:
    page = labelling_page(hints=False)
    assert old in page
    assert not same_page(page.replace(old, new), page)
    assert not same_page(labelling_page(hints=True), page)


@pytest.mark.parametrize("annotator", ["alice", "a person with quite a long name"])
@pytest.mark.parametrize("name", ["b", "my-bench", "a workspace whose name is longer than a title may be"])
def test_a_workspace_that_was_renamed_has_not_renamed_its_projects(tmp_path: Path, name: str, annotator: str) -> None:
    given = project_title(Workspace(tmp_path / name), "test", "first", annotator)
    assert is_own_title(given, "test", "first", annotator)
    for edited in ("my own title", f"{given}!", given.replace("ndec ", ""), given.replace("test", "train")):
        assert not is_own_title(edited, "test", "first", annotator)
    assert not is_own_title(given, "train", "first", annotator)
