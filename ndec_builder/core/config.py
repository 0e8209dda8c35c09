"""Settings: defaults in frozen dataclasses < `ndec.toml` < flags. The resolved ones are saved with each run."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from ndec_builder.core.errors import UsageError, nearest

Config = TypeVar("Config")


def setting(default: Any, help: str, *, result: bool = True) -> Any:
    """A dataclass field with its comment for `ndec.toml`. `result=False`: it does not change result files."""
    return dataclasses.field(default=default, metadata={"help": help, "result": result})


def read_settings(path: Path) -> dict[str, Any]:
    """Parse a settings file; an absent one is empty. Raises UsageError when it is not TOML."""
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}; mend that line or start over with `ndec init`") from None


def build(cls: type[Config], section: str, settings: dict[str, Any], **flags: Any) -> Config:
    """Make a stage's config: its defaults, then `[section]` of the settings, then the flags that are not None.

    Raises UsageError for an unknown setting (with the nearest name) or one of the wrong type.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    values: Any = settings
    for part in section.split("."):  # `[annotate.push]` is a table inside a table
        values = values.get(part, {})
        if not isinstance(values, dict):
            raise UsageError(f"[{section}] of ndec.toml is {values!r}; expected a table of settings")
    values = dict(values)
    for name, value in values.items():
        if name not in fields or "help" not in fields[name].metadata:
            known = [f for f in fields if "help" in fields[f].metadata]
            raise UsageError(
                f"unknown setting {name!r} in [{section}] of ndec.toml{nearest(name, known)} Known: {known}"
            )
        values[name] = as_typed(value, hints[name], f"[{section}] {name} of ndec.toml")
    values.update({name: value for name, value in flags.items() if value is not None})
    return cls(**values)


def as_typed(value: Any, hint: Any, where: str) -> Any:
    """Accept what the annotation says (int for float and str for Path too); lists become tuples. Else UsageError."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for option in options:  # what it is already, before what it could become: a URI of `Path | str` stays text
        origin = typing.get_origin(option) or option
        fits = isinstance(origin, type) and origin is not tuple and isinstance(value, origin)
        if fits and not (origin is int and isinstance(value, bool)):
            return value
    for option in options:
        origin = typing.get_origin(option) or option
        if origin is tuple and isinstance(value, (list, tuple)):
            of = typing.get_args(option)[:1]
            return tuple(Path(entry) if of == (Path,) and isinstance(entry, str) else entry for entry in value)
        if origin is Path and isinstance(value, str):
            return Path(value)
        if origin is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
    raise UsageError(f"{where} is {value!r}, which has the wrong type; expected {getattr(hint, '__name__', hint)}")


def template(sections: dict[str, type]) -> str:
    """The text of a fresh `ndec.toml`: every setting with its comment, all commented out at their defaults."""
    lines = ["# Settings of this benchmark. Every line shows the default; remove the `#` to change it. Flags override."]
    for section, cls in sections.items():
        settings = [field for field in dataclasses.fields(cls) if "help" in field.metadata]
        lines += ["", f"[{section}]"] if settings else []
        for field in settings:
            lines.append(f"# {field.name} = {_toml(field.default)}".ljust(44) + f"  # {field.metadata['help']}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if value is None:
        return '""'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return repr(value) if isinstance(value, (int, float)) else f'"{value}"'


def result_fields(config: Any) -> dict[str, Any]:
    """The settings that change result files: what goes into a fingerprint."""
    return {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.metadata.get("result", False)
    }


def as_dict(config: Any) -> dict[str, Any]:
    """The resolved config for `run.json`, paths as text."""
    return {name: _plain(value) for name, value in dataclasses.asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
