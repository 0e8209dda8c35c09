"""The images that edited copies are made from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.console import counted_reasons, number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.workspace import Workspace


def choose_sources(images: int, count: int, seed: int) -> np.ndarray:
    """Row numbers (count,) int64: repeated shuffles of all rows, so that use counts differ by at most one."""
    rng = np.random.default_rng(seed)
    rounds = [rng.permutation(images) for _ in range(-(-count // images))]
    return np.concatenate(rounds)[:count]


def all_lost(role: str, first_uri: str, reasons: list[str]) -> str:
    """The error when no copy at all could be made: the folder of the sources was moved or is not mounted."""
    return (
        f"none of the {number_of(len(reasons), 'copy')} could be made: {counted_reasons(reasons)}. The first is of "
        f"{first_uri}. Nothing was written, and copies of an earlier run stay. If the pictures are in another place "
        f"now, run `ndec ingest {role} FOLDER` with that place first"
    )


def refuse_changed_sources(workspace: Workspace, role: str, chosen: pa.Table) -> None:
    """Raise NdecError if a source was replaced or removed while copies were made. chosen: rows of the images table."""
    ids, sums = (chosen[name].to_pylist() for name in ("image_id", "sha256"))
    now = {name: row["sha256"] for name, row in workspace.image_rows(role, ids, ["sha256"]).items()}
    changed = {name for name, sha256 in zip(ids, sums, strict=True) if now.get(name, "gone") != sha256}
    if changed:
        raise NdecError(
            f"{number_of(len(changed), 'image')} of the role {role}, {min(changed)!r} first, changed while the copies "
            "were made: run the same command again"
        )


def copies_of_replaced(
    workspace: Workspace, edits: pa.Table, is_replaced: Callable[[str], bool], new: Mapping[str, str]
) -> set[str]:
    """Queries made from copies that are replaced now by other pictures, also through several copies; says how many.

    They show what the earlier pictures showed, so they must go with them. edits: schema EDITS · new: id → sha256 of the
    copies that are made now.
    """
    columns = (edits[name].to_pylist() for name in ("image_id", "role", "source_id", "source_role"))
    made = [(image, source) for image, role, source, of in zip(*columns, strict=True) if role == of == "query"]
    sources = {source for _, source in made if is_replaced(source)}
    known = workspace.image_rows("query", sources, ["sha256"]) if workspace.images("query").is_file() else {}
    changed = {name for name in sources if name not in known or known[name]["sha256"] != new.get(name)}
    found: set[str] = set()
    while more := {image for image, source in made if source in changed | found} - found:
        found |= more
    if found:
        say(
            f"{number_of(len(found), 'copy', 'copies')} of earlier copies removed, {min(found)!r} first, because these "
            "are replaced: run `ndec edit --role query` again"
        )
    return found


def files_of_copies(queries: pa.Table) -> list[str]:
    """Ids of the queries whose files `ndec edit` made, also those without a record.

    An ingest forgets the records of copies whose source it replaces or removes. queries: an images table.
    """
    rows = zip(*(queries[name].to_pylist() for name in ("image_id", "uri")), strict=True)
    return [name for name, uri in rows if uri == f"files/query/{name}.jpg"]


def without_queries(table: pa.Table, image_ids: Collection[str]) -> pa.Table:
    """The images of role query, or rows of edits, without these ids. Edits of other roles stay."""
    gone = pc.and_(pc.equal(table["role"], "query"), pc.is_in(table["image_id"], pa.array([*image_ids], pa.string())))
    return table.filter(pc.invert(gone))
