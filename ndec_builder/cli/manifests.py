"""Verbs around the dataset: export, validate, diff, fetch, and other layouts: export-release, export-results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ndec_builder.cli.options import HERE, Json, Model, Seed, Settings, Workspace, among, configured, print_result, run
from ndec_builder.manifests.settings import FORMS, IMAGE_FORMATS

app = typer.Typer()
Manifest = Annotated[Path, typer.Argument(help="Manifest directory.")]


@app.command()
def export(
    workspace: Workspace = HERE,
    name: Annotated[str | None, typer.Option(help="Name of the dataset.")] = None,
    version: Annotated[str | None, typer.Option(help="Semantic version of the dataset.")] = None,
    distractors: Annotated[int | None, typer.Option(help="Easy negatives, drawn from the unmined pool.")] = None,
    seed: Seed = None,
    preset: Annotated[str | None, typer.Option(help="own, or ndec: the parts and counts of NDEC.")] = None,
    partial: Annotated[bool | None, typer.Option("--partial", help="ndec: accept other counts.")] = None,
    hard_queries: Annotated[Path | None, typer.Option(help="Ids of ingested queries that are hard negatives.")] = None,
    materialize: Annotated[
        str | None, typer.Option(help="Pack the images: none, folder or tar.", autocompletion=among(*FORMS))
    ] = None,
    shard_megabytes: Annotated[int | None, typer.Option(help="Largest tar shard.")] = None,
    resize: Annotated[int | None, typer.Option(help="Packed images: longest side in pixels; 0 keeps it.")] = None,
    image_format: Annotated[
        str | None, typer.Option(help="Packed images: keep, jpeg, png or webp.", autocompletion=among(*IMAGE_FORMATS))
    ] = None,
    attribution_only: Annotated[
        bool | None, typer.Option("--attribution-only", help="Ids, URLs and hashes; no places of images.")
    ] = None,
    authors: Annotated[str | None, typer.Option(help="For CITATION.cff; names separated by semicolons.")] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Write the dataset: parquet tables, ground truth, hashes, card, attribution, and the images if asked to."""
    run(
        "export", workspace, config, as_json, name=name, version=version, distractors=distractors, seed=seed,
        preset=preset, partial=partial, hard_queries=hard_queries, materialize=materialize,
        shard_megabytes=shard_megabytes, resize=resize, image_format=image_format, attribution_only=attribution_only,
        authors=authors,
    )  # fmt: skip


@app.command()
def validate(
    manifest: Manifest,
    images: Annotated[bool | None, typer.Option("--images/--no-images", help="Hash the image files too.")] = None,
    pixels: Annotated[
        bool | None, typer.Option("--pixels", help="Decode all; compare pixels of the two sides.")
    ] = None,
    model: Model = None,
    near_duplicate: Annotated[float | None, typer.Option(help="With --model: cosine that is too close.")] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Recompute every count, hash and foreign key of a dataset; find leaks. docs/validation.md lists the codes."""
    flags = {"manifest": manifest, "images": images, "pixels": pixels, "model": model, "near_duplicate": near_duplicate}
    if not as_json:
        run("validate", None, config, as_json, **flags)
        return
    from ndec_builder.manifests.validate import all_findings

    findings = all_findings(configured("validate", None, config, **flags))
    valid = not any(finding.is_error for finding in findings)
    typer.echo(json.dumps({"manifest": str(manifest), "valid": valid, "findings": [f.as_dict() for f in findings]}))
    if not valid:
        raise typer.Exit(1)


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(help="Manifest directory of the older version.")],
    after: Annotated[Path, typer.Argument(help="Manifest directory of the newer version.")],
    as_json: Json = False,
) -> None:
    """What changed between two versions; exit code 1 when the version is not raised enough."""
    from ndec_builder.manifests.diff import run as compare
    from ndec_builder.manifests.settings import DiffConfig

    changes = compare(DiffConfig(before, after))
    typer.echo(json.dumps(changes.as_dict()) if as_json else changes.as_text())
    if not changes.adequate:
        raise typer.Exit(1)


@app.command()
def fetch(
    manifest: Manifest,
    delay: Annotated[float | None, typer.Option(help="Seconds between two requests to one host.")] = None,
    contact: Annotated[str | None, typer.Option(help="Your address or URL, for the User-Agent.")] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Download the images of an attribution-only dataset and compare each with its sha256. Run again to go on."""
    run("fetch", None, config, as_json, manifest=manifest, delay=delay, contact=contact)


@app.command("export-release")
def export_release(
    manifest: Manifest,
    out: Annotated[Path, typer.Option(help="New folder.")],
    as_json: Json = False,
) -> None:
    """Write a dataset in the layout of the NDEC release: negative_pair, query_images_h5, ground truth csv."""
    from ndec_builder.manifests.export_release import ReleaseConfig
    from ndec_builder.manifests.export_release import run as export_layout

    print_result(export_layout(ReleaseConfig(manifest, out)), as_json)


@app.command("export-results")
def export_results(
    report: Annotated[Path, typer.Argument(help="Report directory of `ndec benchmark`.")],
    format: Annotated[
        str,
        typer.Option(
            help="csv, csv6 (six decimals), trec or hdf5 (descriptors).",
            autocompletion=among("csv", "csv6", "trec", "hdf5"),
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="File to write; default: beside the predictions.")] = None,
    pca: Annotated[int | None, typer.Option(help="hdf5: reduce the descriptors to so many dimensions.")] = None,
    workspace: Workspace = HERE,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Write a report's predictions, or the descriptors behind them, in a form that other tools read."""
    run("export-results", workspace, config, as_json, report=report, format=format, out=out, pca=pca)
