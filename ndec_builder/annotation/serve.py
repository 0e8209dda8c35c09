"""`ndec annotate serve`: Label Studio and the image server until Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from ndec_builder.annotation.connection import Connection, own_connection
from ndec_builder.annotation.image_server import ImageServer
from ndec_builder.annotation.server import LabelStudioServer
from ndec_builder.annotation.settings import ServeConfig
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.workspace import Workspace


@contextlib.contextmanager
def serving(config: ServeConfig) -> Iterator[Connection]:
    """Run both servers; yields the connection (url, user, secrets). Raises NdecError on a busy port or failed start."""
    with _both(config) as (_, connection):
        yield connection


def run(config: ServeConfig) -> None:
    """Run in the foreground and say where to go. Returns on Ctrl-C; raises NdecError when Label Studio dies."""
    say("starting Label Studio; the first start takes about half a minute …")
    with _both(config) as (server, connection):
        with contextlib.suppress(KeyboardInterrupt):
            say(f"Label Studio: {connection.url}   user: {connection.user}   password: in {connection.secrets}")
            say("leave this running; in another terminal: `ndec annotate push`, later `pull`. Ctrl-C stops it.")
            while True:
                server.check_alive()
                time.sleep(1)
        say("stopping …")


@contextlib.contextmanager
def _both(config: ServeConfig) -> Iterator[tuple[LabelStudioServer, Connection]]:
    workspace = Workspace(config.workspace)
    if not workspace.root.is_dir():
        raise NdecError(f"the workspace {workspace.root} does not exist; make it with `ndec init {workspace.root}`")
    with (
        _ending_on_signals(),
        ImageServer(workspace, config.image_port) as images,
        LabelStudioServer(
            workspace.label_studio, config.port, image_url=images.url, wait=config.start_seconds
        ) as server,
    ):
        yield server, own_connection(workspace, server.url, images.url)


@contextlib.contextmanager
def _ending_on_signals() -> Iterator[None]:
    """A closed terminal or a `kill` ends Label Studio too, as Ctrl-C does; signals reach the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
