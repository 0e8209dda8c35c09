"""The card says what the lineage holds and nothing else."""

from __future__ import annotations

import json

import pytest
import yaml

from ndec_builder.core.storage import write_json
from ndec_builder.manifests.export import run
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.writing.card import _size_category
from support.decided_world import World


def card(world: World, **options: object) -> str:
    return (run(ExportConfig(world.workspace.root, **options)) / "README.md").read_text()  # type: ignore[arg-type]


def test_figures_that_nobody_computed_are_not_named(world: World) -> None:
    text = card(world)
    assert "appa" not in text and "ound on" not in text and "NDEC benchmark" not in text
    assert "* Decisions: 2 edited_copy, 4 hard_negative, 1 undecided, 2 unrelated, 1 unsure." in text


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


def test_lineage_names_what_the_decisions_rest_on(world: World) -> None:
    from ndec_builder.core.storage import sha256_file

    directory = run(ExportConfig(world.workspace.root))
    facts = json.loads((directory / "manifest.json").read_text())["lineage"]
    for split in ("test", "train"):
        candidates = world.workspace.candidates(split) / "candidates.parquet"
        decisions = world.workspace.annotation(split) / "decisions.parquet"
        assert facts[split]["mining"]["candidates_sha256"] == sha256_file(candidates)
        assert facts[split]["decisions_sha256"] == sha256_file(decisions)
