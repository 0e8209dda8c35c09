"""Where an image is stored inside a dataset directory. Ids are untrusted text, so they are quoted in paths."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import quote

from ndec_builder.core.storage import sha256_bytes

MAX_KEY = 80  # characters of an id in a file name; a longer one is cut and gets a hash

_USUAL = {"JPEG": ".jpg", "TIFF": ".tif"}  # where Pillow knows several extensions


def file_key(image_id: str) -> str:
    """An id as a file name without dots: WebDataset treats everything after the first dot as the extension."""
    name = quote(image_id, safe="").replace(".", "%2E").replace("~", "%7E")
    return name if len(name) <= MAX_KEY else f"{name[: MAX_KEY - 17]}~{sha256_bytes(image_id.encode())[:16]}"


def extension(image_format: str) -> str:
    """The file extension of a format by Pillow's name, from Pillow's own registry."""
    from PIL import Image

    known = (ending for ending, name in Image.registered_extensions().items() if name == image_format)
    return _USUAL.get(image_format) or next(known, f".{image_format.lower()}")


def image_place(table: str, image_id: str, sha256: str | None) -> str:
    """Path of an image in a dataset directory, without extension; 256 folders keep each one small."""
    return f"images/{table}/{(sha256 or '00')[:2]}/{file_key(image_id)}"


def escapes_root(name: str) -> bool:
    """Whether a name used as a path would leave the folder it is written to."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or name[1:2] == ":"
