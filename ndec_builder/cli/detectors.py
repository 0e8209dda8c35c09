"""Verbs that train and evaluate detectors: train-asl, benchmark."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from ndec_builder.cli.options import among
from ndec_builder.cli.verbs import VerbCall, verb
from ndec_builder.core.errors import UsageError
from ndec_builder.training.settings import TRAINING_RECIPE_NAMES

RECIPES = (*TRAINING_RECIPE_NAMES, "fused")
PAPER = ("table", "figure", "method", "recipe", "seeds")  # options that belong to --table or --figure

app = typer.Typer()


@verb(
    app,
    "train-asl",
    "manifest recipe name backbone steps whole_network seed engine ray_address",
    configs=("train-asl", "train-fused"),
)
def train_asl(
    call: VerbCall,
    recipe: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(RECIPES)}.", autocompletion=among(*RECIPES), show_default=RECIPES[0]),
    ] = None,
) -> None:
    """Train with the norm ratio and CosFace, or fit the fused scorer. Resumes where it stopped."""
    if recipe == "fused":
        del call.flags["whole_network"]  # the trunk stays as it is
        call.run("train-fused")
    else:
        call.run(recipe=recipe)


@verb(
    app,
    "benchmark",
    "manifest queries references ground_truth kinds group_by model checkpoint descriptors predictions "
    "probabilities scorer asl_checkpoint fused_model shortlist rescored rescored_within rescored_local competition "
    "one_per_query baseline threshold scope action test_size norm_factor norm_n norm_kind twins target_precision table "
    "figure method recipe seeds n k replicates pictures name out engine ray_address",
    configs=("paper",),
)
def benchmark(call: VerbCall) -> None:
    """Evaluate a detector: μAP, precision at N, recall at 90 % precision, with and without the hard negatives."""
    flags: dict[str, Any] = call.flags | {"threshold": _number_or_text(call.flags["threshold"])}
    paper = {name: flags[name] for name in PAPER if flags.get(name) is not None}
    if "table" in paper or "figure" in paper:
        dataclasses.replace(call, flags=flags).run()
    elif paper:
        raise UsageError(f"--{next(iter(paper))} belongs to --table or --figure; give one of them too")
    else:
        of_benchmark = {name: value for name, value in flags.items() if name not in PAPER}
        dataclasses.replace(call, verb="benchmark", flags=of_benchmark).run()


def _number_or_text(text: str | None) -> float | str | None:
    """A number if it is one; the config checks any other text."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text
