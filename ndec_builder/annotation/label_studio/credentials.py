"""Private files of Label Studio's data folder: only the user who runs the server can read them."""

from __future__ import annotations

import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from ndec_builder.core.access.machines import user_name
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import atomic_path, read_json

USER = "annotator@ndec.local"


def secrets_file(data: Path) -> Path:
    return data / "secrets.json"


def make_secrets(data: Path) -> dict[str, str]:
    """Read or make `{user, password, token}`. Only the owner can ever read the file."""
    make_private(data)
    path = secrets_file(data)
    if path.is_file():
        values: dict[str, str] = read_json(path)
        return values
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    values = {"user": USER, "password": secrets.token_urlsafe(12), "token": secrets.token_hex(20)}
    write_private_json(path, values)
    return values


def image_key(data: Path) -> str:
    """The key of the image server's addresses; made once, so that addresses in existing tasks stay valid."""
    values = make_secrets(data)
    if "image_key" not in values:
        values |= {"image_key": secrets.token_hex(16)}
        write_private_json(secrets_file(data), values)
    return values["image_key"]


def keyed_url(url: str, data: Path) -> str:
    """Address of the image server with its key; one that has a key already, or is empty, stays."""
    return f"{url.rstrip('/')}/key/{image_key(data)}" if url and "/key/" not in url else url


def closed_text(data: Path) -> str:
    """Whose data folder this is, if this user may not look into it; empty if there is none or it is open."""
    if not data.is_dir() or os.access(data, os.R_OK | os.X_OK, effective_ids=True):
        return ""
    return f"{data}, with passwords and keys of Label Studio, belongs to user {user_name(data.stat().st_uid)}"


def make_private(data: Path) -> None:
    """Take the rights of other users from the data folder and the files in it, databases and their copies included.

    Raises NdecError if the folder belongs to another user.
    """
    if closed := closed_text(data):
        raise NdecError(
            f"{closed}; ask for the address of the pictures with its key, and set it as image_url = "
            '"http://…/key/…" under [annotate.push] in ndec.toml'
        )
    if not data.is_dir():
        return
    reachable = stat.S_IMODE(data.stat().st_mode) & 0o077  # in a private folder nobody could read the files
    for path in (data, *data.iterdir()):
        try:
            found = stat.S_IMODE(path.lstat().st_mode)
            if not found & 0o077 or not (path == data or stat.S_ISREG(path.lstat().st_mode)):
                continue
            path.chmod(found & 0o700)
        except FileNotFoundError:  # a file that a running server has just removed
            continue
        except PermissionError:
            raise NdecError(
                f"{path} can be read by other users (mode {found:o}) and belongs to user "
                f"{user_name(path.stat().st_uid)}, so its rights cannot be changed; run this as that user, or let "
                f"that user run `chmod -R go= {data}`"
            ) from None
        if reachable:
            say(f"{path} could be read by other users (mode {found:o}); now only by you (mode {found & 0o700:o})")


def write_private_json(path: Path, value: Any) -> None:
    """Write JSON atomically to a file that only its owner can read."""
    with atomic_path(path, mode=0o600) as temporary:
        temporary.write_text(json.dumps(value, indent=2), "utf-8")
