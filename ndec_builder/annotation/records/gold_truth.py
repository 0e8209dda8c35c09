"""Whether the truth of a gold pair still holds: a gold copy is shown with a user's image, which may be replaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.records.pictures import GOLD_ROLE, gold_images, gold_tags, pictures_tag
from ndec_builder.candidates.settings import GALLERY
from ndec_builder.core.rows import as_values
from ndec_builder.core.workspace import Workspace, rows_by_id
from ndec_builder.sources.pictures_over_time import PicturesOverTime

_Row = Mapping[str, Any]


class GoldOverTime:
    """The gold pairs (schema GOLD) of a split whose reference was ever replaced or removed.

    A pair was made for the tag in its row. In a row of an older version, which has none, the oldest picture known of
    the reference is taken for it.
    """

    def __init__(self, workspace: Workspace, split: str, gold: pa.Table) -> None:
        self._workspace = workspace
        self._pictures = PicturesOverTime(workspace, GALLERY[split])
        touched = pc.is_in(gold["reference_id"], value_set=self._pictures.replaced)
        touched = pc.and_(touched, pc.not_equal(gold["reference_role"], GOLD_ROLE))
        self._rows: list[_Row] = gold.filter(touched).to_pylist()
        ids = [row["query_id"] for row in self._rows]
        self._queries = rows_by_id(gold_images(workspace), ids, ["sha256"]) if ids else {}

    def lost(self) -> set[str]:
        """The pairs whose pictures today, or their hashes, are not those that the truth is about, or were removed."""
        now = gold_tags(self._workspace, self._rows)
        present = self._pictures.present(row["reference_id"] for row in self._rows)
        return {
            row["pair_id"]
            for row in self._rows
            if row["reference_id"] not in present or now[row["pair_id"]] != self._made_for(row)
        }

    def mislabelled(self, labels: pa.Table) -> set[str]:
        """The pairs with a label (schema LABEL_ROWS) of other pictures than they were made for.

        Earlier versions gave a pair to further annotators after its reference was replaced.
        """
        rows = {row["pair_id"]: row for row in self._rows}
        if not rows:
            return set()
        now = self._pictures.present(row["reference_id"] for row in self._rows)
        own = labels.filter(pc.is_in(labels["pair_id"], value_set=pa.array(sorted(rows), pa.string())))
        columns = (as_values(own[name]) for name in ("pair_id", "annotated_at", "pictures"))
        found = set()
        for pair, moment, tag in zip(*columns, strict=True):
            reference = rows[pair]["reference_id"]
            seen = tag or self._tag(rows[pair], self._pictures.earlier(reference, moment) or now.get(reference))
            if seen != self._made_for(rows[pair]):
                found.add(pair)
        return found

    def _made_for(self, row: _Row) -> str | None:
        tag: str | None = row["pictures"]
        return tag or self._tag(row, next(iter(self._pictures.former(row["reference_id"])), None))

    def _tag(self, row: _Row, reference: str | None) -> str | None:
        return pictures_tag(self._queries.get(row["query_id"], {}).get("sha256"), reference)  # gold is made upright
