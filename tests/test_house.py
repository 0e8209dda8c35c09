"""Rules of the code's structure: data flows one way, folders stay small, the command line starts light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ndec_builder"
# A module imports its own folder and what stands left of it. `version` and `commands` are single modules.
ORDER = [
    "version", "core", "edits", "sources", "embeddings", "candidates", "annotation", "manifests", "training",
    "evaluation", "league", "commands", "demo", "api", "annotate", "cli",
]  # fmt: skip
# Inside a stage, a subpackage imports the subpackages to its left, and modules of the stage that import none of them.
SUBPACKAGES = {
    "core": ["pictures", "access", "executor"],
    "sources": ["readers"],
    "embeddings": ["backbones", "engines"],
    "candidates": ["search", "geometry", "outside", "synthetic"],
    "annotation": ["records", "decisions", "assignment", "stopping", "label_studio", "web", "upkeep"],
    "manifests": ["writing", "validation"],
    "training": ["fused"],
    "evaluation": ["metrics", "detectors", "paper", "report"],
    "league": ["adapters", "bank"],
    "demo": ["corpus"],
    "cli": ["assist"],
}
HEAVY = {
    "torch", "faiss", "cv2", "label_studio_sdk", "pandas", "pyarrow", "numpy", "matplotlib", "timm", "PIL", "ray",
    "openvino",
}  # fmt: skip
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}
# `__init__` files list what a package offers; the names are loaded on first use, so these are no imports.
CODE = {name: path for name, path in MODULES.items() if path.name != "__init__.py"}


def imported(path: Path) -> Iterator[str]:
    """Modules of ndec_builder that a module imports, at any depth of the file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides the stage"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES or f"{name}.__init__" in MODULES else str(node.module) for name in inner]
        yield from (name for name in names if name.startswith("ndec_builder."))


GRAPH = {name: set(imported(path)) for name, path in CODE.items()}


def place(module: str) -> tuple[str, str]:
    """(stage, subpackage or "") of a module."""
    parts = module.split(".")[1:]
    return parts[0], parts[1] if len(parts) > 1 and parts[1] in SUBPACKAGES.get(parts[0], ()) else ""


def upward(graph: Mapping[str, set[str]]) -> set[tuple[str, str]]:
    """Imports of a later stage, or of a later subpackage of the same stage."""
    found = set()
    for module, others in graph.items():
        stage, inside = place(module)
        if stage == "__main__":
            continue
        for other in others:
            to_stage, to_inside = place(other)
            if ORDER.index(to_stage) > ORDER.index(stage):
                found.add((module, other))
            elif stage == to_stage and inside and to_inside:
                order = SUBPACKAGES[stage]
                if order.index(to_inside) > order.index(inside):
                    found.add((module, other))
    return found


def cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """The modules of one import cycle; empty when there is none."""
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_a_later_stage_or_subpackage() -> None:
    assert upward(GRAPH) == set()


def test_there_is_no_import_cycle() -> None:
    assert cycle(GRAPH) == []


def test_the_rules_above_can_fail(tmp_path: Path) -> None:
    module = tmp_path / "bad.py"
    module.write_text(
        "def f():\n    from ndec_builder.evaluation import dataset\n    import ndec_builder.training.loop\n"
    )
    bad = {"ndec_builder.core.errors": set(imported(module))}
    assert {other for _, other in upward(bad)} == {"ndec_builder.evaluation.dataset", "ndec_builder.training.loop"}
    assert upward({"ndec_builder.annotation.decisions.audit": {"ndec_builder.annotation.web.guideline"}})
    assert len(cycle({"a": {"b"}, "b": {"a"}})) == 3


def test_every_folder_is_in_the_order_above() -> None:
    folders = {place(module) for module in CODE} - {("__main__", "")}
    assert folders == {(stage, "") for stage in ORDER} | {
        (s, inside) for s, all_ in SUBPACKAGES.items() for inside in all_
    }


def test_folders_and_modules_stay_small() -> None:
    folders: dict[Path, int] = {}
    for path in CODE.values():
        folders[path.parent] = folders.get(path.parent, 0) + 1
    assert {folder: count for folder, count in folders.items() if count > 16} == {}
    lengths = {name: len(path.read_text("utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: lines for name, lines in lengths.items() if lines > 300} == {}


# A public name says one thing. These are interfaces: the same name for the same thing in each module that has it.
INTERFACES = {"run", "find", "build", "app", "RESULT_VERSION"}


def defined_in(modules: Mapping[str, Path]) -> dict[str, set[str]]:
    """Public name → the modules that define it at their top level."""
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        if ".league.adapters." in module:  # scripts with one interface, which other programs run
            continue
        for node in ast.parse(path.read_text("utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else [node]
            names = (getattr(target, "name", None) or getattr(target, "id", None) for target in targets)
            if isinstance(node, ast.AnnAssign):
                names = (getattr(target, "id", None) for target in [node.target])
            for name in names:
                if name and not name.startswith("_"):
                    found.setdefault(name, set()).add(module)
    return found


def ambiguous(modules: Mapping[str, Path]) -> dict[str, set[str]]:
    """Public names that several modules define, other than interfaces and verbs."""
    found = defined_in(modules)
    verbs = {name for name, where in found.items() if any(place(module)[0] == "cli" for module in where)}
    verbs &= {name for name, where in found.items() if any(place(module)[0] in ("api", "annotate") for module in where)}
    verbs |= {"install", "serving", "status", "stop", "validate"}  # of the stage that does the work, under its own name
    return {name: where for name, where in found.items() if len(where) > 1 and name not in INTERFACES | verbs}


@pytest.mark.slow
def test_a_public_name_is_defined_in_one_module(tmp_path: Path) -> None:
    assert ambiguous(CODE) == {}
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text("class Entry: ...\n_hidden = 1\n")
    two = {f"ndec_builder.core.{name}": tmp_path / f"{name}.py" for name in ("a", "b")}
    assert ambiguous(two) == {"Entry": set(two)}


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import ndec_builder.cli",
        "from ndec_builder.commands import COMMANDS\nfor c in COMMANDS.values(): c.config_class()",
    ],
    ids=["the command line", "every config class"],
)
def test_nothing_heavy_is_imported_by(code: str) -> None:
    assert not loaded_by(code) & HEAVY


# Files in which such a path is data: the content of a hostile file, and the name of an archive member.
PATHS_ALLOWED = {"tests/faults/zoo_pictures.py", "tests/support/damages.py"}


@pytest.mark.slow
def test_no_tracked_file_names_a_folder_of_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    pattern = re.compile(rb"(?<![\w.)])/(?:tmp|root|work)/[\w.]")
    files = (ROOT / name for name in listed.stdout.split("\0") if name and name not in PATHS_ALLOWED)
    found = {
        str(path.relative_to(ROOT)): match.group()
        for path in files
        if path.is_file() and (match := pattern.search(path.read_bytes()))
    }
    assert found == {}
