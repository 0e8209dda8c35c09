"""The command line: parse → config → run. Every verb is also a function of the Python API."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import ndec_builder
from ndec_builder.cli import annotate, data, detectors, league, manifests, workspace
from ndec_builder.core.errors import NdecError

INTERRUPTED = 130  # exit code of typer after Ctrl-C

app = typer.Typer(
    name="ndec",
    help="Build image-copy-detection benchmarks with hard negatives; train and evaluate detectors on them.\n\n"
    "ndec mine → annotators in Label Studio → ndec export → ndec train-asl → ndec benchmark",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"ndec {ndec_builder.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    no_lock: Annotated[
        bool,
        typer.Option(
            "--no-lock", help="Run without locks, for file systems that have none. Run one command at a time."
        ),
    ] = False,
) -> None:
    if no_lock:
        from ndec_builder.core.locks import NO_LOCK  # imports pyarrow: too slow for the start

        os.environ[NO_LOCK] = "1"


for verbs in (workspace.app, data.app):
    app.add_typer(verbs)
app.add_typer(annotate.app, name="annotate")
for verbs in (manifests.app, detectors.app):
    app.add_typer(verbs)
app.add_typer(league.app, name="league")


def main() -> None:
    """Entry point: an error is one paragraph and an exit code, never a traceback."""
    # before torch is imported: on a busy machine its threads that spin while they wait cost an eighth of the CPU time
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        app()
    except NdecError as error:
        typer.echo(f"ndec: {error}", err=True)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.echo("ndec: stopped; run the same command again to resume", err=True)
        raise
