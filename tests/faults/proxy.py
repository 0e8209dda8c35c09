"""A TCP proxy on loopback that is slow or cuts connections, to put between ndec and Label Studio."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType


class Proxy:
    """`with Proxy(host, port, …) as proxy: proxy.url`. One thread a direction, ended with the connection.

    delay: seconds before each piece of an answer · cut_after: bytes of requests in all after which every connection is
    reset (-1: never) · silent: accepts and never answers.
    """

    def __init__(self, host: str, port: int, *, delay: float = 0.0, cut_after: int = -1, silent: bool = False) -> None:
        self.target, self.delay, self.left, self.silent = (host, port), delay, cut_after, silent
        self._cuts = cut_after >= 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        for held in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)
            held.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            if self.silent:
                continue
            try:
                server = socket.create_connection(self.target)
            except OSError:
                client.close()
                continue
            self._open.append(server)
            threading.Thread(target=self._carry, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._carry, args=(server, client, False), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, request: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if request and self._cuts:
                    self.left -= len(data)
                    if self.left < 0:
                        break
                if not request:
                    time.sleep(self.delay)
                target.sendall(data)
        for held in (source, target):
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)
