"""The workspace's pictures over http on 127.0.0.1, for the labelling page. Nothing else on the disk is reachable."""

from __future__ import annotations

import io
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import quote, unquote, urlsplit

from ndec_builder.annotation.server import HOST, check_port_is_free
from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.schemas import ROLES
from ndec_builder.core.storage import read_uri
from ndec_builder.core.workspace import Workspace

_SHOWN_AS_IS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif", "BMP": "image/bmp"}
_LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}


def image_path(role: str, image_id: str) -> str:
    """Path of a picture on the image server; every character of the id is safe in it."""
    return f"/image/{role}/{quote(image_id, safe='')}"


class Pictures:
    """Finds an image of the workspace by (role, image_id); the tables are read again when they change."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._tables: dict[str, tuple[int, dict[str, tuple[str, str, int]]]] = {}
        self._lock = threading.Lock()

    def load(self, role: str, image_id: str) -> tuple[bytes, str] | None:
        """Return (bytes, media type), or None for an unknown image.

        Formats that browsers do not show and images with a `rotation` are decoded and sent as JPEG.
        Raises OSError or DecodeError when the file is gone or broken.
        """
        row = self._rows(role).get(image_id)
        if row is None:
            return None
        uri, format_, rotation = row
        data = read_uri(self.workspace.resolve(uri))
        if format_ in _SHOWN_AS_IS and not rotation:
            return data, _SHOWN_AS_IS[format_]
        out = io.BytesIO()
        decode(data, rotation).save(out, "JPEG", quality=95)
        return out.getvalue(), "image/jpeg"

    def _rows(self, role: str) -> dict[str, tuple[str, str, int]]:
        path = self.workspace.images(role) if role in ROLES else None
        if path is None or not path.is_file():
            return {}
        changed = path.stat().st_mtime_ns
        with self._lock:
            if self._tables.get(role, (None,))[0] != changed:
                table = self.workspace.read_images(role).select(["image_id", "uri", "format", "rotation"])
                columns = [column.to_pylist() for column in table.columns]
                rows = {i: (uri, format_, rotation or 0) for i, uri, format_, rotation in zip(*columns, strict=True)}
                self._tables[role] = (changed, rows)
            return self._tables[role][1]


class _Handler(BaseHTTPRequestHandler):
    pictures: Pictures
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        # A web page that points its own name at 127.0.0.1 sends that name: it must not read the pictures.
        host = self.headers.get("Host", "").rsplit(":", 1)[0] if self.headers.get("Host") != "[::1]" else "[::1]"
        if host not in _LOOPBACK:
            return self._answer(HTTPStatus.FORBIDDEN, b"wrong host name", "text/plain")
        parts = urlsplit(self.path).path.split("/")
        if len(parts) != 4 or parts[:2] != ["", "image"]:
            return self._answer(HTTPStatus.NOT_FOUND, b"pictures are at /image/ROLE/IMAGE_ID", "text/plain")
        try:
            found = self.pictures.load(parts[2], unquote(parts[3]))
        except (OSError, DecodeError) as error:
            return self._answer(HTTPStatus.GONE, f"the file cannot be read: {error}".encode(), "text/plain")
        if found is None:
            return self._answer(HTTPStatus.NOT_FOUND, b"no such image in this workspace", "text/plain")
        return self._answer(HTTPStatus.OK, *found)

    do_HEAD = do_GET

    def _answer(self, status: HTTPStatus, body: bytes, media_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Access-Control-Allow-Origin", "*")  # without it Label Studio's page shows no picture
        self.send_header("Cross-Origin-Resource-Policy", "cross-origin")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "max-age=3600" if status == HTTPStatus.OK else "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: two lines a pair would drown what the terminal says."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that closes a connection early is no error worth a traceback."""


class ImageServer:
    """Context manager: serves the workspace's pictures in a thread. Port 0 takes a free one; see `url`."""

    def __init__(self, workspace: Workspace, port: int) -> None:
        if port:
            check_port_is_free(port, "--image-port")
        handler = type("Handler", (_Handler,), {"pictures": Pictures(workspace)})
        self._server = _Server((HOST, port), handler)
        self.url = f"http://{HOST}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="ndec-images", daemon=True)

    def __enter__(self) -> ImageServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
