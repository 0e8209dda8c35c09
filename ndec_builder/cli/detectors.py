"""Verbs that train and judge detectors: train-asl, benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ndec_builder.cli.options import HERE, Json, Seed, Settings, Workspace, among, run
from ndec_builder.core.errors import UsageError
from ndec_builder.evaluation.settings import ACTIONS, SCOPES, SCORERS

RECIPES = ("asl", "asl-crop", "asl-positive", "asl-negative", "triplet", "asl-code", "asl-copies", "baseline", "fused")

app = typer.Typer()


@app.command("train-asl")
def train_asl(
    manifest: Annotated[Path, typer.Option(help="Manifest directory.")],
    workspace: Workspace = HERE,
    recipe: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(RECIPES)}.", autocompletion=among(*RECIPES)),
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
    """Train with the norm ratio and CosFace, or fit the fused scorer. Resumes where it stopped."""
    if recipe == "fused":  # the trunk stays as it is
        flags = {"manifest": manifest, "name": name, "backbone": backbone, "steps": steps, "seed": seed}
        return run("train-fused", workspace, config, as_json, **flags)
    return run(
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
    model: Annotated[
        list[str] | None, typer.Option(help="As `ndec embed --model`; several, also with --checkpoint: an ensemble.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="Run directory or checkpoint of `ndec train-asl`; several: an ensemble.")
    ] = None,
    descriptors: Annotated[
        list[Path] | None, typer.Option(help="ISC2021 HDF5: a file a side, or one; one more is the background.")
    ] = None,
    predictions: Annotated[Path | None, typer.Option(help="csv `query_id,reference_id,score` of any detector.")] = None,
    scorer: Annotated[
        str | None,
        typer.Option(
            help="cosine; asl: with the norm-ratio filter; fused: judge the best pairs.", autocompletion=among(*SCORERS)
        ),
    ] = None,
    asl_checkpoint: Annotated[Path | None, typer.Option(help="Independently trained ASL as post-processing.")] = None,
    fused_model: Annotated[
        Path | None, typer.Option(help="fused: run of `train-asl --recipe fused`; default: the fit shipped with ndec.")
    ] = None,
    rescored: Annotated[int | None, typer.Option(help="fused: best pairs of each query that are judged.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Report directory of the baseline run.")] = None,
    threshold: Annotated[
        str | None, typer.Option(help="asl: reject above this query_over_reference; auto: the checkpoint's own.")
    ] = None,
    scope: Annotated[
        str | None, typer.Option(help="asl: filter all of the list, or its topN.", autocompletion=among(*SCOPES))
    ] = None,
    action: Annotated[
        str | None, typer.Option(help="asl: drop rejected pairs, or demote them.", autocompletion=among(*ACTIONS))
    ] = None,
    test_size: Annotated[list[int] | None, typer.Option(help="Input size in px; several are averaged.")] = None,
    norm_factor: Annotated[float | None, typer.Option(help="Score normalisation: factor × background score.")] = None,
    norm_n: Annotated[int | None, typer.Option(help="Score normalisation: best background scores that count.")] = None,
    norm_kind: Annotated[str | None, typer.Option(help="Score normalisation: mean or min of them.")] = None,
    target_precision: Annotated[float | None, typer.Option(help="Precision of the advised threshold.")] = None,
    table: Annotated[int | None, typer.Option(help="Make the paper's table 1 or 2 on this manifest.")] = None,
    figure: Annotated[int | None, typer.Option(help="Make the paper's figure 6, 7 or 8 on this manifest.")] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Of a table or figure: NAME=csv, HDF5 files, model or run. Repeat it.")
    ] = None,
    recipe: Annotated[list[str] | None, typer.Option(help="Of table 2; default: all recipes. Repeat it.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Of table 2: runs a recipe.")] = None,
    n: Annotated[int | None, typer.Option("--n", help="Cut for precision at N; default: ground-truth pairs.")] = None,
    k: Annotated[int | None, typer.Option("--k", help="Nearest references per query; default: global.")] = None,
    replicates: Annotated[int | None, typer.Option(help="Bootstrap replicates for the 95 % intervals.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the report.")] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the report; default: WORKSPACE/reports/NAME.")] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Judge a detector: μAP, precision at N, recall at 90 % precision, with and without the hard negatives."""
    flags = {
        "manifest": manifest, "queries": queries, "references": references, "ground_truth": ground_truth,
        "model": model and tuple(model), "checkpoint": checkpoint and tuple(checkpoint),
        "descriptors": descriptors and tuple(descriptors), "predictions": predictions, "scorer": scorer,
        "asl_checkpoint": asl_checkpoint, "fused_model": fused_model, "rescored": rescored, "baseline": baseline,
        "threshold": _number_or_text(threshold), "scope": scope,
        "action": action, "n": n, "k": k, "replicates": replicates, "name": name, "out": out,
        "test_size": test_size and tuple(test_size), "norm_factor": norm_factor, "norm_n": norm_n,
        "norm_kind": norm_kind, "target_precision": target_precision,
    }  # fmt: skip
    paper = {"table": table, "figure": figure, "method": method and tuple(method), "recipe": recipe and tuple(recipe),
             "seeds": seeds}  # fmt: skip
    if table is None and figure is None:
        if given := [f"--{name}" for name, value in paper.items() if value]:
            raise UsageError(f"{given[0]} belongs to --table or --figure; give one of them too")
        return run("benchmark", workspace, config, as_json, **flags)
    return run("paper", workspace, config, as_json, **flags, **paper)


def _number_or_text(text: str | None) -> float | str | None:
    """What is no number is left for the config to judge."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text
