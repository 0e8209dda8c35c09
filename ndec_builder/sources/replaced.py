"""Which picture an image id had at an earlier time: labels are about pictures, and an ingest may replace them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.schemas import REPLACED
from ndec_builder.core.storage import read_table, write_table
from ndec_builder.core.workspace import Workspace

_COLUMNS = ["image_id", "sha256"]


def record_replaced(workspace: Workspace, role: str, coming: Path) -> None:
    """Append what the table `coming` replaces or removes to the record. Call it before `coming` becomes the table.

    An unknown hash (an image that was never opened) ends what is known of the picture before. If the process is killed
    in between, the record has rows about pictures that are still present; these change nothing.
    """
    if not workspace.images(role).is_file():
        return
    old, new = read_table(workspace.images(role), _COLUMNS), read_table(coming, _COLUMNS)
    old = old.filter(pc.is_valid(old["sha256"]))
    place = pc.index_in(old["image_id"], value_set=new["image_id"].combine_chunks())
    now = new["sha256"].take(place)  # null: removed or unknown
    gone = old.filter(pc.fill_null(pc.not_equal(now, old["sha256"]), True))
    if gone.num_rows:
        until = pa.array([datetime.now(UTC)] * gone.num_rows, REPLACED.field("until").type)
        rows = gone.append_column("until", until).cast(REPLACED)
        write_table(workspace.replaced_images(role), pa.concat_tables([_record(workspace, role), rows]))


class PicturesOverTime:
    """The SHA-256 of a role's images at any time since the workspace records it."""

    def __init__(self, workspace: Workspace, role: str) -> None:
        self._workspace, self._role = workspace, role
        self._earlier: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
        for row in _record(workspace, role).sort_by("until").to_pylist():
            self._earlier[row["image_id"]].append((row["until"], row["sha256"]))

    @property
    def replaced(self) -> set[str]:
        """Ids that had another picture before."""
        return set(self._earlier)

    def present(self, ids: Iterable[str]) -> dict[str, str | None]:
        """id → SHA-256 now; None if it is unknown. Ids without an image are left out."""
        if not self._workspace.images(self._role).is_file():
            return {}
        rows = self._workspace.image_rows(self._role, ids, ["sha256"])
        return {name: row["sha256"] for name, row in rows.items()}

    def earlier(self, image_id: str, moment: datetime) -> str | None:
        """The SHA-256 that an id had at a time and lost later; None if it has the same picture since."""
        return next((sha for until, sha in self._earlier.get(image_id, ()) if until > moment), None)


def _record(workspace: Workspace, role: str) -> pa.Table:
    path = workspace.replaced_images(role)
    return read_table(path, REPLACED.names) if path.is_file() else REPLACED.empty_table()
