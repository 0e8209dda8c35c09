"""Settings: defaults in frozen dataclasses < `ndec.toml` < flags. The resolved ones are saved with each run.

A field of a config is defined once, by `setting` or `option`: its default, help text, range and choices. The command
line, the range checks, the commented `ndec.toml` and the page of settings in the docs are made from that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import json
import os
import tomllib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ndec_builder.core.errors import UsageError, nearest
from ndec_builder.core.vocabulary import LEFT_OUT

ConfigT = TypeVar("ConfigT")
_Result = TypeVar("_Result")
MAX_PIXELS = 200_000_000  # default of `[ingest] max_pixels`: far above any photo
_PIXEL_VARIABLE = "NDEC_MAX_PIXELS"


@dataclasses.dataclass(frozen=True)
class FieldInfo:
    """What a field of a config means and which values it takes. Limits are checked for each entry of a tuple."""

    help: str
    in_file: bool = False  # it is a setting of ndec.toml; otherwise it belongs to one run
    result: bool = False  # it changes result files
    ge: float | None = None  # greater than or equal to
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    choices: tuple[Any, ...] = ()
    cli: str = ""  # "argument", or the option's name where that is not the field's: "--to", "--a/--no-a"
    section: str = ""  # the field is a config of its own, read from this section of ndec.toml

    def problem(self, value: Any) -> str:
        """Why a value is refused: `it must be …`; empty for a good one. NaN is outside every range."""
        if self.choices:
            if value in self.choices:
                return ""
            close = nearest(value, self.choices) if isinstance(value, str) else ""
            return f"it must be {_listed(self.choices)}{close}"
        if isinstance(value, str):
            return ""
        bounds = [
            (self.ge is None or value >= self.ge, f"at least {self.ge}"),
            (self.gt is None or value > self.gt, f"above {self.gt}"),
            (self.le is None or value <= self.le, f"at most {self.le}"),
            (self.lt is None or value < self.lt, f"below {self.lt}"),
        ]
        if all(holds for holds, _ in bounds):
            return ""
        limits = zip((self.ge, self.gt, self.le, self.lt), bounds, strict=True)
        return "it must be " + " and ".join(words for limit, (_, words) in limits if limit is not None)


def setting(default: Any, help: str, *, result: bool = True, **limits: Any) -> Any:
    """A dataclass field that `ndec.toml` can set. `result=False`: it does not change result files.

    `limits`: ge, gt, le, lt, choices, and cli; see `FieldInfo`. The default is accepted whatever the limits say.
    """
    return dataclasses.field(default=default, metadata=described(help, in_file=True, result=result, **limits))


def option(default: Any, help: str, **limits: Any) -> Any:
    """A dataclass field that belongs to one run: a flag or a keyword, but no setting of `ndec.toml`."""
    return dataclasses.field(default=default, metadata=described(help, **limits))


def described(help: str, **info: Any) -> dict[str, FieldInfo]:
    """The metadata of a field. For one without default: `field(metadata=described("…", cli="argument"))`."""
    return {"info": FieldInfo(help, **info)}


def about(field: dataclasses.Field[Any]) -> FieldInfo | None:
    """What `setting` or `option` said about a field; None for a plain one."""
    return field.metadata.get("info")


def file_settings(cls: type[Any]) -> dict[str, FieldInfo]:
    """The fields of a config that `ndec.toml` can set, by name."""
    infos = {field.name: about(field) for field in dataclasses.fields(cls)}
    return {name: info for name, info in infos.items() if info is not None and info.in_file}


def inner_sections(cls: type[Any]) -> dict[str, str]:
    """The fields of a config that are configs of their own, and the section of `ndec.toml` that each is read from."""
    infos = {field.name: about(field) for field in dataclasses.fields(cls)}
    return {name: info.section for name, info in infos.items() if info is not None and info.section}


class Config:
    """Base class of the configs: checks ranges and choices when one is made. Raises UsageError."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            info, value = about(field), getattr(self, field.name)
            if info is None or value is None or value == field.default:
                continue
            for entry in value if isinstance(value, tuple) else (value,):
                if problem := info.problem(entry):
                    raise UsageError(f"{field.name} is {entry!r}; {problem}")


def filled_from(chosen: Callable[[dict[str, Any]], Mapping[str, Any]]) -> Callable[[type[ConfigT]], type[ConfigT]]:
    """Decorate a config: fields not given come from `chosen(fields given)`; a given one wins, even with its default."""

    def decorate(cls: type[ConfigT]) -> type[ConfigT]:
        make, signature, names = cls.__init__, inspect.signature(cls.__init__), cls.__dataclass_fields__  # type: ignore[attr-defined]

        @functools.wraps(make)
        def init(self: Any, *values: Any, **named: Any) -> None:
            given = signature.bind(self, *values, **named).arguments
            make(**({name: value for name, value in chosen(given).items() if name in names} | given))

        cls.__init__ = init  # type: ignore[method-assign]
        return cls

    return decorate


def read_settings(path: Path) -> dict[str, Any]:
    """Parse a settings file; an absent one is empty. Raises UsageError when it is not TOML."""
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}; fix that line or start over with `ndec init`") from None


def build(cls: type[ConfigT], section: str, settings: dict[str, Any], **flags: Any) -> ConfigT:
    """Make a stage's config: defaults, `[engine]` and `[section]` of the settings, then the flags that are not None.

    Of `[engine]` the fields count that the config has. Raises UsageError for an unknown setting (with the nearest
    name), one of the wrong type or outside its range.
    """
    hints = typing.get_type_hints(cls)
    known = list(file_settings(cls))
    unset = {field.name for field in dataclasses.fields(cls) if field.default is None}  # type: ignore[arg-type]
    own, values = _table(settings, section), dict[str, Any]()
    if (name := next((name for name in own if name not in known), None)) is not None:
        hint = f". {LEFT_OUT[name]}" if name in LEFT_OUT else nearest(name, known, ".")
        raise UsageError(f"unknown setting {name!r} in [{section}] of ndec.toml{hint} Known: {', '.join(known)}")
    shared = {name: value for name, value in _table(settings, "engine").items() if name in hints}
    for where, table in (("engine", shared), (section, own)):
        for name, value in table.items():
            if value == "" and name in unset:  # how the file shows a default of None
                values[name] = None
            else:
                values[name] = as_typed(value, hints[name], f"[{where}] {name} of ndec.toml")
    values.update({name: value for name, value in flags.items() if value is not None})
    for name, inner in inner_sections(cls).items():
        values.setdefault(name, build(hints[name], inner, settings))
    return cls(**values)


def _table(settings: dict[str, Any], section: str) -> dict[str, Any]:
    """A copy of one table of the settings; empty if it is absent. Raises UsageError when it is something else."""
    values: Any = settings
    for part in section.split("."):  # `[annotate.push]` is a table inside a table
        values = values.get(part, {})
        if not isinstance(values, dict):
            raise UsageError(f"[{section}] of ndec.toml is {values!r}; expected a table of settings")
    return dict(values)


def as_typed(value: Any, hint: Any, where: str) -> Any:
    """Accept what the annotation says (int for float and str for Path too); lists become tuples. Else UsageError."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for option in options:  # the type it has, before a type it could become: a URI of `Path | str` stays text
        origin = typing.get_origin(option) or option
        fits = isinstance(origin, type) and origin is not tuple and isinstance(value, origin)
        if fits and not (origin is int and isinstance(value, bool)):
            return value
    for option in options:
        origin = typing.get_origin(option) or option
        if origin is tuple and isinstance(value, (list, tuple)):
            of = typing.get_args(option)[:1]
            return tuple(as_typed(entry, of[0], f"an entry of {where}") if of else entry for entry in value)
        if origin is Path and isinstance(value, str):
            return Path(value)
        if origin is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
    raise UsageError(f"{where} is {value!r}, which has the wrong type; expected {getattr(hint, '__name__', hint)}")


def template(sections: dict[str, type]) -> str:
    """The text of a fresh `ndec.toml`: every setting with its help, all commented out at their defaults."""
    lines = ["# Settings of this benchmark. Every line shows the default; remove the `#` to change it. Flags override."]
    for section, cls in sections.items():
        settings = file_settings(cls)
        lines += ["", f"[{section}]"] if settings else []
        for field in dataclasses.fields(cls):
            if field.name in settings:
                lines.append(f"# {field.name} = {_toml(field.default)}".ljust(44) + f"  # {settings[field.name].help}")
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
    """The settings that change result files. They are part of a fingerprint."""
    infos = {field.name: about(field) for field in dataclasses.fields(config)}
    return {name: getattr(config, name) for name, info in infos.items() if info is not None and info.result}


def as_dict(config: Any) -> dict[str, Any]:
    """The resolved config for `run.json`, paths as text."""
    return {name: _plain(value) for name, value in dataclasses.asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _listed(choices: tuple[Any, ...]) -> str:
    *first, last = (str(choice) for choice in choices if choice != "")
    return f"{', '.join(first)} or {last}" if first else last


def pixel_limit() -> int:
    """The largest picture that is decoded: `[ingest] max_pixels`, for every stage of the workspace that is running.

    `ndec ingest` records its limit. The other stages take it from there, and hand it to their worker processes in the
    environment. Outside of a stage it is MAX_PIXELS.
    """
    value = os.environ.get(_PIXEL_VARIABLE, "")
    return int(value) if value.isdigit() else MAX_PIXELS


def set_pixel_limit(limit: int) -> None:
    """For a process on another machine, which has another environment: what `pixel_limit` says there."""
    os.environ[_PIXEL_VARIABLE] = str(limit)


@contextlib.contextmanager
def limit_of(workspace: Path | None) -> Iterator[None]:
    """While it is open, `pixel_limit` is the largest limit with which images of the workspace were ingested."""
    configs = [config for path in _records(workspace) for config in recorded_configs(path)]
    limits = [limit for config in configs if isinstance(limit := config.get("max_pixels"), int)]
    before = os.environ.get(_PIXEL_VARIABLE)
    if limits:
        os.environ[_PIXEL_VARIABLE] = str(max(limits))
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_PIXEL_VARIABLE, None)
        else:
            os.environ[_PIXEL_VARIABLE] = before


def with_pixel_limit(run: Callable[[Any], _Result]) -> Callable[[Any], _Result]:
    """Decorate the `run(config)` of a stage: it decodes with the limit of `config.workspace`."""

    @functools.wraps(run)
    def limited(config: Any) -> _Result:
        with limit_of(getattr(config, "workspace", None)):
            return run(config)

    return limited


def _records(workspace: Path | None) -> list[Path]:
    return sorted((workspace / "images").glob("*.run.json")) if workspace is not None else []


def recorded_configs(path: Path) -> list[dict[str, Any]]:
    """The settings of all ingests that made a role, from its run record; of a damaged record those that are readable.

    `ndec ingest --add` keeps the records of the ingests before it in `earlier`.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
        records = [record, *record.get("earlier", ())]
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return []
    found = [one.get("config") for one in records if isinstance(one, dict)]
    return [config for config in found if isinstance(config, dict)]
