"""Rules of the house: data flows one way, the command line starts light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ndec_builder"
ORDER = ["core", "edits", "sources", "embeddings", "candidates", "annotation", "manifests", "training", "evaluation"]
HEAVY = {"torch", "faiss", "cv2", "label_studio_sdk", "pandas", "pyarrow", "numpy", "matplotlib", "timm", "PIL", "ray"}
MODULES = sorted(PACKAGE.rglob("*.py"))
STAGE_MODULES = [path for path in MODULES if path.relative_to(PACKAGE).parts[0] in ORDER]


def imported_stages(path: Path) -> set[str]:
    """Stages of ndec_builder that a module imports, at any depth of the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the stage"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if node.module else set()
    return {parts[1] for name in names if (parts := name.split("."))[0] == "ndec_builder" and len(parts) > 1}


@pytest.mark.parametrize("path", STAGE_MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_stage_never_imports_a_later_stage(path: Path) -> None:
    stage = path.relative_to(PACKAGE).parts[0]
    allowed = set(ORDER[: ORDER.index(stage) + 1]) | {"__version__"}
    assert imported_stages(path) <= allowed, f"{path.name} may import {sorted(allowed)} only"


def test_the_rule_above_can_fail(tmp_path: Path) -> None:
    module = tmp_path / "bad.py"
    module.write_text("def f():\n    from ndec_builder.evaluation import x\n    import ndec_builder.training.loop\n")
    assert imported_stages(module) == {"evaluation", "training"}


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_the_command_line_imports_nothing_heavy() -> None:
    assert not loaded_by("import ndec_builder.cli") & HEAVY


def test_every_config_class_is_light_and_every_setting_has_a_comment() -> None:
    loaded = loaded_by("from ndec_builder.commands import COMMANDS\nfor c in COMMANDS.values(): c.config_class()")
    assert not loaded & HEAVY


def test_modules_stay_small() -> None:
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {name for name, lines in lengths.items() if lines > 320} == set()
