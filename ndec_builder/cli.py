"""The command line: parse → config → run. No logic; every verb has the same function in the Python API."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import ndec_builder
from ndec_builder.commands import COMMANDS
from ndec_builder.core.config import build, read_settings
from ndec_builder.core.errors import NdecError

app = typer.Typer(
    name="ndec",
    help="Build image-copy-detection benchmarks with hard negatives; train and judge detectors on them.\n\n"
    "ndec mine → annotators in Label Studio → ndec export → ndec train-asl → ndec benchmark",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
annotate = typer.Typer(help="Label the mined pairs in Label Studio: serve, push, pull, resolve.", no_args_is_help=True)
corpus = typer.Typer(help="The mini corpus of the demo.", no_args_is_help=True)
app.add_typer(annotate, name="annotate")
app.add_typer(corpus, name="corpus")

Workspace = Annotated[Path, typer.Option("--workspace", "-w", help="Directory of this benchmark.")]
Settings = Annotated[Path | None, typer.Option("--config", help="Settings file; default: WORKSPACE/ndec.toml.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; all else on stderr.")]
Split = Annotated[str, typer.Option(help="test: pool × reference. train: pool × basic.")]
Seed = Annotated[int | None, typer.Option(help="Seed; the same seed gives the same bytes.")]
Model = Annotated[
    str | None,
    typer.Option(help="efficientnet-lite0 (default), timm:NAME[@FILE], open_clip:NAME[@FILE], or a TorchScript file."),
]
HERE = Path()


def _run(verb: str, workspace: Path | None, settings: Path | None, as_json: bool, **flags: Any) -> None:
    """Run a verb and print the path of its result (or one JSON object)."""
    _print_result(_build_and_run(verb, workspace, settings, **flags), as_json)


def _build_and_run(verb: str, workspace: Path | None, settings: Path | None, **flags: Any) -> Any:
    command = COMMANDS[verb]
    fixed = {} if workspace is None else {"workspace": workspace}
    if settings is not None and not settings.is_file():
        raise NdecError(f"the settings file {settings} does not exist; `ndec init DIR` writes one with every setting")
    values = read_settings(settings or (workspace or HERE) / "ndec.toml")
    return command.run(build(command.config_class(), command.section, values, **fixed, **flags))


def _print_result(path: Path, as_json: bool) -> None:
    if not as_json:
        typer.echo(str(path))
        return
    record = (path if path.is_dir() else path.parent) / "run.json"
    counts = json.loads(record.read_text("utf-8")).get("counts", {}) if record.is_file() else {}
    typer.echo(json.dumps({"result": str(path), "counts": counts}))


def _version(value: bool) -> None:
    if value:
        typer.echo(f"ndec {ndec_builder.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it and stop.")
    ] = False,
) -> None: ...


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Workspace of the demo; run again to go on where it stopped.")] = Path(
        "ndec-demo"
    ),
    size: Annotated[str, typer.Option(help="full (about eight minutes) or small (for CI).")] = "full",
    images: Annotated[Path | None, typer.Option(help="Your own photos in place of the mini corpus.")] = None,
    annotate_yourself: Annotated[
        bool,
        typer.Option("--annotate-yourself", help="Open the labelling page instead of letting the known truth answer."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Same seed, same demo.")] = 0,
    port: Annotated[int, typer.Option(help="Port of Label Studio; the image server takes the next one.")] = 8700,
    as_json: Json = False,
) -> None:
    """The whole way on real pictures: corpus, mine, Label Studio, export, train-asl, benchmark."""
    from ndec_builder.demo import DemoConfig, run

    table = run(DemoConfig(out, size, images, annotate_yourself, seed, port))
    typer.echo(json.dumps(table.as_dict()) if as_json else table.as_text())


@app.command()
def init(directory: Annotated[Path, typer.Argument(help="Workspace to make.")]) -> None:
    """Make a workspace with an `ndec.toml` that shows every setting."""
    from ndec_builder.init import run

    typer.echo(str(run(directory)))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Look at this machine: torch, FAISS flavour, GPU, bf16, Label Studio, chromium, disk; say what to mend."""
    from ndec_builder.doctor import examine, report

    findings = examine()
    typer.echo(json.dumps([vars(finding) for finding in findings]) if as_json else report(findings))
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


@app.command()
def status(workspace: Workspace = HERE, as_json: Json = False) -> None:
    """What is done in this workspace, stage by stage, and the natural next command."""
    from ndec_builder.status import report, survey

    stages = survey(workspace)
    typer.echo(json.dumps([vars(stage) for stage in stages]) if as_json else report(stages, workspace))


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
    _run("corpus", workspace, config, as_json, size=size, images=images, seed=seed)


@app.command()
def ingest(
    role: Annotated[str, typer.Argument(help="reference, basic, pool or query.")],
    source: Annotated[Path, typer.Argument(help="Folder with images.")],
    workspace: Workspace = HERE,
    ground_truth: Annotated[Path | None, typer.Option(help="DISC21 csv `query_id,reference_id` (role query).")] = None,
    group_by: Annotated[str | None, typer.Option(help="image (each its own group) or folder.")] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """List a folder's images under a role. Bad images are rows of a rejects table."""
    _run("ingest", workspace, config, as_json, role=role, source=source, ground_truth=ground_truth, group_by=group_by)


@app.command()
def edit(
    count: Annotated[int, typer.Option(help="How many edited-copy queries to make.")],
    workspace: Workspace = HERE,
    role: Annotated[str, typer.Option(help="Whose images to copy.")] = "reference",
    recipe: Annotated[str | None, typer.Option(help="copy, crop, light or view.")] = None,
    seed: Seed = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Write edited-copy queries, every parameter recorded."""
    _run("edit", workspace, config, as_json, role=role, count=count, recipe=recipe, seed=seed)


@app.command()
def embed(
    role: Annotated[str, typer.Argument(help="reference, basic, pool or query.")],
    workspace: Workspace = HERE,
    model: Model = None,
    workers: Annotated[int | None, typer.Option(help="Processes; the result is the same for any number.")] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Turn a role's images into vectors. Resumes where it stopped."""
    _run("embed", workspace, config, as_json, role=role, model=model, workers=workers)


@app.command()
def mine(
    split: Split = "test",
    workspace: Workspace = HERE,
    top: Annotated[int | None, typer.Option(help="How many pairs.")] = None,
    max_per_query: Annotated[int | None, typer.Option(help="Pairs per pool image.")] = None,
    max_per_reference: Annotated[int | None, typer.Option(help="Pairs per reference.")] = None,
    model: Model = None,
    pool: Annotated[Path | None, typer.Option(help="Folder of pool images: ingested and embedded if missing.")] = None,
    references: Annotated[Path | None, typer.Option(help="Folder of references (basic images for train).")] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Find the pairs closest to the references: the candidates that people look at."""
    _run(
        "mine", workspace, config, as_json, split=split, top=top, max_per_query=max_per_query,
        max_per_reference=max_per_reference, model=model, pool=pool, references=references,
    )  # fmt: skip


@annotate.command("install")
def annotate_install() -> None:
    """Install the Label Studio server into an environment of its own."""
    from ndec_builder.annotation.environment import install

    typer.echo(str(install()))


@annotate.command("serve")
def annotate_serve(
    workspace: Workspace = HERE,
    port: Annotated[int | None, typer.Option(help="Port of Label Studio on 127.0.0.1.")] = None,
    image_port: Annotated[int | None, typer.Option(help="Port of the image server on 127.0.0.1.")] = None,
    config: Settings = None,
) -> None:
    """Run Label Studio and the image server on this machine until Ctrl-C."""
    _build_and_run("serve", workspace, config, port=port, image_port=image_port)


Annotators = Annotated[list[str] | None, typer.Option("--annotator", help="Who labels; give it several times.")]


@annotate.command("push")
def annotate_push(
    split: Split = "test",
    workspace: Workspace = HERE,
    annotator: Annotators = None,
    overlap: Annotated[float | None, typer.Option(help="Share of pairs seen by two people.")] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """First round: make one project per annotator and import the pairs that are not there yet."""
    _push("first", split, workspace, annotator, config, as_json, overlap=overlap)


@annotate.command("double-check")
def annotate_double_check(
    split: Split = "test",
    workspace: Workspace = HERE,
    annotator: Annotators = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Second round: the kept pairs go to people other than those who labelled them first."""
    _push("double_check", split, workspace, annotator, config, as_json)


@annotate.command("adjudicate")
def annotate_adjudicate(
    split: Split = "test",
    workspace: Workspace = HERE,
    annotator: Annotators = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Last round: pairs on which people still disagree go to one more person."""
    _push("adjudication", split, workspace, annotator, config, as_json)


def _push(
    round_: str,
    split: str,
    workspace: Path,
    annotator: list[str] | None,
    config: Path | None,
    as_json: bool,
    **flags: Any,
) -> None:
    names = tuple(annotator) if annotator else None
    _run("push", workspace, config, as_json, split=split, round=round_, annotators=names, **flags)


@annotate.command("pull")
def annotate_pull(
    split: Split = "test", workspace: Workspace = HERE, config: Settings = None, as_json: Json = False
) -> None:
    """Fetch new labels into the append-only labels table."""
    _run("pull", workspace, config, as_json, split=split)


@annotate.command("resolve")
def annotate_resolve(
    split: Split = "test", workspace: Workspace = HERE, config: Settings = None, as_json: Json = False
) -> None:
    """Turn labels into one decision per pair, with agreement figures."""
    _run("resolve", workspace, config, as_json, split=split)


@annotate.command("recheck")
def annotate_recheck(
    split: Split = "test", workspace: Workspace = HERE, config: Settings = None, as_json: Json = False
) -> None:
    """Search each kept query against all references once more; near matches go back to annotation (then push again)."""
    _run("recheck", workspace, config, as_json, split=split)


@annotate.command("status")
def annotate_status(split: Split = "test", workspace: Workspace = HERE, as_json: Json = False) -> None:
    """Per annotator and round: done, left, pairs an hour."""
    from ndec_builder.annotation import status
    from ndec_builder.annotation.settings import StatusConfig

    rows = status.status(StatusConfig(workspace, split))
    typer.echo(json.dumps(rows) if as_json else status.as_text(rows))


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
    _run("export", workspace, config, as_json, name=name, version=version, distractors=distractors, seed=seed)


@app.command()
def validate(
    manifest: Annotated[Path, typer.Argument(help="Manifest directory.")],
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Recompute every count, hash and foreign key of a dataset."""
    _run("validate", None, config, as_json, manifest=manifest)


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
    _run(
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
    _run(
        "benchmark", workspace, config, as_json, manifest=manifest, queries=queries, references=references,
        ground_truth=ground_truth, model=model, checkpoint=checkpoint, predictions=predictions, scorer=scorer,
        asl_checkpoint=asl_checkpoint, baseline=baseline, threshold=threshold, scope=scope, action=action, n=n, k=k,
        replicates=replicates, name=name, out=out,
    )  # fmt: skip


def main() -> None:
    """Entry point: a user's error is one paragraph and an exit code, never a traceback."""
    try:
        app()
    except NdecError as error:
        typer.echo(f"ndec: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("ndec: stopped; run the same command again to go on", err=True)
        sys.exit(130)
