"""`ndec annotate serve`: Label Studio and the image server until Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from ndec_builder.annotation.label_studio.accounts import accounts_file
from ndec_builder.annotation.label_studio.connection import (
    Connection,
    connect_label_studio,
    other_addresses,
    own_connection,
)
from ndec_builder.annotation.label_studio.ports import is_loopback, page_origins
from ndec_builder.annotation.label_studio.server import LabelStudioServer, running_state
from ndec_builder.annotation.settings import ServeConfig
from ndec_builder.annotation.web.image_server import ImageServer
from ndec_builder.core.console import ending_on_signals, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.memory import return_freed_memory, return_large_blocks, use_few_arenas
from ndec_builder.core.workspace import Workspace

_STOP_SECONDS = 40.0  # Label Studio gets 15 s to exit before it is killed
_TIDY_SECONDS = 10  # each thread that answers frees into an arena of its own, which grows while nobody returns it


@contextlib.contextmanager
def serving(config: ServeConfig) -> Iterator[Connection]:
    """Run both servers; yields the connection (url, user, secrets). Raises NdecError on a busy port or failed start."""
    with _both(config) as (_, connection):
        yield connection


@contextlib.contextmanager
def launching(config: ServeConfig) -> Iterator[Callable[[], Connection]]:
    """As `serving`, but it does not wait: the function that it yields waits, once, and returns the connection."""
    with _launched(config) as (server, images):
        yield lambda: _connected(config, server, images)


def run(config: ServeConfig) -> None:
    """Run in the foreground and print the addresses. Returns on Ctrl-C; raises NdecError if Label Studio exits."""
    use_few_arenas()
    return_large_blocks()  # decoded pictures
    if config.url:
        return _serve_images(config)
    say("starting Label Studio …")
    with _both(config) as (server, connection):
        with contextlib.suppress(KeyboardInterrupt):
            say(f"Label Studio: {connection.url}   user: {connection.user}   password: in {connection.secrets}")
            if (accounts := accounts_file(Workspace(config.workspace).label_studio)).is_file():
                say(f"annotators log in with their own accounts: {accounts}")
            _say_other_addresses(Workspace(config.workspace), connection.image_url)
            say(f"guideline for annotators: {connection.image_url.partition('/key/')[0]}/guideline")
            say("leave this running; in another terminal: `ndec annotate push`, later `pull`. Ctrl-C stops it.")
            _wait(server.check_alive)
        say("stopping …")
    return None


def stop(workspace: Workspace) -> bool:
    """Stop the servers that `serve` runs for this workspace in another terminal; False if none runs."""
    state = running_state(workspace.label_studio)
    if state is None:
        return False
    owned = (
        _parent(state["pid"]) == state["owner"]
    )  # else that `ndec` was killed, and its pid may belong to another process
    if owned:
        os.kill(state["owner"], signal.SIGTERM)
    else:
        os.killpg(state["pid"], signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while running_state(workspace.label_studio) is not None:
        if time.monotonic() > deadline:
            raise NdecError(f"process {state['pid']} did not exit within {_STOP_SECONDS:.0f} s; kill it by hand")
        time.sleep(0.1)
    return True


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return None


def _serve_images(config: ServeConfig) -> None:
    """Serve the images only, for a Label Studio that already runs elsewhere."""
    workspace = _existing_workspace(config)
    connection = connect_label_studio(workspace, config.url, config.token_file)
    _warn_when_open(config)
    with (
        ending_on_signals(),
        ImageServer(workspace, config.image_port, config.host, page_origins(connection.url)) as images,
    ):
        address = images.url.partition("/key/")[0]
        _say_other_addresses(workspace, images.url)
        say(f"Label Studio {connection.url} answers, user {connection.user}; images: {address}")
        say(
            f"push with LABEL_STUDIO_URL={connection.url} and `image_url = {address}`; to label with one key per "
            "pair, install ndec's middleware there (docs/annotation.md)"
        )
        with contextlib.suppress(KeyboardInterrupt):
            _wait(lambda: None)


def _say_other_addresses(workspace: Workspace, image_url: str) -> None:
    """Say that pairs which were sent before have their pictures at another address, where nothing may answer."""
    for address in other_addresses(workspace, image_url):
        say(
            f"pairs were sent to annotators with pictures at {address}, and this serves them at "
            f"{image_url.partition('/key/')[0]}: the page cannot show those pairs. Stop this, and start it with the "
            "earlier --image-port and --host"
        )


def _wait(check: Callable[[], None]) -> NoReturn:
    """Call `check` every second until it raises, or a signal does, and return freed memory to the system."""
    second = 0
    while True:
        check()
        time.sleep(1)
        second += 1
        if second % _TIDY_SECONDS == 0:
            return_freed_memory()


def _existing_workspace(config: ServeConfig) -> Workspace:
    workspace = Workspace(config.workspace)
    if not workspace.root.is_dir():
        raise NdecError(f"the workspace {workspace.root} does not exist; make it with `ndec init {workspace.root}`")
    return workspace


def _warn_when_open(config: ServeConfig) -> None:
    if not is_loopback(config.host):
        say(
            f"WARNING: other machines reach {config.host}, and Label Studio's password and the images' key are "
            "sent unencrypted; use this only in a network you trust"
        )


@contextlib.contextmanager
def _both(config: ServeConfig) -> Iterator[tuple[LabelStudioServer, Connection]]:
    with _launched(config) as (server, images):
        yield server, _connected(config, server, images)


def _connected(config: ServeConfig, server: LabelStudioServer, images: ImageServer) -> Connection:
    server.wait_until_up()
    return own_connection(Workspace(config.workspace), server.url, images.url)


@contextlib.contextmanager
def _launched(config: ServeConfig) -> Iterator[tuple[LabelStudioServer, ImageServer]]:
    workspace = _existing_workspace(config)
    _warn_when_open(config)
    with (
        ending_on_signals(),
        ImageServer(
            workspace, config.image_port, config.host, page_origins(f"http://{config.host}:{config.port}")
        ) as images,
    ):
        server = LabelStudioServer(
            workspace.label_studio,
            config.port,
            image_url=images.url,
            wait=config.start_seconds,
            host=config.host,
            database=config.database,
            without_backup=config.without_backup,
        )
        server.launch()
        try:
            yield server, images
        finally:
            server.stop()
