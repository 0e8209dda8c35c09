"""Every kind of damage is found with its code; a dataset without damage has only findings that are true of it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import IMAGES, table_of
from ndec_builder.core.storage import sha256_file, write_table
from ndec_builder.manifests.codes import CODES
from ndec_builder.manifests.csv_tables import IMAGE_TABLES
from ndec_builder.manifests.export import run as export
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import ExportConfig, ValidateConfig
from ndec_builder.manifests.validate import all_findings, run, validate
from ndec_builder.manifests.validation.file_checks import check_info
from ndec_builder.manifests.validation.image_checks import check_images
from support.damage import setter
from support.damages import ATTRIBUTED, FOLDED, LINKED, TARRED
from support.decided_world import CARD, TEST_PAIRS, make_world
from support.pictures import scene

pytestmark = pytest.mark.slow

FORMS = {
    "linked": ({}, LINKED),
    "tar": ({"materialize": "tar"}, TARRED),
    "folder": ({"materialize": "folder"}, FOLDED),
    "attribution": ({"attribution_only": True}, ATTRIBUTED),
}
CASES = [(form, kind) for form, (_, kinds) in FORMS.items() for kind in kinds]
TRUE_OF_IT = {"M401"}  # the basic images of the fixture have no licence


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A valid dataset in each form, with its workspace, to be copied."""
    made = {}
    for form, (options, _) in FORMS.items():
        world = make_world(tmp_path_factory.mktemp(form))
        made[form] = export(ExportConfig(world.workspace.root, distractors=2, card=CARD, authors="Ann", **options))
    return made


def copied(directory: Path, tmp_path: Path) -> Path:
    root = directory.parent.parent
    shutil.copytree(root, tmp_path / root.name)
    return tmp_path / root.name / "manifests" / directory.name


@pytest.mark.parametrize(("form", "kind"), CASES, ids=[f"{form}-{kind}" for form, kind in CASES])
def test_damage_is_found_with_its_code(whole: dict[str, Path], tmp_path: Path, form: str, kind: str) -> None:
    directory = copied(whole[form], tmp_path)
    code, damage = FORMS[form][1][kind]
    damage(directory)
    findings = {finding.code: finding for finding in validate(directory)}
    assert code in findings, f"{kind}: found {sorted(findings)}"
    assert findings[code].severity == CODES[code].severity
    assert findings[code].rows > 0 or findings[code].detail or code == "M207"


@pytest.mark.parametrize("form", FORMS)
def test_a_fresh_export_has_only_the_findings_that_are_true_of_it(whole: dict[str, Path], form: str) -> None:
    directory = whole[form]
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    expected = TRUE_OF_IT | ({"M306", "M222"} if form == "attribution" else set())
    assert {finding.code for finding in validate(directory)} == expected
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before


def test_there_are_enough_kinds_and_every_code_has_one() -> None:
    assert len(CASES) >= 40
    by_pixels = {"M310", "M311", "M312", "M316", "M317"}  # below
    by_labels = {"M313", "M314", "M315"}  # below
    assert {FORMS[form][1][kind][0] for form, kind in CASES} == set(CODES) - by_pixels - by_labels - {"M117"}


def test_the_document_has_every_code_and_kind() -> None:
    document = (Path(__file__).parents[2] / "docs" / "validation.md").read_text("utf-8")
    for code, entry in CODES.items():
        assert f"| {code} | {entry.severity} | {entry.meaning} | {entry.remedy} |" in document.splitlines(), code
    for form, kind in CASES:
        assert f"| {kind} | {FORMS[form][1][kind][0]} |" in document.splitlines(), kind
    assert set(re.findall(r"^\| (M\d{3}) \|", document, re.MULTILINE)) == set(CODES)


def test_source_uses_no_other_codes() -> None:
    import ndec_builder.manifests as package

    source = "".join(path.read_text() for path in Path(package.__file__).parent.rglob("*.py") if path.stem != "codes")
    assert set(re.findall(r'"(M\d{3})"', source)) == set(CODES)


def test_run_lists_the_errors_and_says_warnings(
    whole: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = copied(whole["linked"], tmp_path)
    assert run(ValidateConfig(directory)) == directory
    assert "M401 warning: images without a licence (train_basic): b1, b2; " in " ".join(capsys.readouterr().err.split())
    setter("ground_truth", "query_id", "mine", reference_id="r9")(directory)
    with pytest.raises(NdecError) as error:
        run(ValidateConfig(directory))
    assert re.search(r"is not valid, (1 check|\d+ checks) failed:", str(error.value)) and error.value.exit_code == 1
    assert "M205 error: the ground truth names unknown references: r9; " in str(error.value)


def test_findings_count_rows_and_name_the_first(whole: dict[str, Path], tmp_path: Path) -> None:
    directory = copied(whole["linked"], tmp_path)
    LINKED["no positives"][1](directory)
    found = next(finding for finding in validate(directory) if finding.code == "M208")
    assert found.as_dict()["rows"] == ["copy-000000", "copy-000001", "mine", "p-copy", "p-mixed"]
    assert found.as_dict()["count"] == 5 and "M208" in json.dumps(found.as_dict())


def test_images_can_be_left_alone(whole: dict[str, Path], tmp_path: Path) -> None:
    directory = copied(whole["linked"], tmp_path)
    LINKED["an image file changed"][1](directory)
    assert "M305" not in {finding.code for finding in validate(directory, images=False)}


def test_the_same_pixels_in_another_file_are_a_leak(world) -> None:
    path = world.workspace.files("basic") / "b1.bmp"
    scene(2, (48, 32)).save(path)  # the pixels of r2
    rows = world.workspace.read_images("basic").to_pylist()
    for row in rows:
        if row["image_id"] == "b1":
            row |= {"uri": world.workspace.uri_of(path), "sha256": sha256_file(path)}
    write_table(world.workspace.images("basic"), table_of(IMAGES, rows))
    directory = export(ExportConfig(world.workspace.root))
    assert "M310" not in {finding.code for finding in validate(directory)}
    found = {finding.code: finding for finding in all_findings(ValidateConfig(directory, pixels=True))}
    assert found["M310"].examples == ("train_basic/b1",)
    (world.workspace.files("reference") / "r3.png").write_bytes(b"no picture")
    found = {finding.code: finding for finding in all_findings(ValidateConfig(directory, pixels=True))}
    assert "references/r3" in found["M312"].examples


def test_the_same_picture_twice_in_a_role_is_found(world) -> None:
    for role, name, seed in (("reference", "r2", 1), ("query", "stranger", 11)):  # the pixels of r1 and copy-000000
        path = world.workspace.files(role) / f"{name}.bmp"
        scene(seed, (48, 32)).save(path)
        rows = world.workspace.read_images(role).to_pylist()
        for row in rows:
            if row["image_id"] == name:
                row |= {"uri": world.workspace.uri_of(path), "sha256": sha256_file(path)}
        write_table(world.workspace.images(role), table_of(IMAGES, rows))
    found = {
        finding.code: finding
        for finding in all_findings(ValidateConfig(export(ExportConfig(world.workspace.root)), pixels=True))
    }
    assert found["M316"].examples == ("r2",) and found["M317"].examples == ("stranger",)


@pytest.mark.parametrize(
    ("key", "label", "code", "name"),
    [
        (("free1", "r1"), "edited_copy", "M313", "free1"),
        (("free1", "r1"), "hard_negative", "M313", "free1"),
        (("free1", "r1"), "unrelated", None, ""),  # no contradiction: it is still a distractor
        (("p-hard", "r1"), "edited_copy", "M314", "p-hard"),
        (("p-copy", "r1"), "unrelated", "M315", "p-copy"),
    ],
)
def test_queries_that_contradict_the_labels_of_the_workspace(world, key, label, code, name) -> None:
    directory = export(ExportConfig(world.workspace.root, distractors=6))
    labels = TEST_PAIRS | {key: label}
    world.tasks("test", [pair for pair, value in labels.items() if value not in ("absent", "duplicate")])
    world.decide("test", labels)  # after the export
    found = {finding.code: finding for finding in validate(directory)}
    assert found.keys() & {"M313", "M314", "M315"} == ({code} if code else set())
    if code:
        assert found[code].examples == (name,) and found[code].is_error


@pytest.mark.parametrize(("decision", "expected"), [("edited_copy", {"M314": ("pool/p-hard",)}), ("unrelated", {})])
def test_a_renamed_pool_image_is_compared_under_its_own_id(world, decision, expected) -> None:
    """A query that was ingested as p-hard, a copy of r1, is another image and contradicts no label."""
    world.images("query", {"p-hard": (11, None), "mine": (12, None)})
    world.truth(("p-hard", "r1"), ("mine", "r3"))
    directory = export(ExportConfig(world.workspace.root))
    world.decide("test", TEST_PAIRS | {("p-hard", "r1"): decision})  # after the export
    found = {finding.code: finding.examples for finding in validate(directory) if finding.code in ("M314", "M315")}
    assert found == expected


def test_a_valid_dataset_says_what_was_not_compared(whole: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads((whole["tar"] / "manifest.json").read_text())["counts"]["rows"]
    images = sum(rows[name] for name in ("queries", "references", "train_basic", "train_pair_images"))
    run(ValidateConfig(whole["tar"]))
    assert "is valid: every count, hash and foreign key holds\n" in capsys.readouterr().err
    run(ValidateConfig(whole["tar"], images=False))
    said = " ".join(capsys.readouterr().err.split())
    assert f"holds; {images} images were not compared with the tables (--no-images)" in said
    run(ValidateConfig(whole["attribution"]))  # before `ndec fetch`: no picture is there
    said = " ".join(capsys.readouterr().err.split())
    assert f"holds; {images} images were not compared with the tables (they are not on this machine)" in said


@pytest.mark.parametrize(
    ("labels_by", "codes"),
    [("people", set()), ("people and programs (ann: faster than a person can label)", set()), ("nobody", {"M116"})],
)
def test_a_dataset_that_called_a_fast_person_a_program_stays_valid(whole, labels_by, codes) -> None:
    """In earlier versions, 2,400 labels an hour were too many for a person; now it is 7,200."""
    info = json.loads((whole["linked"] / "manifest.json").read_text())
    row = {"annotator": "ann", "labels": 100, "pace": 2500.0, "median_seconds": 1.4}
    info["lineage"]["test"]["agreement"] = {"annotators": [row]}
    assert {finding.code for finding in check_info(info | {"labels_by": labels_by})} == codes


@pytest.mark.parametrize("right_one", [0, 1])
def test_two_rows_with_one_file_and_different_sums_are_found(whole: dict[str, Path], right_one: int) -> None:
    manifest = open_manifest(whole["folder"])
    tables = {name: manifest.table(name) for name in IMAGE_TABLES}
    row = tables["references"].slice(0, 1)
    wrong = row.set_column(row.schema.get_field_index("sha256"), "sha256", pa.array(["0" * 64]))
    both = [row, wrong] if right_one == 0 else [wrong, row]
    rest = tables["references"].slice(1)
    found = list(check_images(manifest, tables | {"references": pa.concat_tables([*both, rest])}))
    assert [(finding.code, finding.examples) for finding in found] == [("M305", (row["uri"][0].as_py(),))]


def test_a_re_encoded_training_image_is_a_near_duplicate(world) -> None:
    def table(role: str, pictures: dict) -> None:
        rows = []
        for name, picture in sorted(pictures.items()):
            path = world.workspace.files(role) / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, quality=60 if role == "basic" else 95)
            row = {"image_id": name, "role": role, "uri": world.workspace.uri_of(path), "sha256": sha256_file(path)}
            rows.append(row | {"width": 192, "height": 144, "format": "JPEG", "rotation": 0})
        write_table(world.workspace.images(role), table_of(IMAGES, rows))

    table("reference", {f"r{n}": scene(n) for n in (1, 2, 3)})
    table("basic", {"b1": scene(2).resize((160, 120)), "b2": scene(91), "b-far": scene(92)})
    directory = export(ExportConfig(world.workspace.root))
    model = {"model": "efficientnet-lite0", "images": False}
    found = {finding.code: finding for finding in all_findings(ValidateConfig(directory, near_duplicate=0.9, **model))}
    assert found["M311"].examples == ("train_basic/b1",)
    with pytest.raises(UsageError, match="must be above 0 and at most 1"):
        all_findings(ValidateConfig(directory, near_duplicate=1.5, **model))


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(NdecError, match=r"no manifest\.json"):
        run(ValidateConfig(tmp_path))
