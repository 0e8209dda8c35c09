"""Which edits of a labelling page are reported."""

from __future__ import annotations

import pytest

from ndec_builder.annotation.label_studio.projects import labelling_page, same_page


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
