"""The HTTP server for the labelling page: the pictures of a pair, aligned views of them, and the guideline."""

from __future__ import annotations

import hmac
import io
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socket import socket
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from PIL import Image

from ndec_builder.annotation.label_studio.credentials import image_key
from ndec_builder.annotation.label_studio.ports import HOST, check_port_is_free, is_loopback, public_host
from ndec_builder.annotation.web import guideline
from ndec_builder.annotation.web.pair_pictures import SIDES, AssignedPairs
from ndec_builder.annotation.web.picture_keys import has_keyless
from ndec_builder.annotation.web.pictures import REPLACED_SINCE, Pictures, placeholder
from ndec_builder.core.schemas import ROLES
from ndec_builder.core.workspace import Workspace

MISSING_HEADER = "X-Ndec-Missing"
_THREADS = 16
_REQUEST_SECONDS = 10.0  # for the complete request: a trickle of bytes must not keep a thread
_ANSWER_SECONDS = 60.0  # for the complete answer: a large picture over a slow line
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


def image_path(role: str, image_id: str) -> str:
    """Path of a picture on the image server; every character of the id is safe in it."""
    return f"/image/{role}/{quote(image_id, safe='')}"


def compare_views() -> dict[str, tuple[Callable[[Image.Image, Image.Image], bytes], str]]:
    from ndec_builder.annotation.web.overlays import VIEWS  # loads OpenCV: only when a view is asked for

    return VIEWS


class _TimedReader(io.RawIOBase):
    """Reads from a socket until a deadline, however slowly the bytes arrive. Raises TimeoutError."""

    def __init__(self, connection: socket, seconds: float) -> None:
        self._connection, self._deadline = connection, time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    pictures: Pictures
    pairs: AssignedPairs
    allowed: frozenset[str] | None  # accepted host names; None: any
    key: str  # the start of every picture's address
    takes_keyless: Callable[[], bool]  # whether tasks of an older ndec, without the key, may still be open
    origins: frozenset[str] | None  # web pages that may read the pictures; None: any, since they need the key
    aligning: threading.Lock  # one view at a time: it keeps a core busy for about a second
    request_seconds = _REQUEST_SECONDS

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_TimedReader(self.connection, self.request_seconds))

    def do_GET(self) -> None:
        # A web page whose host name points at 127.0.0.1 sends that name: it must not read the pictures.
        host = self.headers.get("Host", "").rsplit(":", 1)[0] if self.headers.get("Host") != "[::1]" else "[::1]"
        if self.allowed is not None and host not in self.allowed:
            return self._answer(HTTPStatus.FORBIDDEN, b"wrong host name", "text/plain")
        parts = [unquote(part) for part in urlsplit(self.path).path.split("/")[1:]]
        if parts[0] == "key":
            given, parts = parts[1] if len(parts) > 1 else "", parts[2:]
            if not hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self.key.encode()):
                return self._answer(HTTPStatus.FORBIDDEN, b"wrong key", "text/plain")
        elif parts[0] in ("pair", "image") and not self.takes_keyless():
            return self._answer(HTTPStatus.FORBIDDEN, b"pictures need the key; run `ndec annotate pull`", "text/plain")
        match parts:
            case ["pair", named, name] if name in SIDES or name in compare_views():
                pair_id, _, tag = named.partition(".")
                query, reference = (self.pairs.find(pair_id, side) for side in SIDES)
                if not query or not reference:
                    return self._not_found()
                if not self.pictures.are_shown(tag, query, reference):
                    body = placeholder(f"{name} of pair {pair_id}", REPLACED_SINCE)
                    return self._answer(HTTPStatus.OK, body, "image/png", missing=True)
                if name not in SIDES:
                    return self._compare(*query, *reference, name)
                shown = query if name == SIDES[0] else reference
                return self._picture(*shown, name=f"{name} of pair {pair_id}", is_tagged=bool(tag))
            case ["image", role, image_id] if role in ROLES:
                return self._picture(role, image_id)
            case ["guideline"]:
                return self._answer(HTTPStatus.OK, guideline.guideline_page(), "text/html; charset=utf-8")
            case ["examples", name] if (found := guideline.example_picture(name)) is not None:
                return self._answer(HTTPStatus.OK, found, "image/jpeg")
        return self._not_found()

    do_HEAD = do_GET

    def _not_found(self) -> None:
        self._answer(
            HTTPStatus.NOT_FOUND, b"pictures are at /pair/PAIR_ID/query and /image/ROLE/IMAGE_ID", "text/plain"
        )

    def _picture(self, role: str, image_id: str, name: str = "", *, is_tagged: bool = True) -> None:
        if self.command == "HEAD":  # answered without reading the picture
            known = self.pictures.is_known(role, image_id)
            return self._answer(HTTPStatus.OK if known else HTTPStatus.NOT_FOUND, None, "application/octet-stream")
        shown = self.pictures.show(role, image_id, name)
        if shown is None:
            return self._answer(HTTPStatus.NOT_FOUND, b"no such image in this workspace", "text/plain")
        # The address of a task of an older version stays the same when its picture is replaced: no browser may keep it.
        again = bool(shown.missing) or not is_tagged
        return self._answer(HTTPStatus.OK, shown.body, shown.media_type, missing=bool(shown.missing), again=again)

    def _compare(self, query_role: str, query_id: str, reference_role: str, reference_id: str, view: str) -> None:
        render, media_type = compare_views()[view]
        with self.aligning:
            query = self.pictures.open(query_role, query_id)
            reference = self.pictures.open(reference_role, reference_id)
            body = render(query, reference) if query and reference else None
        if body is None:
            return self._answer(
                HTTPStatus.NOT_FOUND, b"no such pair of readable images in this workspace", "text/plain"
            )
        return self._answer(HTTPStatus.OK, body, media_type)

    def _answer(
        self, status: HTTPStatus, body: bytes | None, media_type: str, *, missing: bool = False, again: bool = False
    ) -> None:
        self.connection.settimeout(_ANSWER_SECONDS)  # `sendall` counts it for all of its bytes
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        origin = self.headers.get("Origin", "")
        if self.origins is None or origin in self.origins:  # without this header Label Studio's page shows no picture
            self.send_header("Access-Control-Allow-Origin", "*" if self.origins is None else origin)
        self.send_header("Vary", "Origin")
        self.send_header("Access-Control-Expose-Headers", MISSING_HEADER)
        self.send_header("Cross-Origin-Resource-Policy", "cross-origin" if self.origins is None else "same-site")
        self.send_header("X-Content-Type-Options", "nosniff")
        if missing:  # the page accepts no label for a pair with a placeholder
            self.send_header(MISSING_HEADER, "1")
        self.send_header("Cache-Control", "no-store" if missing or again or status != HTTPStatus.OK else "max-age=3600")
        self.end_headers()
        if self.command != "HEAD" and body is not None:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: several lines for each pair would hide the messages in the terminal."""


class _Server(HTTPServer):
    """Answers from a fixed number of threads; further connections wait in the system's queue."""

    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._pool = ThreadPoolExecutor(_THREADS, "ndec-images")
        self._free = threading.Semaphore(_THREADS)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._free.acquire()
        self._pool.submit(self._process, request, client_address)

    def _process(self, request: socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:  # a browser that closed its connection; nothing of the server is broken
            self.handle_error(request, client_address)
        finally:
            self.shutdown_request(request)
            self._free.release()

    def server_close(self) -> None:
        super().server_close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def handle_error(self, request: object, client_address: object) -> None:
        """Print no traceback when a browser closes a connection early."""


class ImageServer:
    """Context manager that serves the workspace's pictures from a thread. Port 0 picks a free one; see `url`.

    At the start it checks again, in the background, which of the listed missing pictures can be read now.

    Every picture's address starts with a key that is part of `url` and of Label Studio's tasks. On loopback only web
    pages of the origins `label_studio` can read the pictures, and tasks of an older ndec are shown without the key
    until a push or pull has added it (picture_keys.py). The guideline needs no key.
    """

    def __init__(self, workspace: Workspace, port: int, host: str = HOST, label_studio: Collection[str] = ()) -> None:
        if port:
            check_port_is_free(port, "`--image-port NUMBER`", host)
        key = image_key(workspace.label_studio)
        self._pictures = Pictures(workspace)
        members = {
            "pictures": self._pictures,
            "pairs": AssignedPairs(workspace),
            "allowed": _LOOPBACK if is_loopback(host) else None,
            "key": key,
            "takes_keyless": staticmethod(lambda: is_loopback(host) and has_keyless(workspace)),
            "origins": frozenset(label_studio) if is_loopback(host) else None,
            "aligning": threading.Lock(),
        }
        self._server = _Server((host, port), type("Handler", (_Handler,), members))
        self.url = f"http://{public_host(host)}:{self._server.server_address[1]}/key/{key}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="ndec-images", daemon=True)

    def __enter__(self) -> ImageServer:
        self._thread.start()
        threading.Thread(target=self._pictures.check_again, name="ndec-missing", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
