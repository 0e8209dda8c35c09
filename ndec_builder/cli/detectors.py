"""Verbs that train and judge detectors: train-asl, benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ndec_builder.cli.options import HERE, Json, Model, Seed, Settings, Workspace, run

app = typer.Typer()


@app.command("train-asl")
def train_asl(
    manifest: Annotated[Path, typer.Option(help="Manifest directory.")],
    workspace: Workspace = HERE,
    recipe: Annotated[
        str | None, typer.Option(help="asl, asl-crop, asl-positive, asl-negative, asl-copies or baseline.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; default: the recipe.")] = None,
    backbone: Annotated[str | None, typer.Option(help="As `ndec embed --model`.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    whole_network: Annotated[
        bool | None, typer.Option("--whole-network/--frozen-trunk", help="Train the trunk too.")
    ] = None,
    seed: Seed = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Train with the norm ratio and CosFace. Resumes where it stopped."""
    run(
        "train-asl", workspace, config, as_json, manifest=manifest, recipe=recipe, name=name, backbone=backbone,
        steps=steps, whole_network=whole_network, seed=seed,
    )  # fmt: skip


@app.command()
def benchmark(
    workspace: Workspace = HERE,
    manifest: Annotated[Path | None, typer.Option(help="Manifest directory.")] = None,
    queries: Annotated[
        Path | None, typer.Option(help="Folder of queries, with --references and --ground-truth.")
    ] = None,
    references: Annotated[Path | None, typer.Option(help="Folder of references.")] = None,
    ground_truth: Annotated[Path | None, typer.Option(help="DISC21 csv `query_id,reference_id`.")] = None,
    model: Model = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Run directory or checkpoint of `ndec train-asl`.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="csv `query_id,reference_id,score` of any detector.")] = None,
    scorer: Annotated[str | None, typer.Option(help="cosine, or asl: cosine with the norm-ratio filter.")] = None,
    asl_checkpoint: Annotated[Path | None, typer.Option(help="Independently trained ASL as post-processing.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Report directory of the baseline run.")] = None,
    threshold: Annotated[float | None, typer.Option(help="asl: reject above this query_over_reference.")] = None,
    scope: Annotated[str | None, typer.Option(help="asl: filter all of the list, or its topN.")] = None,
    action: Annotated[str | None, typer.Option(help="asl: drop rejected pairs, or demote them.")] = None,
    n: Annotated[int | None, typer.Option("--n", help="Cut for precision at N; default: ground-truth pairs.")] = None,
    k: Annotated[int | None, typer.Option("--k", help="Nearest references per query; default: global.")] = None,
    replicates: Annotated[int | None, typer.Option(help="Bootstrap replicates for the 95 % intervals.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the report.")] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the report; default: WORKSPACE/reports/NAME.")] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Judge a detector: μAP, precision at N, recall at 90 % precision, with and without the hard negatives."""
    run(
        "benchmark", workspace, config, as_json, manifest=manifest, queries=queries, references=references,
        ground_truth=ground_truth, model=model, checkpoint=checkpoint, predictions=predictions, scorer=scorer,
        asl_checkpoint=asl_checkpoint, baseline=baseline, threshold=threshold, scope=scope, action=action, n=n, k=k,
        replicates=replicates, name=name, out=out,
    )  # fmt: skip
