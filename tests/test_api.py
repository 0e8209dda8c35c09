"""The Python API: light to import, whole, typed and documented; its examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
from test_house import HEAVY, loaded_by
from test_readme import write_photos

import ndec_builder as ndec
from ndec_builder.cli.assist.init import settings_template
from ndec_builder.commands import COMMANDS
from ndec_builder.core.errors import UsageError
from ndec_builder.core.lazy import offered_by

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
STAGES = ["sources", "edits", "embeddings", "candidates", "annotation", "manifests", "training", "evaluation", "league"]
PACKAGES = ["ndec_builder", "ndec_builder.annotate", *(f"ndec_builder.{stage}" for stage in STAGES)]


def public() -> dict[str, Any]:
    """Every name of the API that is a function or a class, by its dotted name."""
    things = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        things |= {f"{package}.{name}": getattr(module, name) for name in module.__all__}
    return {name: thing for name, thing in things.items() if not inspect.ismodule(thing)}


def members(cls: type) -> dict[str, Any]:
    """Methods and properties that the class itself defines; what dataclasses generate has no source of its own."""
    found = {}
    for name, member in vars(cls).items():
        inner = getattr(member, "fget", None) or getattr(member, "func", None) or getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(inner):
            found[name] = inner
    return found


def functions() -> dict[str, Any]:
    found = {}
    for name, thing in public().items():
        if inspect.isclass(thing):
            found |= {f"{name}.{inner}": member for inner, member in members(thing).items()}
        else:
            found[name] = thing
    return found


@pytest.mark.parametrize("package", [package for package in PACKAGES if not package.endswith("annotate")])
def test_a_star_import_gives_what_type_checkers_see(package: str) -> None:
    offered = offered_by(str(importlib.import_module(package).__file__))
    names: dict[str, Any] = {}
    exec(f"from {package} import *", names)
    assert set(names) - {"__builtins__"} == set(offered)
    assert sorted(offered) == dir(importlib.import_module(package))


def test_importing_it_and_making_a_config_loads_nothing_heavy() -> None:
    loaded = loaded_by(
        "import ndec_builder as ndec\nndec.mine, ndec.annotate.push, ndec.evaluation\n"
        "ndec.configure(ndec.MineConfig, 'bench', top=3)"
    )
    assert "ndec_builder" in loaded and not loaded & HEAVY


def test_every_verb_has_its_function_and_runs_on_its_config_only(tmp_path: Path) -> None:
    names = {"descriptors": "ingest_descriptors", "league": "run_league"}
    for verb, command in COMMANDS.items():
        name = names.get(verb, verb.replace("-", "_"))
        function = getattr(ndec.annotate if command.section.startswith("annotate.") else ndec, name)
        (parameter,) = inspect.signature(function).parameters.values()
        assert parameter.annotation == command.config, verb
        if verb != "serve":
            with pytest.raises(ndec.UsageError, match=command.config):
                function(object())


def test_every_public_name_says_what_it_does() -> None:
    things = public() | functions()
    silent = [name for name, thing in things.items() if not vars(thing).get("__doc__", thing.__doc__)]
    classes = {name: thing for name, thing in public().items() if inspect.isclass(thing)}
    # what dataclasses write when there is none
    generated = [name for name, cls in classes.items() if cls.__doc__.startswith(f"{cls.__name__}(")]
    assert silent == [] and generated == []
    assert len(functions()) > 80


def test_every_public_function_is_typed() -> None:
    for name, function in functions().items():
        parameters = inspect.signature(function).parameters
        untyped = [p for p, v in parameters.items() if v.annotation is v.empty and p not in ("self", "cls")]
        assert not untyped, f"{name}: {untyped}"
        assert "return" in function.__annotations__, name


def test_the_examples_in_docstrings_give_what_they_say() -> None:
    modules = {inspect.getmodule(thing) for thing in public().values()}
    tried = 0
    for module in sorted(modules, key=lambda module: str(module and module.__name__)):
        failed, attempted = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
        assert not failed, f"{module} has examples that give something else (see stdout)"
        tried += attempted
    assert tried >= 20


def test_a_config_is_default_then_file_then_what_is_given(tmp_path: Path) -> None:
    (tmp_path / "ndec.toml").write_text("[mine]\ntop = 7\nmax_per_query = 2\n")
    config = ndec.configure(ndec.MineConfig, str(tmp_path), top=9, attribution="authors.csv")
    assert (config.top, config.max_per_query, config.max_per_reference) == (9, 2, 10)
    assert config.attribution == Path("authors.csv") and config.workspace == tmp_path
    uri = "s3://bucket/part-{0..3}.tar"
    assert ndec.configure(ndec.IngestConfig, tmp_path, role="pool", source=uri).source == uri
    files = ndec.configure(ndec.BenchmarkConfig, tmp_path, descriptors=["a.h5", "b.h5"]).descriptors
    assert files == (Path("a.h5"), Path("b.h5"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"topp": 3}, "did you mean 'top'"),
        ({"top": "many"}, "MineConfig.top is 'many'"),
        ({"file": "none.toml"}, "none.toml does not exist"),
    ],
)
def test_a_setting_that_cannot_be_is_named(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ndec.NdecError, match=message):
        ndec.configure(ndec.MineConfig, tmp_path, **settings)


def test_what_a_config_needs_is_named(tmp_path: Path) -> None:
    with pytest.raises(ndec.UsageError, match="IngestConfig needs role and source"):
        ndec.configure(ndec.IngestConfig, tmp_path)
    with pytest.raises(ndec.UsageError, match="has no section"):
        ndec.configure(ndec.annotate.StatusConfig, tmp_path)
    with pytest.raises(AttributeError, match="did you mean 'benchmark'"):
        _ = ndec.benchmrak


def test_a_users_script_passes_the_type_checker(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import ndec_builder as ndec\n"
        "config = ndec.configure(ndec.MineConfig, 'bench', top=3)\n"
        "folder = ndec.mine(config)\n"
        "reveal_type(folder)\nreveal_type(ndec.training.NormRatioLoss())\nndec.mine(3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", str(script)],  # with the cache of `make lint`
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    said = [line for line in done.stdout.splitlines() if "script.py" in line]
    assert "pathlib" in said[0] and "NormRatioLoss" in said[1] and "incompatible type" in said[2], done.stdout
    assert len(said) == 3


def test_the_tour_runs(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos")
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "tour.py"), "photos", "tour"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "micro average precision: 0.8333" in done.stdout and "did you mean 'top'" in done.stdout
    assert (tmp_path / "tour" / "reports" / "tour" / "report.html").is_file()


def test_hints_of_every_config_resolve() -> None:
    for command in COMMANDS.values():
        assert typing.get_type_hints(command.config_class())


def settings_file(folder: Path, text: str) -> Path:
    (folder / "ndec.toml").write_text(text)
    return folder


def test_the_section_engine_counts_for_every_verb_that_runs_shards(tmp_path: Path) -> None:
    folder = settings_file(tmp_path, '[engine]\nengine = "ray"\nray_address = "host:1"\n[embed]\nengine = "local"\n')
    mine = ndec.configure(ndec.MineConfig, folder)
    assert (mine.engine, mine.ray_address) == ("ray", "host:1")
    embed = ndec.configure(ndec.EmbedConfig, folder, role="pool")
    assert (embed.engine, embed.ray_address) == ("local", "host:1")  # its own section is more specific
    assert ndec.configure(ndec.MineConfig, folder, engine="local").engine == "local"
    assert ndec.configure(ndec.ExportConfig, folder, name="n").name == "n"  # has no engine


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[engine]\nadress = "host:1"\n', r"unknown setting 'adress' in \[engine\]"),
        ('[engine]\nengine = "dask"\n', "engine is 'dask'; it must be local or ray"),
        ('[engine]\nengine = 3\n', r"\[engine\] engine of ndec.toml is 3, which has the wrong type"),
        ('[mine]\nengine = "ray"\n', r"unknown setting 'engine' in \[mine\]"),
    ],
)  # fmt: skip
def test_a_wrong_section_engine_is_refused_by_every_verb(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        ndec.configure(ndec.MineConfig, settings_file(tmp_path, text))


def test_a_fresh_settings_file_shows_the_section_engine() -> None:
    assert '[engine]\n# engine = "local"' in settings_template()
