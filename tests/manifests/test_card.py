"""The card says what the lineage holds and nothing else."""

from __future__ import annotations

import itertools
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ndec_builder.api import configure
from ndec_builder.core.errors import UsageError
from ndec_builder.core.storage import read_json, write_json
from ndec_builder.manifests.export import run
from ndec_builder.manifests.settings import CardConfig, ExportConfig
from ndec_builder.manifests.validate import validate
from ndec_builder.manifests.writing.card import _size_category
from support.decided_world import CARD, TEST_PAIRS, TRAIN_PAIRS, World


def card(world: World, **options: object) -> str:
    return (run(ExportConfig(world.workspace.root, **options)) / "README.md").read_text()  # type: ignore[arg-type]


def test_figures_that_nobody_computed_are_not_named(world: World) -> None:
    text = card(world)
    assert "appa" not in text and "ound on" not in text and "NDEC benchmark" not in text
    assert "* Decisions: 2 edited_copy, 4 hard_negative, 1 undecided, 2 unrelated, 1 unsure." in text


@pytest.mark.slow
def test_agreement_and_residual_bound_are_printed_where_they_are(world: World) -> None:
    agreement = {
        "rounds": {"first": {"kappa": 0.8123, "pairs": 40}, "double_check": {"kappa": None, "pairs": 0}},
        "kappa": 0.79,
        "residual_bound": {"share": 0.0123, "confidence": 0.95, "note": None},
    }
    write_json(world.workspace.annotation("test") / "agreement.json", agreement)
    text = card(world)
    assert "* Round first: Cohen's kappa 0.812 over 40 shared pairs." in text and "Round double_check" not in text
    assert "* Cohen's kappa: 0.79." in text
    assert (
        "* Edited copies among the pairs kept on a single label, upper 95 % bound: confidence 0.95, share 0.0123."
        in text
    )


@pytest.mark.slow
def test_what_random_checks_proved_is_printed(world: World) -> None:
    audit = {"kept": 5000, "audited": 300, "copies": 0, "doubtful": 1, "bound": 0.0157}
    cleared = {"pairs": 812, "threshold": 0.987654, "checked": 200, "wrong": 1, "bound": 0.0235}
    gold = {"n": 40, "right": 39, "low": 0.871, "high": 0.996}
    agreement = {
        "audit": audit,
        "auto_clear": cleared,
        "annotators": [{"annotator": "a|b", "labels": 100, "gold": gold}],
    }
    write_json(world.workspace.annotation("test") / "agreement.json", agreement)
    text = card(world)
    assert "* Audit: 300 of the 5,000 kept hard negatives, drawn at random," in text
    assert "At most 1.57% of the kept hard negatives are copies (one-sided 95 % bound" in text
    assert "* Nobody labelled 812 pairs that were discarded as edited copies by a pre-label of at least 0.9877;" in text
    assert "* a\\|b: 39 of 40 gold pairs right (95 % interval 0.871–0.996)." in text


@pytest.mark.slow
def test_head_is_yaml_and_names_the_tables(world: World) -> None:
    text = card(world, name="a.b-c")
    head = yaml.safe_load(text.split("---")[1])
    assert head["pretty_name"] == "a.b-c" and head["license"] == "other"
    tables = {config["config_name"]: config["data_files"][0] for config in head["configs"]}
    assert tables["queries"] == {"split": "test", "path": "data/queries/test-*.parquet"}
    assert tables["train_pairs"]["split"] == "train" and len(tables) == 6


@pytest.mark.parametrize(
    ("rows", "category"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (999_999, "100K<n<1M"), (20_000_000, "10M<n<100M"),
     (2_000_000_000, "1B<n<10B"), (10**12, "n>1T")],
)  # fmt: skip
def test_size_categories_are_those_of_the_hub(rows: int, category: str) -> None:
    assert _size_category(rows) == category


@pytest.mark.slow
def test_citation_is_the_file_format_and_invents_no_author(world: World) -> None:
    directory = run(ExportConfig(world.workspace.root))
    cited = yaml.safe_load((directory / "CITATION.cff").read_text())
    assert cited["authors"] == [{"name": "Authors not stated"}]
    stated = run(ExportConfig(world.workspace.root, name="stated", authors='Ann "A" Lee; Éva:  ;', version="2.0.0-rc1"))
    cited = yaml.safe_load((stated / "CITATION.cff").read_text())
    assert cited["authors"] == [{"name": 'Ann "A" Lee'}, {"name": "Éva:"}]
    assert (cited["cff-version"], cited["type"], cited["version"]) == ("1.2.0", "dataset", "2.0.0-rc1")
    # what the format's schema requires, and the types it allows
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert cited["references"][0]["authors"][0] == {"family-names": "Wang", "given-names": "Wenhao"}
    described = json.loads((stated / "croissant.json").read_text())
    assert described["creator"][0] == {"@type": "sc:Person", "name": 'Ann "A" Lee'}


@pytest.fixture
def described(world: World) -> Path:
    config = ExportConfig(world.workspace.root, distractors=2, card=CARD, authors="Ann Lee", materialize="tar")
    return run(config)


def test_the_facts_of_card_are_in_the_card_and_in_the_citation(described: Path) -> None:
    text = (described / "README.md").read_text()
    assert "* Collection: Taken by two of us in Delft in 2024, one picture a minute." in text
    assert "* Comes from: Delft Streets 2024, https://example.org/streets" in text
    assert yaml.safe_load(text.split("---")[1])["tags"][-2:] == ["dashcam", "a: b"]
    cited = yaml.safe_load((described / "CITATION.cff").read_text())
    assert (cited["url"], cited["date-released"], cited["keywords"]) == (CARD.url, "2026-11-29", ["dashcam", "a: b"])


@pytest.mark.slow
def test_zenodo_gets_the_same_facts(described: Path, world: World) -> None:
    metadata = json.loads((described / "zenodo.json").read_text())["metadata"]
    assert metadata["creators"] == [{"name": "Ann Lee"}] and metadata["publication_date"] == "2026-11-29"
    assert (metadata["upload_type"], metadata["version"], metadata["title"]) == ("dataset", "1.0.0", "benchmark")
    assert metadata["keywords"][-2:] == ["dashcam", "a: b"] and "license" not in metadata
    bare = run(ExportConfig(world.workspace.root, name="bare"))
    stated = json.loads((bare / "zenodo.json").read_text())["metadata"]
    assert {"publication_date", "related_identifiers"}.isdisjoint(stated)


def test_the_hub_reads_the_card(described: Path) -> None:
    from huggingface_hub import DatasetCard

    data = DatasetCard((described / "README.md").read_text()).data.to_dict()
    paths = {config["config_name"]: config["data_files"][0]["path"] for config in data["configs"]}
    assert [len(list(described.glob(path))) for path in paths.values()] == [1] * 6
    assert data["license"] == "other" and "dashcam" in data["tags"]


@pytest.mark.slow
def test_the_upload_command_of_the_how_to_leaves_the_log_out(described: Path) -> None:
    from huggingface_hub.utils import filter_repo_objects

    text = (Path(__file__).parents[2] / "docs" / "how-to" / "publish.md").read_text()
    command = shlex.split(next(line for line in text.splitlines() if line.startswith("hf upload ")))
    ignored = [word for before, word in itertools.pairwise(command) if before == "--exclude"]
    files = {path.relative_to(described).as_posix() for path in described.rglob("*") if path.is_file()}
    sent = set(filter_repo_objects(sorted(files), ignore_patterns=ignored))
    assert files - sent == {"run.json"}
    options = {word for word in command if word.startswith("--")}
    usage = subprocess.run(
        [str(Path(sys.executable).parent / "hf"), "upload", "--help"], capture_output=True, text=True
    )
    assert [option for option in options if option not in usage.stdout] == []


@pytest.mark.slow
def test_mlcroissant_reads_the_facts_back(described: Path) -> None:
    import mlcroissant

    found = mlcroissant.Dataset(jsonld=str(described / "croissant.json")).metadata
    assert not found.ctx.issues.errors and not found.ctx.issues.warnings
    assert found.url == CARD.url and found.date_published.date().isoformat() == "2026-11-29"
    assert found.keywords[-2:] == ["dashcam", "a: b"] and [person.name for person in found.creators] == ["Ann Lee"]
    assert found.data_collection == CARD.collection and found.data_collection_type == ["Direct measurement"]
    assert found.data_social_impact == CARD.social_impact and CARD.limitations in found.data_limitations
    assert CARD.biases in found.data_biases and found.annotator_demographics == [CARD.annotators]
    assert found.personal_sensitive_information == [CARD.personal_information]
    assert found.data_annotation_platform == ["Label Studio"]
    assert found.annotations_per_item == "1 labels: 14 pairs"  # decided pairs of both splits, counted by hand


# what the datasets track of 2026 calls the minimal set
NEURIPS_RAI = ("Limitations", "Biases", "UseCases", "SocialImpact")
NEURIPS = (*(f"rai:data{name}" for name in NEURIPS_RAI), "rai:personalSensitiveInformation", "rai:hasSyntheticData",
           "prov:wasDerivedFrom", "prov:wasGeneratedBy")  # fmt: skip


@pytest.mark.slow
def test_croissant_has_what_its_specification_and_the_datasets_track_require(described: Path) -> None:
    value = json.loads((described / "croissant.json").read_text())
    required = ("@context", "@type", "conformsTo", "description", "license", "name", "url", "creator", "datePublished")
    assert [name for name in (*required, *NEURIPS) if not value.get(name)] == []
    assert value["rai:hasSyntheticData"] is True  # two queries were made by edits, whatever the sources are
    labels = [activity["prov:label"] for activity in value["prov:wasGeneratedBy"]]
    assert labels == ["Mining of split test", "Mining of split train", "Editing", "Annotation", "Packaging"]
    assert "M403" not in {finding.code for finding in validate(described)}


@pytest.mark.slow
def test_what_nobody_stated_is_left_out_and_listed(world: World) -> None:
    directory = run(ExportConfig(world.workspace.root))
    value = json.loads((directory / "croissant.json").read_text())
    assert {"url", "datePublished", "rai:dataSocialImpact", "rai:personalSensitiveInformation"}.isdisjoint(value)
    (finding,) = (finding for finding in validate(directory) if finding.code == "M403")
    assert "[card] personal_information (rai:personalSensitiveInformation)" in finding.examples
    assert finding.severity == "warning" and "--authors (creator)" in finding.examples
    assert "[card] synthetic (rai:hasSyntheticData)" not in finding.examples  # the recorded edits tell


def test_nobody_is_named_as_annotator_of_simulated_labels(world: World) -> None:
    for split, pairs in (("test", TEST_PAIRS), ("train", TRAIN_PAIRS)):
        world.decide(split, pairs, "oracle")
    value = json.loads((run(ExportConfig(world.workspace.root)) / "croissant.json").read_text())
    assert "rai:dataAnnotationPlatform" not in value
    assert "Labels by: known truth (simulated)." in value["rai:dataLimitations"]
    assert "Annotation" not in [activity["prov:label"] for activity in value["prov:wasGeneratedBy"]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('url = "example.org"', "http://"),
        ('date_published = "29.11.2026"', "2026-11-29"),
        ('synthetic = "maybe"', "yes or no"),
    ],
)
def test_a_bad_fact_is_refused(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "ndec.toml").write_text(f"[card]\n{line}\n")
    with pytest.raises(UsageError, match=message):
        configure(ExportConfig, tmp_path)


def test_the_section_card_belongs_to_export(tmp_path: Path) -> None:
    (tmp_path / "ndec.toml").write_text('[card]\nkeywords = ["a", "b"]\n[export]\nname = "x"\n')
    config = configure(ExportConfig, tmp_path)
    assert config.name == "x" and config.card == CardConfig(keywords=("a", "b"))


def test_lineage_names_what_the_decisions_rest_on(world: World) -> None:
    from ndec_builder.core.storage import sha256_file

    directory = run(ExportConfig(world.workspace.root))
    facts = json.loads((directory / "manifest.json").read_text())["lineage"]
    for split in ("test", "train"):
        candidates = world.workspace.candidates(split) / "candidates.parquet"
        decisions = world.workspace.annotation(split) / "decisions.parquet"
        assert facts[split]["mining"]["candidates_sha256"] == sha256_file(candidates)
        assert facts[split]["decisions_sha256"] == sha256_file(decisions)


@pytest.mark.parametrize("kept", [{}, {"config": None, "cut": None, "counts": None}, {"config": {"model": "m"}}])
def test_candidates_of_which_little_is_recorded_give_a_card(world: World, kept: dict[str, object]) -> None:
    write_json(world.workspace.candidates("test") / "run.json", kept)
    text = card(world)
    assert "lowest score not recorded" in text and "at most an unrecorded number per pool image" in text


@pytest.mark.parametrize(
    ("how", "card_says", "croissant_says"),
    [
        ({"pairs": "/secret/pairs.csv"}, "that came from a file instead of a search", "search were selected"),
        (
            {"shortlist": "local"},
            "that share local features and fit by a homography, scored",
            "homography were selected",
        ),
    ],
)
def test_other_pairs_are_not_called_the_most_similar(
    world: World, how: dict[str, str], card_says: str, croissant_says: str
) -> None:
    path = world.workspace.candidates("test") / "run.json"
    record = read_json(path)
    write_json(path, record | {"config": record["config"] | how})
    directory = run(ExportConfig(world.workspace.root))
    text = (directory / "README.md").read_text()
    assert text.count(card_says) == 1 and text.count("most similar pairs") == 1
    assert "/secret" not in text + (directory / "manifest.json").read_text()
    assert croissant_says in (directory / "croissant.json").read_text()
