"""Run the tests of core, candidates, manifests and evaluation with the lowest versions that pyproject.toml allows.

    python tests/faults/lowest.py --python ENVIRONMENT/bin/python     (make test-lowest creates the environment)

Writes tests/faults/results/lowest.md: the version of each package, and the result of the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "requirements")]

from make_lowest import lowest  # noqa: E402

from faults import record  # noqa: E402

TESTS = ("core", "candidates", "manifests", "evaluation")
_VERSIONS = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", required=True, help="interpreter of the environment")
    given = parser.parse_args()
    bounds = lowest()
    asked = [given.python, "-c", _VERSIONS, *bounds]
    found = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    command = [given.python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-m", "not server and not browser and not cluster"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *(f"tests/{name}" for name in TESTS)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    lines = done.stdout.strip().splitlines() or ["pytest said nothing"]
    print("\n".join(lines[-40:]), file=sys.stderr)
    rows = [(name, bound, found[name], "yes" if _same(bound, found[name]) else "NO") for name, bound in bounds.items()]
    notes = [f"Tests of {', '.join(TESTS)} (without Label Studio, browser and cluster): {lines[-1].strip('= ')}."]
    failed = [line.split(" - ")[0] for line in lines if line.startswith(("FAILED", "ERROR"))]
    notes += ["", *(f"* {line}" for line in failed)]
    head = ("package", "lower bound", "tested", "the bound itself")
    record.write("lowest", "The lowest versions", head, rows, notes, keep=True)
    sys.exit(done.returncode)


def _same(bound: str, version: str) -> bool:
    """Whether a version is the bound: 2.30 is 2.30.0, and +cpu says only how it was built."""
    parts = [part.split("+")[0].split(".") for part in (bound, version)]
    length = max(map(len, parts))
    return parts[0] + ["0"] * (length - len(parts[0])) == parts[1] + ["0"] * (length - len(parts[1]))


if __name__ == "__main__":
    main()
