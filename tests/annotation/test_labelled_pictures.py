"""A label counts as long as its two ids have the pictures that the annotator saw."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.annotation import resolve
from ndec_builder.annotation.records.pictures import ShownPictures, lost_pictures
from ndec_builder.annotation.settings import ResolveConfig
from ndec_builder.annotation.staleness import stale_results
from ndec_builder.core.schemas import IMAGES, LABEL_ROWS, PRELABELS, TASKS, table_of
from ndec_builder.core.storage import write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.pictures_over_time import record_replaced

IDS = ["a", "b"]
PICTURES = st.sampled_from(["red", "red 90", "green", "blue", None])  # None: a picture that was never opened
ROLE_SIDES = {"pool": 0, "reference": 1}
ROLES = st.sampled_from(["pool", "reference"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ingest"), ROLES, st.dictionaries(st.sampled_from(IDS), PICTURES)),
        st.tuples(st.just("label"), st.sampled_from(IDS), st.sampled_from(IDS)),
    ),
    max_size=12,
)  # fmt: skip


def ingest(workspace: Workspace, role: str, pictures: dict[str, str | None]) -> None:
    """What `ndec ingest` does with a table of images."""
    rows = []
    for name, picture in sorted(pictures.items()):
        sha, _, rotation = (picture or "").partition(" ")
        rows.append({"image_id": name, "sha256": sha or None, "rotation": int(rotation or 0)})
    coming = workspace.images(role).with_name("coming.parquet")
    columns = pa.schema([IMAGES.field(name) for name in ("image_id", "sha256", "rotation")])
    write_table(coming, pa.Table.from_pylist(rows, columns))
    record_replaced(workspace, role, coming)
    coming.replace(workspace.images(role))


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_labels_follow_the_pictures_that_people_saw(steps: list[tuple]) -> None:
    """The oracle remembers what each label showed, so it needs no times and no record of replaced pictures."""
    start = {"pool": {"a": "red", "b": "green"}, "reference": {"a": "blue", "b": "red"}}
    with tempfile.TemporaryDirectory() as folder:
        workspace, now = Workspace(Path(folder)), {role: dict(images) for role, images in start.items()}
        for role, images in start.items():
            ingest(workspace, role, images)
        labels, shown = [], []
        for name, *rest in steps:
            if name == "ingest":
                now[rest[0]] = rest[1]
                ingest(workspace, *rest)
                for seen in shown:  # a picture that was never opened is taken for the one that is known next
                    side = ROLE_SIDES[rest[0]]
                    seen[2 + side] = seen[2 + side] or rest[1].get(seen[side])
            elif rest[0] in now["pool"] and rest[1] in now["reference"]:
                labels.append({"pair_id": f"{rest[0]}-{rest[1]}", "label": "unsure", "annotated_at": datetime.now(UTC)})
                shown.append([*rest, now["pool"][rest[0]], now["reference"][rest[1]]])
        pairs = [{"pair_id": f"{a}-{b}", "query_id": a, "reference_id": b} for a in IDS for b in IDS]
        tasks, given_labels = table_of(TASKS, pairs), table_of(LABEL_ROWS, labels)
        found = ShownPictures(workspace, "test", tasks).former_labels(given_labels).tolist()
        lost = lost_pictures(workspace, "test", tasks, given_labels)
    for (query, reference, *seen), is_replaced in zip(shown, found, strict=True):
        today = now["pool"].get(query), now["reference"].get(reference)
        known = [(then, there) for then, there in zip(seen, today, strict=True) if None not in (then, there)]
        assert is_replaced == any(then != there for then, there in known)
    expected = []  # without tags, an unknown picture of today is taken for the one that people saw
    for row, (query, reference, *seen) in enumerate(shown):
        today = now["pool"].get(query), now["reference"].get(reference)
        if (former := (seen[0] or today[0], seen[1] or today[1])) != today:
            expected.append((row, *former))
    assert lost == expected


def test_resolve_says_that_push_asks_again_for_a_replaced_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace(tmp_path)
    ingest(workspace, "pool", {"a": "red", "b": "green"})
    ingest(workspace, "reference", {"a": "blue"})
    task = {"round": "first", "annotator": "ann", "batch": 1, "is_gold": False}
    tasks = [task | {"pair_id": f"{name}-a", "query_id": name, "reference_id": "a"} for name in IDS]
    label = {"round": "first", "annotator": "ann", "label": "unsure", "is_gold": False}
    label["annotated_at"] = datetime.now(UTC)
    folder = workspace.annotation("test")
    write_table(folder / "tasks.parquet", table_of(TASKS, tasks))
    write_table(folder / "labels.parquet", table_of(LABEL_ROWS, [label | {"pair_id": f"{name}-a"} for name in IDS]))
    resolve.run(ResolveConfig(tmp_path))
    assert stale_results(workspace) == []
    ingest(workspace, "pool", {"a": "red", "b": "white"})
    (stale,) = stale_results(workspace)  # a dataset made now would take the decision about the picture before
    assert "split test were made before pictures of decided pairs changed: run `ndec annotate" in str(stale)
    resolve.run(ResolveConfig(tmp_path))
    assert stale_results(workspace) == []
    said = " ".join(capsys.readouterr().err.split())
    assert "1 labelled pair shows other pictures now" in said and "(first pair: b-a)" in said
    assert "do not count; `ndec annotate push --split test` asks again: 1" in said


def test_weighed_decisions_are_older_than_pre_labels_that_were_learnt_again(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    folder = workspace.annotation("test")
    task = {"pair_id": "p", "round": "first", "annotator": "ann", "batch": 1, "is_gold": False}
    write_table(folder / "tasks.parquet", table_of(TASKS, [task | {"query_id": "q", "reference_id": "r"}]))
    label = {"label": "unsure", "annotated_at": datetime.now(UTC)}
    write_table(folder / "labels.parquet", table_of(LABEL_ROWS, [task | label]))
    for decide, learnt in (("agreement", 0.2), ("weighed", 0.3)):
        resolve.run(ResolveConfig(tmp_path, decide=decide))
        assert stale_results(workspace) == []
        row = {"pair_id": "p", "edited_copy": learnt, "hard_negative": 1 - learnt, "unrelated": 0.0}
        write_table(folder / "prelabels.parquet", table_of(PRELABELS, [row]))
        found = [(str(one), one.blocks) for one in stale_results(workspace)]
        command = "run `ndec annotate resolve --split test`"
        why = "the weighed decisions of split test were made before `relearn` changed the pre-labels"
        assert found == ([(f"{why}: {command}", False)] if decide == "weighed" else [])
    resolve.run(ResolveConfig(tmp_path, decide="weighed"))
    assert stale_results(workspace) == []
