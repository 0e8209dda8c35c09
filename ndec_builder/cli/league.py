"""`ndec league`: compare duplicate finders, and install those of others."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ndec_builder.cli.options import Json, print_result
from ndec_builder.cli.verbs import VerbCall, verb


class _RunByDefault(TyperGroup):
    """`ndec league --manifest DIR` is `ndec league run --manifest DIR`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and (args[0] in self.commands or args[0] in ("--help", "--show-completion"))
        return super().parse_args(ctx, args if named or not args else ["run", *args])


app = typer.Typer(
    cls=_RunByDefault,
    help="Compare duplicate finders with and without look-alikes. `ndec league --manifest DIR` is short for `ndec "
    "league run --manifest DIR`.",
    no_args_is_help=True,
)


@verb(
    app,
    "run",
    "manifest queries references ground_truth kinds detector checkpoint fused_model model target_precision bank benign "
    "minutes replicates pictures name out engine ray_address",
    configs=("league",),
)
def run(call: VerbCall) -> None:
    """Run every detector on a dataset and write the table, or count the false matches of a hash bank."""
    call.run()


@app.command("install")
def install(
    names: Annotated[list[str], typer.Argument(help="Peers to install; `all` takes every one that comes with ndec.")],
    as_json: Json = False,
) -> None:
    """Install peers, each into an environment of its own, so that their pins change nothing else."""
    from ndec_builder.league.environments import built_in, install

    for name in built_in() if names == ["all"] else names:
        print_result(install(name), as_json)
