"""The wheel holds what an installation needs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_wheel_ships_the_page_the_guideline_and_the_type_marker(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "ndec_builder/py.typed",
        "ndec_builder/shipped/annotation/label_config.xml",
        "ndec_builder/shipped/annotation/guideline.md",
        "ndec_builder/cli/__init__.py",
        "ndec_builder/evaluation/report/report.html.j2",
        "ndec_builder/candidates/contact_sheet.html",
        "ndec_builder/candidates/contact_sheet.js",
        "ndec_builder/annotation/label_studio/server_files/one_key.js",
        "ndec_builder/annotation/label_studio/server_files/layout.js",
        "ndec_builder/annotation/label_studio/server_files/layout.css",
        "ndec_builder/training/fused/default/fused.safetensors",
        "ndec_builder/training/fused/default/fused.json",
        "ndec_builder/embeddings/default/whitening.npz",
    } <= names
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    script = "from ndec_builder.core.workspace import shipped; print(shipped('annotation/label_config.xml'))"
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "site", env={"PYTHONPATH": str(tmp_path / "site")},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert str(tmp_path) in found.stdout
    script = "import ndec_builder as ndec; print(ndec.MineConfig('bench').top, ndec.annotate.push.__name__)"
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "site", env={"PYTHONPATH": str(tmp_path / "site")},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert found.stdout.split() == ["0", "push"]


def test_every_pinned_package_installs_on_the_oldest_python() -> None:
    """One that asks for a later patch release stops `make install` on a distribution's own Python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    pinned = re.findall(r"^([^#\s=]+)==", (ROOT / "requirements" / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    asked = {}
    for name in pinned:
        try:
            asked[name] = importlib.metadata.metadata(name)["Requires-Python"] or ""
        except importlib.metadata.PackageNotFoundError:  # pinned for an extra that is not installed here
            continue
    assert len(asked) > 100
    assert [name for name, python in asked.items() if not SpecifierSet(python).contains(oldest)] == []


def test_the_lower_bounds_can_be_installed_together() -> None:
    """A package that is installed at its lower bound may require more of another one than the bound of that says."""
    spec = importlib.util.spec_from_file_location("make_lowest", ROOT / "requirements" / "make_lowest.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    bounds = {canonicalize_name(name): bound for name, bound in module.lowest().items()}
    checked, wrong = 0, []
    for name, bound in bounds.items():
        try:
            installed = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        for line in installed.requires or () if Version(installed.version) == Version(bound) else ():
            needed = Requirement(line)
            other = canonicalize_name(needed.name)
            if other in bounds and (needed.marker is None or needed.marker.evaluate({"extra": ""})):
                checked += 1
                wrong += [] if needed.specifier.contains(bounds[other]) else [f"{name} {bound} requires {line}"]
    assert checked and not wrong, wrong
