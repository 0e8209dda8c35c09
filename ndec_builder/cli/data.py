"""Verbs that turn pictures into candidate pairs: corpus, ingest, edit, embed, mine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ndec_builder.candidates.settings import SEARCHES
from ndec_builder.cli.options import HERE, Json, Model, Seed, Settings, Split, Workspace, among, print_models, run
from ndec_builder.core.errors import UsageError
from ndec_builder.core.vocabulary import ROLES
from ndec_builder.sources.settings import SOURCE_KINDS

app = typer.Typer()
corpus = typer.Typer(help="The mini corpus of the demo.", no_args_is_help=True)
app.add_typer(corpus, name="corpus")


@corpus.command("fetch")
def corpus_fetch(
    workspace: Workspace = HERE,
    size: Annotated[str | None, typer.Option(help="full or small.")] = None,
    images: Annotated[Path | None, typer.Option(help="Your own photos in place of the packages.")] = None,
    seed: Seed = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Download the mini corpus by package name and lay it out as reference, basic and pool images."""
    run("corpus", workspace, config, as_json, size=size, images=images, seed=seed)


@app.command()
def ingest(
    role: Annotated[
        str,
        typer.Argument(
            help="reference, basic, pool or query; all for ndec, disc21, copydays.", autocompletion=among(*ROLES, "all")
        ),
    ],
    source: Annotated[str, typer.Argument(help="Folder, file, pattern such as part-{000..099}.tar, or fsspec URI.")],
    workspace: Workspace = HERE,
    kind: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(SOURCE_KINDS)}; guessed when plain.", autocompletion=among(*SOURCE_KINDS)),
    ] = None,
    ground_truth: Annotated[Path | None, typer.Option(help="DISC21 csv or json of the role query.")] = None,
    ids: Annotated[Path | None, typer.Option(help="disc21: take only these ids, one a line.")] = None,
    metadata: Annotated[Path | None, typer.Option(help="openimages: the csv with licences and rotation.")] = None,
    images: Annotated[str | None, typer.Option(help="openimages csv: where train, validation, test lie.")] = None,
    add: Annotated[bool, typer.Option("--add", help="Keep the images that the role has already.")] = False,
    group_by: Annotated[str | None, typer.Option(help="image, folder, author or auto.")] = None,
    look: Annotated[str | None, typer.Option(help="list (open no image), header, decode or auto.")] = None,
    column: Annotated[str | None, typer.Option(help="parquet: the column with the images.")] = None,
    model: Annotated[str | None, typer.Option(help="descriptors: name under which they are kept.")] = None,
    verify_md5: Annotated[bool | None, typer.Option("--verify-md5", help="openimages: find placeholders.")] = None,
    reverse_pairs: Annotated[bool | None, typer.Option("--reverse-pairs", help="ndec: T images are latters.")] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """List a source's images under a role. Bad images are rows of a rejects table."""
    if kind == "descriptors" or (kind is None and source.lower().endswith((".h5", ".hdf5"))):
        return run("descriptors", workspace, config, as_json, role=role, source=source, model=model)
    if model is not None:
        raise UsageError("--model names descriptors that are taken over; images get vectors by `ndec embed --model`")
    return run(
        "ingest", workspace, config, as_json, role=role, source=source, kind=kind, ground_truth=ground_truth, ids=ids,
        metadata=metadata, images=images, add=add, group_by=group_by, look=look, column=column, verify_md5=verify_md5,
        reverse_pairs=reverse_pairs,
    )  # fmt: skip


@app.command()
def edit(
    count: Annotated[int, typer.Option(help="How many edited-copy queries to make.")],
    workspace: Workspace = HERE,
    role: Annotated[str, typer.Option(help="Whose images to copy.")] = "reference",
    recipe: Annotated[
        str | None,
        typer.Option(help="copy, crop, light or view.", autocompletion=among("copy", "crop", "light", "view")),
    ] = None,
    seed: Seed = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Write edited-copy queries, every parameter recorded."""
    run("edit", workspace, config, as_json, role=role, count=count, recipe=recipe, seed=seed)


@app.command()
def embed(
    role: Annotated[
        str | None, typer.Argument(help="reference, basic, pool or query.", autocompletion=among(*ROLES))
    ] = None,
    workspace: Workspace = HERE,
    model: Model = None,
    workers: Annotated[int | None, typer.Option(help="Shards at a time; any number gives the same result.")] = None,
    engine: Annotated[str | None, typer.Option(help="local (processes of this machine) or ray (a cluster).")] = None,
    shard_size: Annotated[int | None, typer.Option(help="Images a shard: what a kill costs each worker.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="Running Ray cluster; default: start one here.")] = None,
    list_models: Annotated[bool, typer.Option("--list-models", help="Print all kinds of models and stop.")] = False,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Turn a role's images into vectors. Resumes where it stopped; `ndec status` shows how far it is."""
    if list_models:
        print_models(as_json)
        return
    if role is None:
        raise UsageError("whose images? Write `ndec embed reference`, basic, pool or query (or --list-models)")
    run(
        "embed", workspace, config, as_json, role=role, model=model, workers=workers, engine=engine,
        shard_size=shard_size, ray_address=ray_address,
    )  # fmt: skip


@app.command()
def mine(
    split: Split = "test",
    workspace: Workspace = HERE,
    top: Annotated[int | None, typer.Option(help="How many pairs.")] = None,
    max_per_query: Annotated[int | None, typer.Option(help="Pairs per pool image.")] = None,
    max_per_reference: Annotated[int | None, typer.Option(help="Pairs per reference.")] = None,
    model: Model = None,
    pool: Annotated[
        str | None, typer.Option(help="Pool images, as `ndec ingest` takes them; embedded if missing.")
    ] = None,
    references: Annotated[str | None, typer.Option(help="The same for references (basic images for train).")] = None,
    geometry: Annotated[bool | None, typer.Option(help="Measure how each query lies on its reference.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that measure; the result is the same.")] = None,
    rank_by: Annotated[
        str | None, typer.Option(help="raw or normalized scores.", autocompletion=among("raw", "normalized"))
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(help="auto, bf16, faiss (all exact), or ivf (approximate).", autocompletion=among(*SEARCHES)),
    ] = None,
    attribution: Annotated[
        Path | None,
        typer.Option(help="csv: image_id with photo_id, url, author or author_url."),
    ] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Find the pairs closest to the references: the candidates that people look at."""
    run(
        "mine", workspace, config, as_json, split=split, top=top, max_per_query=max_per_query,
        max_per_reference=max_per_reference, model=model, pool=pool, references=references, geometry=geometry,
        workers=workers, rank_by=rank_by, search=search, attribution=attribution,
        embed_settings=config,
    )  # fmt: skip


@app.command()
def prelabel(
    split: Split = "test",
    workspace: Workspace = HERE,
    model: Model = None,
    count: Annotated[int | None, typer.Option(help="Synthetic copies to learn from.")] = None,
    seed: Seed = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Judge every mined pair: how probable it is an edited copy. Orders the annotators' queue, decides nothing."""
    run("prelabel", workspace, config, as_json, split=split, model=model, count=count, seed=seed)
