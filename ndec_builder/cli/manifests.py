"""Verbs for the dataset: export, validate, diff, fetch, and other layouts: export-release, export-results."""

from __future__ import annotations

import json

import typer

from ndec_builder.cli.options import print_result
from ndec_builder.cli.verbs import VerbCall, verb
from ndec_builder.manifests.settings import DiffConfig, ReleaseConfig

app = typer.Typer()


@verb(
    app,
    "export",
    "name version distractors confirmed_copies seed preset partial hard_queries materialize shard_megabytes resize "
    "image_format attribution_only train_only authors hashes",
)
def export(call: VerbCall) -> None:
    """Write the dataset: parquet tables, ground truth, hashes, card, attribution, and the images if requested."""
    call.run()


@verb(app, "validate", "manifest images pixels model near_duplicate")
def validate(call: VerbCall) -> None:
    """Recompute every count, hash and foreign key of a dataset; find leaks. docs/validation.md lists the codes."""
    if not call.as_json:
        call.run()
        return
    from ndec_builder.manifests.validate import all_findings

    config = call.config()
    findings = all_findings(config)
    valid = not any(finding.is_error for finding in findings)
    found = [finding.as_dict() for finding in findings]
    typer.echo(json.dumps({"manifest": str(config.manifest), "valid": valid, "findings": found}))
    if not valid:
        raise typer.Exit(1)


@verb(app, "diff", "before after", configs=DiffConfig, common=("json",))
def diff(call: VerbCall) -> None:
    """What changed between two versions; exit code 1 when the version is not raised enough."""
    from ndec_builder.manifests.diff import run

    changes = run(DiffConfig(**call.flags))
    typer.echo(json.dumps(changes.as_dict()) if call.as_json else changes.as_text())
    if not changes.adequate:
        raise typer.Exit(1)


@verb(app, "fetch", "manifest delay allow contact")
def fetch(call: VerbCall) -> None:
    """Download the images of an attribution-only dataset and compare each with its sha256. Run again to resume."""
    call.run()


@verb(app, "export-release", "manifest out", configs=ReleaseConfig, common=("json",))
def export_release(call: VerbCall) -> None:
    """Write a dataset in the layout of the NDEC release: negative_pair, query_images_h5, ground truth csv."""
    from ndec_builder.manifests.export_release import run

    print_result(run(ReleaseConfig(**call.flags)), call.as_json)


@verb(app, "export-results", "report format out pca")
def export_results(call: VerbCall) -> None:
    """Write a report's predictions, or the descriptors behind them, in a form that other tools read."""
    call.run()
