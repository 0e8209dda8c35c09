from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from ndec_builder.cli.assist.init import run as init
from ndec_builder.cli.assist.init import settings_template
from ndec_builder.commands import COMMANDS
from ndec_builder.core.config import build, read_settings, result_fields, setting, template
from ndec_builder.core.errors import UsageError


@dataclass(frozen=True)
class Config:
    workspace: Path
    top: int = setting(10, "how many")
    share: float = setting(0.5, "which share")
    names: tuple[str, ...] = setting(("a",), "who")
    folder: Path | None = setting(None, "where", result=False)


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
        ({"top": "ten"}, "wrong type"),
        ({"top": True}, "wrong type"),
        ({"share": "x"}, "wrong type"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(Config, "s", {"s": settings}, workspace=Path("w"))


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
    opened = tomllib.loads("\n".join(line for line in lines if '= ""' not in line and not line.startswith("#")))
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

    hint = typing.get_type_hints(cls)[name]
    return {str: "x", int: 1, Path: Path("x"), Path | str: "x"}.get(hint)
