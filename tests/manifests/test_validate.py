"""Every finding, provoked by one change to a dataset that is valid before it."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import MANIFEST_TABLES, table_of
from ndec_builder.core.storage import sha256_file, write_json, write_table
from ndec_builder.manifests.build import run as export
from ndec_builder.manifests.settings import ExportConfig, ValidateConfig
from ndec_builder.manifests.validate import run, validate


@pytest.fixture
def directory(world):
    return export(ExportConfig(world.workspace.root, distractors=2))


def path_of(directory, name):
    return directory / "data" / name / f"{MANIFEST_TABLES[name][0]}-00000-of-00001.parquet"


def rewrite(directory, name, change):
    """Change the rows of a table, and keep its hash and the csv files' in step, so that only the content is wrong."""
    rows = pq.read_table(path_of(directory, name)).to_pylist()
    changed = change(rows)
    rows = rows if changed is None else changed
    write_table(path_of(directory, name), table_of(MANIFEST_TABLES[name][1], rows))


def rehash(directory):
    info = json.loads((directory / "manifest.json").read_text())
    for file, entry in info["files"].items():
        if (directory / file).is_file():
            entry["sha256"] = sha256_file(directory / file)
    write_json(directory / "manifest.json", info)


def edit_info(directory, **changes):
    info = json.loads((directory / "manifest.json").read_text())
    write_json(directory / "manifest.json", info | changes)


def setter(table, key, row_id, **values):
    def change(directory):
        def rows_of(rows):
            row = next(row for row in rows if row[key] == row_id)
            row.update(values)

        rewrite(directory, table, rows_of)

    return change


def adder(table, **values):
    return lambda directory: rewrite(directory, table, lambda rows: rows.append(rows[0] | values))


def remover(table, key, row_id):
    return lambda directory: rewrite(directory, table, lambda rows: [row for row in rows if row[key] != row_id])


def clear_truth(directory):
    rewrite(directory, "ground_truth", lambda rows: [row | {"reference_id": None} for row in rows])


def turn_pairs(directory):
    def rows_of(rows):
        return [row | {"former_id": row["latter_id"], "latter_id": row["former_id"]} for row in rows]

    rewrite(directory, "train_pairs", rows_of)


def borrow(table, key, row_id, column, source, source_key, source_id):
    """Give a row the hash or group of a row of another table."""

    def change(directory):
        rows = pq.read_table(path_of(directory, source)).to_pylist()
        value = next(row[column] for row in rows if row[source_key] == source_id)
        setter(table, key, row_id, **{column: value})(directory)

    return change


def text(name, old, new):
    def change(directory):
        before = (directory / name).read_text()
        assert old in before
        (directory / name).write_text(before.replace(old, new, 1))

    return change


def no_column(directory):
    path = path_of(directory, "references")
    pq.write_table(pq.read_table(path).drop_columns(["sha256"]), path)


def other_type(directory):
    path = path_of(directory, "train_pairs")
    table = pq.read_table(path)
    column = table.schema.get_field_index("score")
    pq.write_table(table.set_column(column, "score", [["high"] * len(table)]), path)


def images_of(directory):
    return directory.parent.parent / "files"


CHANGES = {
    "M101": lambda directory: edit_info(directory, files={"../x": {"sha256": "0", "bytes": 1}}),
    "M102": lambda directory: (directory / "ATTRIBUTION.csv").unlink(),
    "M103": lambda directory: (directory / "README.md").write_text((directory / "README.md").read_text() + "\n"),
    "M104": lambda directory: (directory / "notes.txt").write_text("x"),
    "M105": no_column,
    "M105 type": other_type,
    "M105 broken": lambda directory: path_of(directory, "queries").write_bytes(b"PAR1"),
    "M106": text("ground_truth.csv", "mine,r3", "mine,r2"),
    "M107": text("ATTRIBUTION.csv", "CC-BY-4.0", "CC0-1.0"),
    "M108": text("README.md", "- config_name: references", "- config_name: originals"),
    "M108 count": text("README.md", "| references | 3 |", "| references | 4 |"),
    "M109": text("croissant.json", '"contentUrl": "data/queries', '"contentUrl": "data/other'),
    "M109 json": lambda directory: (directory / "croissant.json").write_text("{"),
    "M201": remover("references", "image_id", "r1"),
    "M201 kinds": setter("queries", "query_id", "p-hard", hard_kind="reverse_crop"),
    "M202": adder("queries"),
    "M202 truth": adder("ground_truth", reference_id="r3"),
    "M202 pair": adder("train_pairs"),
    "M203": setter("references", "image_id", "r1", image_id=None),
    "M204": adder("ground_truth", query_id="nobody"),
    "M205": setter("ground_truth", "query_id", "mine", reference_id="r9"),
    "M206": remover("ground_truth", "query_id", "p-hard"),
    "M207": clear_truth,
    "M208": setter("queries", "query_id", "mine", kind="distractor"),
    "M208 unknown": setter("queries", "query_id", "p-hard", kind="nonsense"),
    "M208 truth": setter("ground_truth", "query_id", "p-hard", reference_id="r1"),
    "M209": setter("queries", "query_id", "p-hard", hard_kind=None),
    "M209 other": setter("queries", "query_id", "mine", hard_kind="natural"),
    "M209 unknown": setter("queries", "query_id", "mine", hard_kind="weird"),
    "M210": remover("train_basic", "image_id", "b1"),
    "M211": remover("train_pair_images", "image_id", "t-good"),
    "M212": adder("train_pair_images", image_id="idle"),
    "M213": adder("train_pair_images", image_id="b1"),
    "M214": turn_pairs,
    "M301": borrow("queries", "query_id", "p-hard", "sha256", "references", "image_id", "r1"),
    "M301 other match": borrow("queries", "query_id", "copy-000000", "sha256", "references", "image_id", "r2"),
    "M302": borrow("queries", "query_id", "p-hard", "sha256", "queries", "query_id", "p-whole"),
    "M303": borrow("train_basic", "image_id", "b1", "sha256", "references", "image_id", "r1"),
    "M303 pair": borrow("train_pair_images", "image_id", "t-good", "sha256", "queries", "query_id", "p-hard"),
    "M304": borrow("train_basic", "image_id", "b2", "group", "queries", "query_id", "p-hard"),
    "M304 pair": borrow("train_pair_images", "image_id", "t-good", "group", "references", "image_id", "r2"),
    "M305": lambda directory: (images_of(directory) / "reference" / "r1.png").write_bytes(b"changed"),
    "M306": lambda directory: shutil.rmtree(images_of(directory) / "query"),
    "M401": setter("references", "image_id", "r1", license=""),
}
WARNINGS = {"M212", "M302", "M306", "M401"}
HASHES = {"M101", "M102", "M103", "M104"}  # about the hashes themselves: they are not brought up to date


@pytest.mark.parametrize("case", CHANGES)
def test_finding(directory, case):
    code = case.split()[0]
    CHANGES[case](directory)
    if code not in HASHES:
        rehash(directory)
    findings = {finding.code: finding for finding in validate(directory)}
    assert code in findings, sorted(findings)
    assert findings[code].severity == ("warning" if code in WARNINGS else "error")
    assert findings[code].what and findings[code].remedy
    if code in HASHES or code in ("M305", "M306"):
        assert not {other for other in findings if other.startswith("M2")}


def test_every_code_has_a_case():
    from pathlib import Path

    import ndec_builder.manifests as package

    source = "".join(path.read_text() for path in Path(package.__file__).parent.glob("*checks.py"))
    import re

    assert set(re.findall(r'"(M\d{3})"', source)) == {case.split()[0] for case in CHANGES}


def test_a_fresh_export_has_only_the_licence_warning(directory, capsys):
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    assert run(ValidateConfig(directory)) == directory
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before
    assert [(finding.code, finding.rows) for finding in validate(directory)] == [("M401", 2)]
    assert "M401 warning: train_basic without a licence: b1, b2" in " ".join(capsys.readouterr().err.split())


def test_run_lists_the_errors(directory):
    CHANGES["M205"](directory)
    with pytest.raises(NdecError) as error:
        run(ValidateConfig(directory))
    assert "checks failed" in str(error.value)
    assert "M103 error" in str(error.value) and "M205 error: ground truth names unknown references: r9" in str(
        error.value
    )
    assert error.value.exit_code == 1


def test_images_can_be_left_alone(directory):
    CHANGES["M305"](directory)
    assert "M305" not in {finding.code for finding in validate(directory, images=False)}


def test_no_dataset(tmp_path):
    with pytest.raises(NdecError, match=r"no manifest\.json"):
        run(ValidateConfig(tmp_path))
