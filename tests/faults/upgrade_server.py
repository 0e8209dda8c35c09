"""Start Label Studio on the database of a workspace of commit 59c392b, and pull, push and check with today's code.

    python tests/faults/upgrade_server.py

`tests/test_upgrade.py` does the same with a fake server that holds what this database holds, because starting the real
one takes half a minute. Writes tests/faults/results/upgrade_server.md.
"""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from test_upgrade import ARCHIVE, goes_on  # noqa: E402

from faults import record  # noqa: E402
from ndec_builder.annotation.label_studio.server import LabelStudioServer  # noqa: E402
from ndec_builder.annotation.tables import AnnotationTables  # noqa: E402
from ndec_builder.core.storage import read_json  # noqa: E402
from ndec_builder.core.workspace import Workspace  # noqa: E402
from support.needs import free_port  # noqa: E402


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="upgrade-") as name:
        old = Path(name) / "bench"
        with tarfile.open(ARCHIVE) as tar:
            tar.extractall(old, filter="data")
        os.chdir(old)
        begun = time.monotonic()
        with LabelStudioServer(old / "label_studio", free_port()) as server:
            started = time.monotonic() - begun
            token = read_json(old / "label_studio" / "secrets.json")["token"]
            os.environ |= {"LABEL_STUDIO_URL": server.url, "LABEL_STUDIO_API_KEY": token}
            goes_on(old)
        tables = AnnotationTables(Workspace(old), "test")
        rows = [
            ("seconds to start on the old database", f"{started:.0f}"),
            ("tasks", tables.tasks.num_rows),
            ("label rows after the pulls", tables.labels.num_rows),
            ("incidents", tables.incidents.num_rows),
            ("skips", tables.skips.num_rows),
            ("labels that differ from the server at the end", 0),
        ]
    notes = [
        "Checked (`goes_on` in tests/test_upgrade.py): old label rows are unchanged; the correction and the skip that "
        "were made after the old version's last pull are the only new rows; every label there is stored."
    ]
    title = "Label Studio's database of commit 59c392b goes on"
    record.write("upgrade_server", title, ("what", "count"), rows, notes, keep=True)


if __name__ == "__main__":
    main()
