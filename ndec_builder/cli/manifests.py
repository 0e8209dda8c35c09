"""Verbs around the dataset: export, validate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ndec_builder.cli.options import HERE, Json, Seed, Settings, Workspace, run

app = typer.Typer()


@app.command()
def export(
    workspace: Workspace = HERE,
    name: Annotated[str | None, typer.Option(help="Name of the dataset.")] = None,
    version: Annotated[str | None, typer.Option(help="Semantic version of the dataset.")] = None,
    distractors: Annotated[int | None, typer.Option(help="Easy negatives, drawn from the unmined pool.")] = None,
    seed: Seed = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Write the dataset: parquet tables, ground truth, hashes, card, attribution."""
    run("export", workspace, config, as_json, name=name, version=version, distractors=distractors, seed=seed)


@app.command()
def validate(
    manifest: Annotated[Path, typer.Argument(help="Manifest directory.")],
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Recompute every count, hash and foreign key of a dataset."""
    run("validate", None, config, as_json, manifest=manifest)
