"""Writes the contact sheet: one page with all mined pairs side by side, to filter, sort and scroll.

Pairs for people come first, duplicates last, each in rank order. The decisions appear once `ndec annotate resolve` has
written them next to the page.

The page contains the pictures of the first pairs, so that it can be sent by mail. The other pictures are loaded when
they scroll into view: from their local files, or from thumbnails next to the page if browsers would show the file
differently than the models see it. Nothing is fetched from the network.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from ndec_builder.candidates.duplicates import ImageRow, UriResolver
from ndec_builder.candidates.outside.given_labels import given_labels
from ndec_builder.candidates.role_vectors import RoleVectors
from ndec_builder.core.console import number_of, track
from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.pictures.ingested import read_image
from ndec_builder.core.rendition import is_plain_file
from ndec_builder.core.rows import as_rows
from ndec_builder.core.storage import remove_abandoned, write_bytes, write_text
from ndec_builder.core.vocabulary import FILE_SOURCE
from ndec_builder.core.workspace import Workspace

THUMBNAIL_SIDE = 160  # pixels
MAX_PAIRS = 500  # pairs with inline pictures: about 5 MB of page, the most a phone can show
MAX_THUMBNAILS = 2000  # of further pictures that browsers would show differently; more would take minutes
PICTURES = "contact_sheet_pictures"  # folder of these thumbnails
DECISIONS_SCRIPT = "contact_sheet_decisions.js"  # next to the page; a page opened as a file may load no JSON
_Address = tuple[str, int, str]  # of a file, rotation, SHA-256 ("": unknown)
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
    copies: bool = True,
) -> Path:
    """Write the candidates (rows in rank order) as one HTML file, the first `max_pairs` with inline JPEG thumbnails.

    Without `copies` no picture is written, neither into the page nor next to it: the page shows the files themselves,
    where the machine has them and browsers show them as the models see them.

    Duplicates come last, in a section of their own.

    `roles` name the two sides. With scripts disabled the page shows only the first `max_pairs`, and says so. Ids come
    from outside and are escaped.
    """
    import jinja2

    candidates = sorted(candidates, key=lambda row: row["duplicate_of"] is not None)  # stable: rank order inside
    shown = candidates[: max_pairs if copies else 0]
    wanted = {(0, row["query_id"]): queries[row["query_id"]] for row in shown}
    wanted |= {(1, row["reference_id"]): references[row["reference_id"]] for row in shown}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        drawn = track(pool.map(lambda row: _inline(row, resolve), wanted.values()), len(wanted), "contact sheet")
        pictures = dict(zip(wanted, drawn, strict=True))
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
    given = sum(row.get("given") is not None for row in candidates)
    left_out = f"; this page contains the pictures of the first {len(shown)}" if len(shown) < len(candidates) else ""
    left_out = left_out if copies else "; this page contains no pictures, and shows the files of this machine"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    data = _columns(
        path.parent, candidates, queries, references, resolve, roles, len(shown), MAX_THUMBNAILS if copies else 0
    )
    page = environment.get_template("contact_sheet.html").render(
        title=title,
        summary=f"{number_of(len(candidates) - duplicates, 'pair')} for people to label, best score first"
        + (f" ({given:,} of them already have a label that came with a file)" if given else "")
        + (f", then {number_of(duplicates, 'duplicate')} that nobody labels" if duplicates else "")
        + f"{left_out}.",
        duplicates=duplicates,
        pairs=pairs,
        keys=[(key, name) for key, name in _SORT_KEYS.items() if key in data],
        hints=sorted({hint for hint in data["hint"] if hint}),
        data=json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c"),
        script=(Path(__file__).parent / "contact_sheet.js").read_text("utf-8"),
    )
    return write_text(path, page)


def write_mined_sheet(
    workspace: Workspace, split: str, table: pa.Table, sides: tuple[RoleVectors, RoleVectors], copies: bool
) -> Path:
    """Write the contact sheet of a split. sides: pool and gallery, which have the images of the candidates `table`."""
    given: dict[str, str] = {}
    for row in as_rows(given_labels(workspace.candidates(split))):
        text = f"{row['label'].replace('_', ' ')} in {row['annotator'].removeprefix(FILE_SOURCE)}"
        given[row["pair_id"]] = f"{given[row['pair_id']]}, {text}" if row["pair_id"] in given else text
    rows: list[dict[str, Any]] = [row | {"given": given.get(row["pair_id"])} for row in table.to_pylist()]
    roles = ("query (pool)", "reference") if split == "test" else ("latter (pool)", "former (basic)")
    return write_contact_sheet(
        workspace.candidates(split) / "contact_sheet.html",
        rows,
        sides[0].rows([row["query_id"] for row in rows]),
        sides[1].rows([row["reference_id"] for row in rows]),
        workspace.resolve,
        title=f"Mined pairs, split {split}",
        roles=roles,
        copies=copies,
    )


def write_decisions(folder: Path, decisions: Mapping[str, str | None]) -> Path:
    """Write {pair_id: decision} for the contact sheet in `folder`; undecided pairs are left out."""
    remove_abandoned(folder)  # the folder of another command, whose lock is not held
    made = {pair: label for pair, label in sorted(decisions.items()) if label is not None}
    return write_text(folder / DECISIONS_SCRIPT, f"window.ndecDecisions = {json.dumps(made, separators=(',', ':'))};\n")


def _columns(
    folder: Path,
    candidates: Sequence[Mapping[str, Any]],
    queries: Mapping[str, ImageRow],
    references: Mapping[str, ImageRow],
    resolve: UriResolver,
    roles: tuple[str, str],
    inside: int,
    thumbnails: int,
) -> dict[str, Any]:
    """The data for the script of the page: one list per column; files are positions in one list of distinct files."""
    data: dict[str, Any] = {"roles": roles, "files": [], "decisions": DECISIONS_SCRIPT}
    data["pair"] = [row["pair_id"] for row in candidates]
    data |= {
        key: [_number(row.get(key)) for row in candidates]
        for key in _SORT_KEYS
        if any(key in r for r in candidates[:1])
    }
    data |= {"query": [row["query_id"] for row in candidates], "reference": [row["reference_id"] for row in candidates]}
    data |= {"duplicate": [int(row["duplicate_of"] is not None) for row in candidates]}
    data |= {"hint": [_hint(row) or "" for row in candidates]}
    rest = candidates[inside:]
    addresses = [
        {row[f"{name}_id"]: _address(table[row[f"{name}_id"]], resolve) for row in rest}
        for name, table in (("query", queries), ("reference", references))
    ]  # fmt: skip
    links = _links(folder, {address for side in addresses for address in side.values()}, thumbnails)
    numbers = {link: number for number, link in enumerate(sorted(set(filter(None, links.values()))))}
    for name, side in zip(("query", "reference"), addresses, strict=True):
        found = [links[side[row[f"{name}_id"]]] for row in rest]
        data[f"{name}_file"] = [None] * inside + [None if link is None else numbers[link] for link in found]
    data["files"] = list(numbers)
    return data


def _address(image: ImageRow, resolve: UriResolver) -> _Address:
    return resolve(image["uri"]), image.get("rotation") or 0, image.get("sha256") or ""


def _links(folder: Path, addresses: set[_Address], most: int) -> dict[_Address, str | None]:
    """What the page loads for each picture: the file if browsers show it as the models see it, else a thumbnail.

    Thumbnails are written to PICTURES, at most `most`. None: not a local file of its own, one too many, or changed
    since its ingest, which is seen only where a thumbnail is made: hashing all other files would take minutes.
    """
    shutil.rmtree(folder / PICTURES, ignore_errors=True)
    local = sorted(key for key in addresses if "://" not in key[0] and "#" not in key[0])
    links: dict[_Address, str | None] = dict.fromkeys(addresses)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checked = pool.map(lambda key: not key[1] and is_plain_file(Path(key[0])), local)
        plain = list(track(checked, len(local), "contact sheet: files"))
        rendered = [key for key, is_plain in zip(local, plain, strict=True) if not is_plain][:most]
        names = ("uri", "rotation", "sha256")
        pictures = pool.map(lambda key: _thumbnail(dict(zip(names, key, strict=True)), str), rendered)
        thumbnails = track(pictures, len(rendered), "contact sheet: thumbnails")
        for number, (key, picture) in enumerate(zip(rendered, thumbnails, strict=True)):
            if picture is not None:
                links[key] = f"{PICTURES}/{number:05d}.jpg"
                write_bytes(folder / PICTURES / f"{number:05d}.jpg", picture)
    for key, is_plain in zip(local, plain, strict=True):
        if is_plain:
            links[key] = quote(os.path.relpath(key[0], folder))
    return links


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 5)


def _hint(row: Mapping[str, Any]) -> str | None:
    origin = "same photo" if row.get("same_photo") else "same author" if row.get("same_author") else ""
    return "; ".join(filter(None, (origin, row.get("given")))) or None


def _inline(row: ImageRow, resolve: UriResolver) -> str | None:
    """The thumbnail as base64; None when the image cannot be read."""
    picture = _thumbnail(row, resolve)
    return None if picture is None else base64.b64encode(picture).decode()


def _thumbnail(row: ImageRow, resolve: UriResolver) -> bytes | None:
    """A JPEG of at most THUMBNAIL_SIDE pixels; None when the image cannot be read or has changed."""
    try:
        image = decode(read_image(resolve(row["uri"]), row.get("sha256") or None), row.get("rotation") or 0)
    except (OSError, DecodeError):
        return None
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    return buffer.getvalue()
