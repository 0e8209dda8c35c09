"""Writes the contact sheet: one page with all mined pairs side by side, to filter, sort and scroll.

The page contains the pictures of the first pairs, so that it can be sent by mail. The other pictures are loaded from
their local files when they scroll into view. Nothing is fetched from the network.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ndec_builder.candidates.duplicates import ImageRow, UriResolver
from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.storage import read_uri, write_text

THUMBNAIL_SIDE = 160  # pixels
MAX_PAIRS = 500  # pairs with inline pictures: about 5 MB of page, the most a phone can show
_SORT_KEYS = {  # column of the candidates → its name on the page
    "rank": "rank",
    "score": "score",
    "inliers": "inliers",
    "query_inside": "query inside",
    "reference_covered": "reference covered",
    "local_correlation": "local correlation",
    "seam": "seam",
}


def write_contact_sheet(
    path: Path,
    candidates: Sequence[Mapping[str, Any]],
    queries: Mapping[str, ImageRow],
    references: Mapping[str, ImageRow],
    resolve: UriResolver,
    *,
    title: str,
    roles: tuple[str, str],
    max_pairs: int = MAX_PAIRS,
) -> Path:
    """Write the candidates (rows in rank order) as one HTML file, the first `max_pairs` with inline JPEG thumbnails.

    `roles` name the two sides. With scripts disabled the page shows only the first `max_pairs`, and says so. Ids come
    from outside and are escaped.
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
            "hint": _hint(row),
            "query": {"id": row["query_id"], "role": roles[0], "picture": pictures[0, row["query_id"]]},
            "reference": {"id": row["reference_id"], "role": roles[1], "picture": pictures[1, row["reference_id"]]},
        }
        for row in shown
    ]
    duplicates = sum(row["duplicate_of"] is not None for row in candidates)
    left_out = f"; this page contains the pictures of the first {len(shown)}" if len(shown) < len(candidates) else ""
    unseen = ", not shown to annotators" if duplicates else ""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    data = _columns(path.parent, candidates, queries, references, resolve, roles, len(shown))
    page = environment.get_template("contact_sheet.html").render(
        title=title,
        summary=f"{len(candidates)} pairs, best score first, {duplicates} of them duplicates{unseen}{left_out}.",
        pairs=pairs,
        keys=[(key, name) for key, name in _SORT_KEYS.items() if key in data],
        hints=sorted({hint for hint in data["hint"] if hint}),
        data=json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c"),
        script=(Path(__file__).parent / "contact_sheet.js").read_text("utf-8"),
    )
    return write_text(path, page)


def _columns(
    folder: Path,
    candidates: Sequence[Mapping[str, Any]],
    queries: Mapping[str, ImageRow],
    references: Mapping[str, ImageRow],
    resolve: UriResolver,
    roles: tuple[str, str],
    inside: int,
) -> dict[str, Any]:
    """The data for the script of the page: one list per column; files are positions in one list of distinct files."""
    data: dict[str, Any] = {"roles": roles, "files": []}
    data |= {
        key: [_number(row.get(key)) for row in candidates]
        for key in _SORT_KEYS
        if any(key in r for r in candidates[:1])
    }
    data |= {"query": [row["query_id"] for row in candidates], "reference": [row["reference_id"] for row in candidates]}
    data |= {"duplicate": [int(row["duplicate_of"] is not None) for row in candidates]}
    data |= {"hint": [_hint(row) or "" for row in candidates]}
    places: dict[str, int] = {}
    for name, table in (("query", queries), ("reference", references)):
        files: list[tuple[int, int] | None] = [None] * len(candidates)
        for i, row in enumerate(candidates[inside:], inside):
            picture = table[row[f"{name}_id"]]
            address = resolve(picture["uri"])
            if "://" not in address and "#" not in address:
                link = quote(os.path.relpath(address, folder))
                files[i] = (places.setdefault(link, len(places)), picture.get("rotation") or 0)
        data[f"{name}_file"] = files
    data["files"] = list(places)
    return data


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 5)


def _hint(row: Mapping[str, Any]) -> str | None:
    return "same photo" if row.get("same_photo") else "same author" if row.get("same_author") else None


def _inline(row: ImageRow, resolve: UriResolver) -> str | None:
    """A base64 JPEG of at most THUMBNAIL_SIDE pixels; None when the image cannot be read."""
    try:
        image = decode(read_uri(resolve(row["uri"])), row.get("rotation") or 0)
    except (OSError, DecodeError):
        return None
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    return base64.b64encode(buffer.getvalue()).decode()
