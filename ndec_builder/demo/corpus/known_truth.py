"""Known truth of a corpus that ndec made: labels by construction, from groups and the edits table."""

from __future__ import annotations

from collections.abc import Callable

from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace


def known_label(workspace: Workspace) -> Callable[[str, str], str]:
    """Return label(query_id, reference_id) for queries of pool or query and references of reference or basic.

    edited_copy: the edits table says that the query was made from the reference. hard_negative: the reference is a crop
    of the query (kind reverse_crop), or both have the same group. Otherwise unrelated. `label` raises NdecError for an
    unknown image id, `known_label` when the corpus has no edits table.
    """
    if not workspace.edits.is_file():
        raise NdecError(
            f"{workspace.edits} does not exist, so the truth of this workspace is not known. Known truth exists for "
            "corpora made by `ndec corpus fetch` or `ndec demo`; other pairs need annotators"
        )
    copies: set[tuple[str, str]] = set()
    wholes: set[tuple[str, str]] = set()
    table = read_table(workspace.edits, columns=["image_id", "source_id", "kind"])
    for row in table.to_pylist():
        (copies if row["kind"] == "edited_copy" else wholes).add((row["image_id"], row["source_id"]))
    queries = _groups(workspace, ("query", "pool"))
    references = _groups(workspace, ("basic", "reference"))

    def label(query_id: str, reference_id: str) -> str:
        for image_id, known, what in (
            (query_id, queries, "query or pool"),
            (reference_id, references, "reference or basic"),
        ):
            if image_id not in known:
                raise NdecError(f"{image_id!r} is no {what} image of {workspace.root}; its label cannot be known")
        if (query_id, reference_id) in copies:
            return "edited_copy"
        if (query_id, reference_id) in wholes or queries[query_id] == references[reference_id]:
            return "hard_negative"
        return "unrelated"

    return label


def _groups(workspace: Workspace, roles: tuple[str, ...]) -> dict[str, str]:
    """image_id → group over the roles that exist; a later role overrides an earlier one."""
    groups: dict[str, str] = {}
    for role in roles:
        if workspace.images(role).is_file():
            table = workspace.read_images(role)
            groups.update(zip(table["image_id"].to_pylist(), table["group"].to_pylist(), strict=True))
    return groups
