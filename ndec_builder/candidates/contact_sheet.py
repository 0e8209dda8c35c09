"""The contact sheet: one self-contained page with the mined pairs side by side, for a person to scroll through."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ndec_builder.candidates.duplicates import Resolve, Row
from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.storage import read_uri, write_text

THUMBNAIL_SIDE = 160  # pixels
MAX_PAIRS = 500  # some 5 MB of page; beyond that a phone gives up


def write_contact_sheet(
    path: Path,
    candidates: Sequence[Mapping[str, Any]],
    queries: Mapping[str, Row],
    references: Mapping[str, Row],
    resolve: Resolve,
    *,
    title: str,
    roles: tuple[str, str],
    max_pairs: int = MAX_PAIRS,
) -> Path:
    """Write the first `max_pairs` candidates (rows in rank order) as one HTML file with inline JPEG thumbnails.

    `roles` name the two sides. The page says when it leaves pairs out. Ids come from outside: they are escaped.
    """
    import jinja2

    shown = candidates[:max_pairs]
    wanted = {(0, row["query_id"]): queries[row["query_id"]] for row in shown}
    wanted |= {(1, row["reference_id"]): references[row["reference_id"]] for row in shown}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pictures = dict(zip(wanted, pool.map(lambda row: _inline(row, resolve), wanted.values()), strict=True))
    pairs = [
        {
            "pair_id": row["pair_id"],
            "rank": row["rank"],
            "score": row["score"],
            "duplicate": row["duplicate_of"] is not None,
            "hint": "same photo" if row.get("same_photo") else "same author" if row.get("same_author") else None,
            "query": {"id": row["query_id"], "role": roles[0], "picture": pictures[0, row["query_id"]]},
            "reference": {"id": row["reference_id"], "role": roles[1], "picture": pictures[1, row["reference_id"]]},
        }
        for row in shown
    ]
    duplicates = sum(row["duplicate_of"] is not None for row in candidates)
    left_out = f"; the first {len(shown)} are shown here" if len(shown) < len(candidates) else ""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("contact_sheet.html").render(
        title=title,
        summary=f"{len(candidates)} pairs, best score first, {duplicates} of them duplicates{left_out}.",
        pairs=pairs,
    )
    return write_text(path, page)


def _inline(row: Row, resolve: Resolve) -> str | None:
    """A base64 JPEG of at most THUMBNAIL_SIDE pixels; None when the image cannot be read."""
    try:
        image = decode(read_uri(resolve(row["uri"])), row.get("rotation") or 0)
    except (OSError, DecodeError):
        return None
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    return base64.b64encode(buffer.getvalue()).decode()
