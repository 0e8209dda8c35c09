"""ndec's projects in Label Studio: one per annotator and round, found by a key in the description, not by title."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from ndec_builder.annotation.label_studio.connection import NO_RETRY, Connection
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_json, write_json
from ndec_builder.core.workspace import Workspace, shipped

_KEY, _STORED = "ndec-key: ", "ndec-stored: "
# the fields of a Project; Label Studio counts and copies eight times as long when it lists all fields of 100 projects
_LISTED = "id,title,description,task_number,num_tasks_with_annotations"
_LAYOUT = {"className", "size", "zoom", "zoomControl", "defaultZoom", "maxWidth", "horizontalAlignment"}
_FORMER_HINTS = {  # as worded by former versions → as worded now
    "The query can be made from the reference alone: crop, filter, text, pasted whole on something": (
        "The query can be made from the reference alone: crop, filter, text, pasted on something"
    ),
    "Looks alike, but the query shows content that the reference lacks: whole against its crop, other frame, angle, "
    "time": (
        "Looks similar, but the query shows content that the reference lacks: the whole image of a crop, another "
        "frame, angle or time"
    ),
}
# The decision table for the page's instruction panel.
_INSTRUCTION = """
<p><b>1 edited_copy</b>: the query can be made from the reference alone: identical, re-encoded, cropped, filtered,
mirrored, or pasted whole on other content</p>
<p><b>2 hard_negative</b>: the query shows scene content that the reference lacks: the whole against its crop, two crops
of one original, another frame, angle or time, the same design but another instance</p>
<p><b>3 unrelated</b>: nothing in common</p>
<p><b>4 unsure</b>: cannot tell</p>
"""


@dataclass(frozen=True)
class Project:
    """A project with one annotator's pairs of one round, as Label Studio lists it."""

    id: int
    found_title: str
    tasks: int
    annotated: int = 0  # tasks with a label
    description: str = ""

    @property
    def stored(self) -> int | None:
        """How many answers the workspace stored of it when it was last pulled, by the project's description."""
        found = re.search(rf"^{_STORED}(\d+)$", self.description, re.MULTILINE)
        return int(found[1]) if found else None


def workspace_key(workspace: Workspace) -> str:
    """Random id of this workspace, made once, so that two workspaces can share one server."""
    path = workspace.root / "annotation" / "key.json"
    if not path.is_file():
        write_json(path, {"key": secrets.token_hex(8)})
    return str(read_json(path)["key"])


def project_key(workspace: Workspace, split: str, round_: str, annotator: str) -> str:
    return f"{workspace_key(workspace)}/{split}/{round_}/{annotator}"


def project_title(workspace: Workspace, split: str, round_: str, annotator: str) -> str:
    """The title that people see; Label Studio allows 50 characters, so a long workspace name is cut."""
    rest = f" {split} {round_} {annotator}"
    return f"ndec {workspace.root.absolute().name[: max(45 - len(rest), 4)]}{rest}"[:50]


def project_description(workspace: Workspace, split: str, round_: str, annotator: str) -> str:
    """The description of a project, with the line by which ndec finds it."""
    return (
        f"Pairs of the split {split}, round {round_}, for {annotator}. Keep the next line: ndec finds this project "
        f"by it.\n{_KEY}{project_key(workspace, split, round_, annotator)}"
    )


def find_projects(client: Any) -> dict[str, Project]:
    """Every ndec project on the server by the key in its description."""
    found: dict[str, Project] = {}
    for project in client.projects.list(page_size=100, include=_LISTED):
        _, mark, key = (project.description or "").partition(_KEY)
        if mark:
            counts = (project.task_number or 0, project.num_tasks_with_annotations or 0)
            found.setdefault(key.split()[0], Project(project.id, project.title or "", *counts, project.description))
    return found


def write_stored(client: Any, project: Project, count: int) -> None:
    """Write into a project's description how many answers of it the workspace stores."""
    lines = [line for line in project.description.splitlines() if not line.startswith(_STORED)]
    text = "\n".join([*lines, f"{_STORED}{count}"])
    client.projects.update(id=project.id, description=text, request_options=NO_RETRY)


def rename_project(
    client: Any, project: Project, workspace: Workspace, split: str, round_: str, annotator: str
) -> None:
    """Make it the project of another name. The number of stored answers stays: without it, a pull would report that
    Label Studio has an older database.
    """
    stored = [line for line in project.description.splitlines() if line.startswith(_STORED)]
    client.projects.update(
        id=project.id,
        title=project_title(workspace, split, round_, annotator),
        description="\n".join([project_description(workspace, split, round_, annotator), *stored]),
    )


def refetch(client: Any, project: int) -> tuple[int, str]:
    """(number of tasks with a label, labelling page) of a project, fetched again."""
    found = client.projects.get(id=project)
    return int(found.num_tasks_with_annotations or 0), found.label_config or ""


def labelling_page(hints: bool) -> str:
    """The labelling page as Label Studio XML; with `hints` it shows a suggestion for the pair."""
    text = shipped("annotation/label_config.xml").read_text("utf-8")
    mark = '<View className="ndec-row">'
    return text.replace(mark, f'<Header size="6" value="$hint"/>\n  {mark}', 1) if hints else text


def shows_hints(page: str) -> bool:
    """Whether a labelling page shows suggestions."""
    return "$hint" in page


def same_page(found: str, expected: str) -> bool:
    """Whether two labelling pages ask the same question with the same choices, whatever their layout.

    Layout and the readable names of choices may differ, and hints of former versions are known: projects keep the page
    of the ndec version that made them.
    """
    try:
        return _content(found) == _content(expected)
    except ElementTree.ParseError:
        return False


def _content(page: str) -> list[tuple[str, dict[str, str]]]:
    """Elements of a page with the attributes that matter to labels and annotators, in order."""
    content = []
    for element in ElementTree.fromstring(page).iter():
        kept = {name: value for name, value in element.attrib.items() if name not in _LAYOUT}
        if "hint" in kept:
            kept["hint"] = _FORMER_HINTS.get(kept["hint"], kept["hint"])
        if "alias" in kept:  # the label itself; `value` is its readable name
            kept["value"] = kept.pop("alias")
        if element.tag != "Style":
            content.append((element.tag, kept))
    return content


def create_project(
    client: Any, workspace: Workspace, split: str, round_: str, annotator: str, image_url: str, hints: bool = False
) -> Project:
    title = project_title(workspace, split, round_, annotator)
    page = image_url.partition("/key/")[0] + "/guideline"  # needs no key
    guideline = f'<p><a href="{page}" target="_blank">The guideline with pictures</a></p>'
    project = client.projects.create(
        title=title,
        description=project_description(workspace, split, round_, annotator),
        expert_instruction=_INSTRUCTION + guideline,
        show_instruction=False,
        label_config=labelling_page(hints),
        sampling="Sequential sampling",  # the order of import is the order of labelling
        maximum_annotations=1,
        show_skip_button=True,
        enable_empty_annotation=False,
        show_collab_predictions=False,  # a prediction must not preselect a choice: that biases people
        request_options=NO_RETRY,
    )
    return Project(project.id, title, 0)


def is_own_title(found: str, split: str, round_: str, annotator: str) -> bool:
    """Whether ndec itself would give this title in a workspace of some name: a workspace may be moved or renamed."""
    rest = f" {split} {round_} {annotator}"
    lengths = range(1, max(45 - len(rest), 4) + 1)
    return any(found.startswith("ndec ") and found == f"{found[: 5 + length]}{rest}"[:50] for length in lengths)


def report_renamed(connection: Connection, project: Project, title: str, split: str, assignee: tuple[str, str]) -> None:
    """Say, once in a command, that somebody renamed a project in Label Studio. assignee: round and annotator."""
    if not is_own_title(project.found_title, split, *assignee) and project.id not in connection.renamed:
        connection.renamed.add(project.id)  # a push pulls before it looks at its projects
        say(f"the project {title!r} was renamed to {project.found_title!r} in Label Studio; ndec still uses it")


def deleted_project_error(title: str, url: str, split: str, round_: str) -> NdecError:
    """The error for a project that was deleted in Label Studio."""
    verb = {"first": "push", "double_check": "double-check", "adjudication": "adjudicate", "audit": "audit"}[round_]
    return NdecError(
        f"the project {title!r} is missing on {url}: it was deleted there, or this is a different server. Labels "
        f"pulled before are safe in the workspace; `ndec annotate {verb} --split {split}` makes the project "
        "again with the pairs that have no label"
    )
