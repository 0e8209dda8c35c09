"""A workspace, and a file of judged pairs for `ndec mine --pairs FILE --labels COLUMN`."""

from __future__ import annotations

from pathlib import Path

from ndec_builder.annotation.resolve import run as resolve
from ndec_builder.annotation.settings import ResolveConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.candidates.mine import run as mine
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.schemas import pair_id
from ndec_builder.core.workspace import Workspace

CSV = "query,reference,verdict\np1,r1,dup\nr2,p2,hard_negative\np3,r3,hard_negative\np4,r3,\n"
MAP = ("dup=edited_copy",)
P = {n: pair_id("test", f"p{n}", f"r{min(n, 3)}") for n in range(1, 5)}  # the pairs of CSV, by number
FILE = "file:team.csv"


class Given:
    """A workspace with three references and five pool images, and a file of judged pairs."""

    def __init__(self, root: Path) -> None:
        self.root, self.workspace, self.file = root / "bench", Workspace(root / "bench"), root / "team.csv"

    def mine(self, text: str | None = CSV, **settings: object) -> Path:
        given: dict[str, object] = {"geometry": False, "pictures": False}
        if text is not None:
            self.file.write_text(text)
            given |= {"pairs": self.file, "labels": "verdict", "label_map": MAP}
        return mine(MineConfig(self.root, **given | settings))  # type: ignore[arg-type]

    def resolve(self) -> dict[str, str | None]:
        resolve(ResolveConfig(self.root))
        rows = self.tables().decisions.to_pylist()
        return {row["pair_id"]: row["decision"] for row in rows}

    def tables(self) -> AnnotationTables:
        return AnnotationTables(self.workspace, "test")

    def labels(self) -> list[tuple[str, str, str]]:
        return [(row["pair_id"], row["annotator"], row["label"]) for row in self.tables().labels.to_pylist()]


DECIDED = {P[1]: "edited_copy", P[2]: "hard_negative", P[3]: "hard_negative"}
