"""Copy the tables of the fault runs into docs/reliability.md, between its two markers.

    python tests/faults/compose.py [--check]

The text outside the markers is written by hand: what was found and fixed, and what was not tested.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- tables: made by tests/faults/compose.py -->", "<!-- end of tables -->"
ORDER = (
    "kill_stages",
    "kill_mining",
    "kill_cluster",
    "cluster_inputs",
    "same_bytes",
    "object_store",
    "kill_annotation",
    "write_points",
    "two_commands",
    "random_schedules",
    "label_sequences",
    "upgrade_server",
    "guards",
    "bad_worlds",
    "hostile",
    "fuzz",
    "lowest",
    "soak",
)


def tables() -> str:
    """All results, each with its own title, date, version and command."""
    parts = []
    for name in ORDER:
        path = RESULTS / f"{name}.md"
        if path.is_file():
            parts.append(re.sub(r"^# ", "### ", path.read_text("utf-8").strip(), count=1))
    return "\n\n".join(parts)


def composed(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether the page is that of the results")
    given = parser.parse_args()
    page = PAGE.read_text("utf-8")
    new = composed(page)
    if given.check:
        sys.exit(new != page)
    PAGE.write_text(new, "utf-8")


if __name__ == "__main__":
    main()
