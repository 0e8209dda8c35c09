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
    "kill_annotation_postgresql",
    "write_points",
    "write_points_sampled",
    "two_commands",
    "two_commands_sampled",
    "random_schedules",
    "label_sequences",
    "upgrade_server",
    "guards",
    "bad_worlds",
    "hostile",
    "fuzz",
    "lowest",
    "soak",
    "interned",
    "arrow_pool",
    "soak_serve",
)


def tables() -> str:
    """What ran when; then all results, each with its own title, date, version and command."""
    paths = [RESULTS / f"{name}.md" for name in ORDER]
    texts = {path.stem: path.read_text("utf-8").strip() for path in paths if path.is_file()}
    parts = [overview(texts), *(re.sub(r"^# ", "### ", text, count=1) for text in texts.values())]
    return "\n\n".join(parts)


def overview(texts: dict[str, str]) -> str:
    """Script, date and commit of each result, as its first lines name them."""
    rows = ["| script | title | date | commit |", "|---|---|---|---|"]
    for name, text in texts.items():
        title, _, stamp = text.partition("\n\n")
        date = re.search(r"\d{4}-\d\d-\d\d", stamp)
        commit = re.search(r"commits? ([0-9a-f]{7}(?:(?:, | and )[0-9a-f]{7})*)", stamp.partition("\n\n")[0])
        cells = (name, title.removeprefix("# "), date and date[0], commit and commit[1])
        rows.append("| " + " | ".join(cell or "not noted" for cell in cells) + " |")
    return "### What ran, and when\n\n" + "\n".join(rows)


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
