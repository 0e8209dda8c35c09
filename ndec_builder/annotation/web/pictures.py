"""Reads the workspace's pictures for the labelling page and records those that cannot be read."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from ndec_builder.annotation.records.missing_images import missing_file, missing_images
from ndec_builder.annotation.records.pictures import GOLD_ROLE, gold_images, pictures_tag
from ndec_builder.core.console import say
from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.errors import NdecError
from ndec_builder.core.pictures.ingested import read_image
from ndec_builder.core.rendition import render
from ndec_builder.core.schemas import ROLES
from ndec_builder.core.storage import read_json, read_table, write_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.pictures_over_time import picture_of

REPLACED_SINCE = "it was replaced or turned after this task was made; `ndec annotate push` sends a new task"
ImageKey = tuple[str, str]  # role, image_id


@dataclass(frozen=True)
class ServedPicture:
    """The response for a picture: its bytes, or a placeholder with the reason why it is `missing`."""

    body: bytes
    media_type: str
    missing: str = ""


class _Row(NamedTuple):
    uri: str
    rotation: int | None
    sha256: str | None


class Pictures:
    """Finds an image of the workspace by (role, image_id); the tables are read again when they change."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._tables: dict[str, tuple[int, dict[str, _Row]]] = {}
        self._missing = {name: row["reason"] for name, row in missing_images(workspace).items()}
        self._lock = threading.Lock()

    def show(self, role: str, image_id: str, name: str = "") -> ServedPicture | None:
        """The picture for a browser, or None for an unknown image; a placeholder shows `name` instead of the id.

        It is what the models see: the file itself only if every browser shows it alike (`core/rendition.py`). A file
        that is missing, broken or changed since its ingest gives a placeholder and is listed in
        `missing_file(workspace)` until it can be read again.
        """
        row = self._rows(role).get(image_id)
        if row is None:
            return None
        try:
            rendition = render(self._read(row), row.rotation or 0)
            shown = ServedPicture(rendition.body, rendition.media_type)
        except Exception as error:  # fsspec's backends raise their own types
            # The message of an unknown error may contain an address with a key: show its type only.
            reason = "the file does not exist" if isinstance(error, FileNotFoundError) else type(error).__name__
            reason = str(error) if isinstance(error, DecodeError) else reason
            self._record(f"{role}/{image_id}", reason)
            return ServedPicture(placeholder(name or f"{role} {image_id}", reason), "image/png", reason)
        self._record(f"{role}/{image_id}", "")
        return shown

    def check_again(self) -> None:
        """Read each listed picture again; those that can be read now, or were removed, leave the list."""
        for name in list(self._missing):
            role, _, image_id = name.partition("/")
            try:
                if self.show(role, image_id) is None:
                    self._record(name, "")
            except NdecError as error:  # the list cannot be written
                say(str(error))
                return

    def is_known(self, role: str, image_id: str) -> bool:
        """Whether the workspace has this image; its file is not read."""
        return image_id in self._rows(role)

    def are_shown(self, tag: str, query: ImageKey, reference: ImageKey) -> bool:
        """Whether these images show what a task with this tag was made for; "": the task has none."""
        rows = (self._rows(role).get(image_id) for role, image_id in (query, reference))
        now = pictures_tag(*(row and picture_of(row.sha256, row.rotation) for row in rows))
        return not tag or now in (None, tag)

    def open(self, role: str, image_id: str) -> Image.Image | None:
        """The picture upright in RGB; None if it is unknown or unreadable."""
        row = self._rows(role).get(image_id)
        if row is None:
            return None
        try:
            return decode(self._read(row), row.rotation or 0)
        except Exception:  # as above
            return None

    def _read(self, row: _Row) -> bytes:
        return read_image(self.workspace.resolve(row.uri), row.sha256)

    def _record(self, name: str, reason: str) -> None:
        """Update the list of unreadable pictures; the file is written only when it changes."""
        with self._lock:
            if self._missing.get(name, "") == reason:
                return
            path = missing_file(self.workspace)
            known: dict[str, dict[str, str]] = read_json(path) if path.is_file() else {}
            if reason:
                self._missing[name] = reason
                known[name] = {"reason": reason, "since": datetime.now(UTC).isoformat(timespec="seconds")}
            else:
                self._missing.pop(name, None)
                known.pop(name, None)
            write_json(path, known)

    def _rows(self, role: str) -> dict[str, _Row]:
        if role != GOLD_ROLE and role not in ROLES:
            return {}
        path = gold_images(self.workspace) if role == GOLD_ROLE else self.workspace.images(role)
        if not path.is_file():
            return {}
        changed = path.stat().st_mtime_ns
        with self._lock:
            if self._tables.get(role, (None,))[0] != changed:
                table = read_table(path, ["image_id", *_Row._fields])
                columns = [column.to_pylist() for column in table.columns]
                rows = {image_id: _Row(*rest) for image_id, *rest in zip(*columns, strict=True)}
                self._tables[role] = (changed, rows)
            return self._tables[role][1]


def placeholder(what: str, reason: str) -> bytes:
    """A PNG that says that a picture is missing and what the annotator should do."""
    image = Image.new("RGB", (960, 720), (238, 238, 238))
    draw = ImageDraw.Draw(image)
    draw.rectangle((8, 8, 951, 711), outline=(160, 40, 40), width=6)
    lines = [
        ("This picture is missing", 46, (160, 40, 40)),
        (what[:70], 24, (60, 60, 60)),
        (reason[:80], 24, (60, 60, 60)),
    ]
    lines.append(("Press Skip, and tell the person who runs the project.", 30, (20, 20, 20)))
    y = 230.0
    for text, size, colour in lines:
        font = ImageFont.load_default(size)
        draw.text((480 - draw.textlength(text, font) / 2, y), text, colour, font)
        y += size + 26
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
