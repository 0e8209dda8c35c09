"""Print the lowest versions that pyproject.toml allows, as constraints for pip: `name==lower bound`, one a line.

    python requirements/make_lowest.py > lowest.txt
    pip install -c lowest.txt '.[cpu]'

Only what ndec itself names is held down; what those packages need is resolved by pip as usual. `make test-lowest`
installs that into an environment of its own and runs the tests of core, candidates, manifests and evaluation there.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
EXTRAS = ("cpu",)
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*>=\s*(?P<lowest>[0-9][^,;\s]*)")


def lowest(project: Path = PROJECT, extras: tuple[str, ...] = EXTRAS) -> dict[str, str]:
    """Package → its lower bound. Raises ValueError for a dependency without one."""
    data = tomllib.loads(project.read_text("utf-8"))["project"]
    wanted = [*data["dependencies"], *(line for extra in extras for line in data["optional-dependencies"][extra])]
    bounds = {}
    for line in wanted:
        found = _REQUIREMENT.match(line)
        if found is None:
            raise ValueError(f"{line!r} has no lower bound; write NAME>=VERSION")
        bounds[found["name"]] = found["lowest"]
    return bounds


if __name__ == "__main__":
    print("\n".join(f"{name}=={version}" for name, version in lowest().items()))
