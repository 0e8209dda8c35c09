from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.cli.assist.init import run as init
from ndec_builder.cli.assist.init import settings_template
from ndec_builder.commands import COMMANDS
from ndec_builder.core import config as core_config
from ndec_builder.core.config import FieldInfo, about, build, option, read_settings, result_fields, setting, template
from ndec_builder.core.errors import UsageError


@dataclass(frozen=True)
class Config(core_config.Config):
    workspace: Path
    top: int = setting(10, "how many", ge=1)
    share: float = setting(0.5, "which share")
    names: tuple[str, ...] = setting(("a",), "who", choices=("b", "x", "y"))
    folder: Path | None = setting(None, "where", result=False)
    once: str = option("", "for one run", choices=("left", "right"))


def test_flags_override_settings_override_defaults() -> None:
    values = {"stage": {"inner": {"top": 20, "share": 1, "names": ["x", "y"], "folder": "here"}}}
    config = build(Config, "stage.inner", values, workspace=Path("w"), top=None, share=0.25)
    assert config == Config(Path("w"), 20, 0.25, ("x", "y"), Path("here"))
    assert result_fields(config) == {"top": 20, "share": 0.25, "names": ("x", "y")}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tob": 1}, "did you mean 'top'"),
        ({"workspace": "elsewhere"}, "unknown setting 'workspace'"),
        ({"once": "left"}, "unknown setting 'once' in .* of ndec.toml. Known: top, share, names, folder$"),
        ({"precision": "int8"}, "run in float32, or in bfloat16 .* int8 was tried and left out"),
        ({"top": "ten"}, "wrong type"),
        ({"top": True}, "wrong type"),
        ({"share": "x"}, "wrong type"),
        ({"names": ["b", 1]}, r"an entry of \[s\] names of ndec.toml is 1, which has the wrong type; expected str"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(Config, "s", {"s": settings}, workspace=Path("w"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"top": 0}, "top is 0; it must be at least 1"),
        ({"names": ("x", "z")}, "names is 'z'; it must be b, x or y"),
        ({"once": "rihgt"}, "once is 'rihgt'; it must be left or right; did you mean 'right'"),
    ],
)
def test_a_value_outside_its_range_or_choices_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Config(Path("w"), **fields)  # type: ignore[arg-type]


def test_a_default_is_accepted_whatever_the_limits_say() -> None:
    assert Config(Path("w"), names=("a",), once="").names == ("a",)


@given(
    st.floats(allow_nan=False, allow_infinity=False, min_value=-3, max_value=3),
    st.sampled_from(["ge", "gt"]),
    st.sampled_from(["le", "lt"]),
    st.one_of(st.integers(-4, 4), st.floats(-4, 4)),
)
def test_a_range_refuses_exactly_what_is_outside(low: float, below: str, above: str, value: float) -> None:
    high = low + 1
    inside = low < value < high or (value == low and below == "ge") or (value == high and above == "le")
    info = FieldInfo("", **{below: low, above: high})  # type: ignore[arg-type]
    assert (info.problem(value) == "") == inside


def test_what_is_not_a_number_is_outside_every_range() -> None:
    assert FieldInfo("", ge=0).problem(math.nan) and FieldInfo("", lt=1).problem(math.nan)


def test_every_field_has_a_help_text_that_names_its_choices() -> None:
    for command in COMMANDS.values():
        for field in dataclasses.fields(command.config_class()):
            info = about(field)
            if field.name == "workspace":
                continue
            assert info is not None and info.help[-1] in ".)", field.name
            assert [c for c in info.choices if str(c) not in info.help] == [], (command.config, field.name)


def test_a_section_that_is_no_table() -> None:
    with pytest.raises(UsageError, match="expected a table"):
        build(Config, "s", {"s": 3}, workspace=Path("w"))


def test_broken_toml(tmp_path: Path) -> None:
    (tmp_path / "ndec.toml").write_text("[mine\n")
    with pytest.raises(UsageError, match="not valid TOML"):
        read_settings(tmp_path / "ndec.toml")
    assert read_settings(tmp_path / "none.toml") == {}


def test_template_shows_every_setting_commented_out() -> None:
    text = template({"stage": Config})
    assert tomllib.loads(text) == {"stage": {}}
    assert all(f"# {name} = " in text for name in ("top", "share", "names", "folder"))


def test_init_writes_a_file_whose_uncommented_defaults_are_the_defaults(tmp_path: Path) -> None:
    path = init(tmp_path / "bench")
    assert path.read_text() == settings_template()
    lines = [line[2:] if line.startswith("# ") and " = " in line else line for line in path.read_text().splitlines()]
    opened = tomllib.loads("\n".join(lines))
    required = {"workspace": Path("w")}
    for command in COMMANDS.values():
        cls = command.config_class()
        given = {name: _any(cls, name) for name in _required(cls)} | required
        given = {name: value for name, value in given.items() if name in cls.__dataclass_fields__}
        assert build(cls, command.section, opened, **given) == build(cls, command.section, {}, **given), command.section


def _required(cls: type) -> list[str]:
    import dataclasses

    return [
        f.name
        for f in dataclasses.fields(cls)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]


def _any(cls: type, name: str) -> object:
    import typing

    info = about(cls.__dataclass_fields__[name])  # type: ignore[attr-defined]
    if info is not None and info.choices:
        return info.choices[0]
    hint = typing.get_type_hints(cls)[name]
    return {str: "x", int: 1, Path: Path("x"), Path | str: "x"}.get(hint)
