"""Verbs made from configs: their options, help texts and completion come from the fields; see `core/config.py`."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from ndec_builder.cli.options import COMMON, among, configured, print_outcome
from ndec_builder.commands import COMMANDS
from ndec_builder.core.config import FieldInfo, about
from ndec_builder.core.errors import UsageError


class _OneMachine(TyperCommand):
    """A verb without shards: it says so when an engine is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = [arg for arg in args if arg.partition("=")[0] in ("--engine", "--ray-address")]
        if named:
            raise UsageError(
                f"`{ctx.info_name}` runs on one machine, so it has no {named[0].partition('=')[0]}; leave that out. "
                "docs/how-to/cluster.md lists the commands that run on a cluster"
            )
        return super().parse_args(ctx, args)


@dataclasses.dataclass(frozen=True)
class VerbCall:
    """One verb as called: the common options and the fields of the config given on the command line."""

    verb: str
    workspace: Path
    settings: Path | None
    as_json: bool
    flags: dict[str, Any]

    def config(self, verb: str = "", **more: Any) -> Any:
        """The config of this verb, or of another one: defaults, then the settings file, then the flags."""
        return configured(verb or self.verb, self.workspace, self.settings, **(self.flags | more))

    def run(self, verb: str = "", **more: Any) -> None:
        """Run the verb, or another one, and print its result."""
        print_outcome(verb or self.verb, self.config(verb, **more), self.as_json)


def verb(
    app: typer.Typer,
    name: str,
    fields: str = "",
    *,
    configs: type[Any] | tuple[str, ...] = (),
    common: tuple[str, ...] = tuple(COMMON),
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a verb; the decorated function gets the `VerbCall`, and its own parameters by keyword.

    `fields`: names of config fields in the order of the help; `role?` is an argument that may be left out ·
    `configs`: verbs of `commands.py` whose configs have these fields, by default the one of this name, or a config
    class · `common`: which of workspace, config and json it takes. A parameter of the function takes the place of the
    field of that name. Arguments, required options and `split` come first, the workspace follows them, `config` and
    `json` close the list.
    """
    keys = configs if isinstance(configs, tuple) and configs else (name,)
    if isinstance(configs, type):
        known = _fields(configs)
    else:  # of two configs with a field of one name, the first counts
        known = {}
        for key in reversed(keys if fields else ()):
            known |= _fields(COMMANDS[key].config_class())

    def register(body: Callable[..., None]) -> Callable[..., None]:
        _, *taken = inspect.signature(body, eval_str=True).parameters.values()
        own = {parameter.name: parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in taken}
        made = [own[field] if field in own else _parameter(field, known) for field in fields.split()]
        made += [parameter for field, parameter in own.items() if field not in fields.split()]
        leading = [p for p in made if p.default is p.empty or p.name == "split" or _is_argument(p)]
        shared = {each: COMMON[each] for each in common}
        parameters = leading + ([shared.pop("workspace")] if "workspace" in shared else [])
        parameters += [parameter for parameter in made if parameter not in leading] + list(shared.values())

        def command(**values: Any) -> None:
            rest = {each: values.pop(each) for each in own}
            named = {key: values.pop(COMMON[key].name, None) for key in COMMON}
            flags = {each: tuple(value) if isinstance(value, list) else value for each, value in values.items()}
            flags = {each: value for each, value in flags.items() if value != ()}
            workspace, settings, as_json = named["workspace"] or Path(), named["config"], bool(named["json"])
            body(VerbCall(keys[0], workspace, settings, as_json, flags), **rest)

        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__doc__ = body.__doc__
        app.command(name, cls=TyperCommand if "engine" in fields.split() else _OneMachine)(command)
        return body

    return register


def _parameter(name: str, known: dict[str, tuple[dataclasses.Field[Any], Any]]) -> inspect.Parameter:
    """The parameter for a field. Its default is None, so that the settings file counts when it is not call."""
    name, optional = name.removesuffix("?"), name.endswith("?")
    field, hint = known[name]
    info = about(field)
    assert info is not None, f"the field {name} has no help text"
    required = field.default is dataclasses.MISSING and not optional
    hint = hint if required else hint | None
    default = inspect.Parameter.empty if required else None
    how: Any = typer.Option(*_names(field, info), **_texts(field, info))
    if info.cli == "argument":
        how = typer.Argument(**_texts(field, info))
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, how])


def _fields(cls: type[Any]) -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    """The fields of a config, each with its type on the command line."""
    hints = typing.get_type_hints(cls)
    return {field.name: (field, _cli_type(hints[field.name])) for field in dataclasses.fields(cls)}


def _cli_type(hint: Any) -> Any:
    """The type of a field on the command line: a list for several values, text for what may be more than a path."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    options = tuple(option for option in options if option is not type(None))
    several = [option for option in options if typing.get_origin(option) is tuple]
    if several:
        return list[typing.get_args(several[0])[0]]  # type: ignore[misc]
    return options[0] if len(options) == 1 else str


def _names(field: dataclasses.Field[Any], info: FieldInfo) -> list[str]:
    plain = field.name.replace("_", "-")
    return [info.cli or (f"--{plain}/--no-{plain}" if field.default is True else f"--{plain}")]


def _texts(field: dataclasses.Field[Any], info: FieldInfo) -> dict[str, Any]:
    default: Any = field.default
    if default in (None, "", (), False, dataclasses.MISSING):
        shown: bool | str = False
    elif default is True:
        shown = field.name.replace("_", "-")
    else:
        shown = str(default)
    choices = [str(choice) for choice in info.choices if choice != ""]
    return {"help": info.help, "show_default": shown, "autocompletion": among(*choices) if choices else None}


def _is_argument(parameter: inspect.Parameter) -> bool:
    return type(parameter.annotation.__metadata__[0]).__name__ == "ArgumentInfo"
