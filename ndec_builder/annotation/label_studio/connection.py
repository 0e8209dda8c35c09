"""Connects to Label Studio: the workspace's own server, or one that the user names by address and token."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import requests

from ndec_builder.annotation.label_studio.credentials import closed_text, keyed_url, secrets_file, write_private_json
from ndec_builder.annotation.label_studio.environment import LABEL_STUDIO_VERSION
from ndec_builder.annotation.label_studio.server import running_state
from ndec_builder.annotation.settings import DEFAULT_IMAGE_PORT
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.lazy import no_collections
from ndec_builder.core.storage import read_json
from ndec_builder.core.workspace import Workspace

TIMEOUT_SECONDS = 600  # the SDK's own 60 s is too short for a large import
NO_RETRY: Any = {"max_retries": 0}  # the SDK repeats a POST on connection errors, which would create duplicate tasks


@dataclass(frozen=True)
class Connection:
    """A Label Studio that answered, and a token that it accepts. The token never appears in a repr, log or run.json."""

    url: str
    token: str = field(repr=False)
    image_url: str = field(repr=False)  # with the key of the pictures
    user: str = ""  # the owner of the token
    secrets: Path | None = None  # the file with the password, if this is the workspace's own server
    default_pictures: bool = False  # the address of the pictures is that of `serve`, or the default one
    renamed: set[int] = field(default_factory=set, repr=False, compare=False)  # projects that were reported as renamed

    def client(self) -> Any:
        """The SDK's client (untyped here: the SDK declares most answers optional or as unions)."""
        return _client(self.url, self.token, os.getpid())


@functools.lru_cache(maxsize=4)
def _client(url: str, token: str, process: int) -> Any:
    """One client per server and process: each keeps a socket open that the SDK cannot close."""
    return _client_class()(base_url=url, api_key=token, timeout=TIMEOUT_SECONDS)


@dataclass(frozen=True, slots=True)
class ListedTask:
    """A task as Label Studio lists it. Parts that were not requested are empty."""

    id: int
    data: dict[str, Any]
    annotations: list[dict[str, Any]]
    total_annotations: int


@functools.cache
@no_collections()
def _client_class() -> Any:
    """The SDK's client with less memory.

    Its own projects import pandas and faker, which take 47 MiB and .4 s. Its records of tasks take 35 kB each and most
    of the time of a pull.
    """
    from label_studio_sdk._extensions.pager_ext import SyncPagerExt
    from label_studio_sdk.base_client import LabelStudioBase
    from label_studio_sdk.core.api_error import ApiError
    from label_studio_sdk.projects.client import ProjectsClient
    from label_studio_sdk.tasks.client import TasksClient

    class Projects(ProjectsClient):
        def list(self, **flags: Any) -> Any:
            return SyncPagerExt.from_sync_pager(super().list(**flags))  # ends at a page that does not exist

    class Tasks(TasksClient):
        def list(self, **flags: Any) -> Iterator[ListedTask]:  # type: ignore[override]
            """Tasks page by page. `flags`: names and values of the API's query. Raises ApiError."""
            for page in itertools.count(1):
                request = self._client_wrapper.httpx_client.request
                answer = request("api/tasks/", method="GET", params={"fields": "all", **flags, "page": page})
                if answer.status_code == 404 and page > 1:
                    return
                try:
                    found = answer.json()
                except ValueError:
                    found = answer.text
                if not answer.is_success or not isinstance(found, dict) or "tasks" not in found:
                    raise ApiError(status_code=answer.status_code, headers=dict(answer.headers), body=found)
                if not found["tasks"]:
                    return
                yield from map(_listed, found.pop("tasks"))

    class Client(LabelStudioBase):
        @property
        def tasks(self) -> Any:
            return Tasks(client_wrapper=self._client_wrapper)

        @property
        def projects(self) -> Any:
            return Projects(client_wrapper=self._client_wrapper)

    return Client


def _listed(task: dict[str, Any]) -> ListedTask:
    return ListedTask(
        task["id"], task.get("data") or {}, task.get("annotations") or [], task.get("total_annotations") or 0
    )


def connect_label_studio(
    workspace: Workspace, url: str = "", token_file: str = "", image_url: str | None = None
) -> Connection:
    """Find the server (setting > running `ndec annotate serve` > $LABEL_STUDIO_URL), check it and return it.

    image_url: address of the pictures, "" for the default one; None if the command sends no tasks, and so needs no key
    of the pictures. Raises NdecError if no server answers, it refuses the token or has a different major version, or if
    the key cannot be read; UsageError if there is no token.
    """
    state = None if url else running_state(workspace.label_studio)
    if state is not None:
        found = own_connection(workspace, str(state["url"]), image_url or str(state["image_url"]))
        return replace(found, default_pictures=not image_url)
    url = (url or os.environ.get("LABEL_STUDIO_URL", "")).rstrip("/")
    closed = closed_text(workspace.label_studio)
    if not url and closed:
        raise NdecError(
            f"{closed}; ask for an address and an access token of the server, and name them with LABEL_STUDIO_URL and "
            "LABEL_STUDIO_API_KEY"
        )
    if not url:
        raise NdecError(
            f"no Label Studio runs for this workspace; start `ndec annotate serve --workspace {workspace.root}` in "
            "another terminal and leave it running, or name yours with LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY"
        )
    images = image_url or f"http://127.0.0.1:{DEFAULT_IMAGE_PORT}"
    if image_url is not None or not closed:
        images = keyed_url(images, workspace.label_studio)
    return verify(Connection(url, _named_token(token_file, url), images, default_pictures=not image_url))


def own_connection(workspace: Workspace, url: str, image_url: str) -> Connection:
    """Connection to the server that runs on the workspace's own data directory."""
    path = secrets_file(workspace.label_studio)
    if not path.is_file():
        raise NdecError(
            f"{path} with the running server's token was deleted; restore it, or stop and "
            "start `ndec annotate serve` again"
        )
    secret = read_json(path)
    images = keyed_url(image_url, workspace.label_studio)
    return verify(Connection(url, secret["token"], images, secret["user"], path))


def _named_token(token_file: str, url: str) -> str:
    if token_file:
        path = Path(token_file).expanduser()
        if not path.is_file():
            raise UsageError(f"the token file {path} does not exist; write the access token of {url} into it")
        token = path.read_text("utf-8").strip()
    else:
        token = os.environ.get("LABEL_STUDIO_API_KEY", "").strip()
    if not token:
        raise UsageError(
            f"no access token for {url}; put it in LABEL_STUDIO_API_KEY or in a file named by `token_file` "
            "(in Label Studio: Account & Settings → Access Token)"
        )
    return token


def verify(connection: Connection) -> Connection:
    """Ask the server for its version and the token's owner; returns the connection with `user` filled in."""
    url = connection.url
    try:
        version = requests.get(f"{url}/api/version", timeout=60).json()["release"]
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        raise NdecError(
            f"no Label Studio answers at {url} ({type(error).__name__}); start it, or correct the address "
            "(`url` in ndec.toml, or LABEL_STUDIO_URL)"
        ) from None
    if str(version).split(".")[0] != LABEL_STUDIO_VERSION.split(".")[0]:
        raise NdecError(
            f"{url} runs Label Studio {version}; ndec needs version {LABEL_STUDIO_VERSION.split('.')[0]} "
            f"(tested with {LABEL_STUDIO_VERSION}): use such a server, or `ndec annotate serve`"
        )
    with explain_errors(connection, "asking for the owner of the token"):
        user = connection.client().users.whoami()
    return replace(connection, user=user.email or "")


def _addresses_file(workspace: Workspace) -> Path:
    return workspace.label_studio / "picture-addresses.json"


def remember_pictures(workspace: Workspace, image_url: str) -> None:
    """Keep the address that tasks were sent with: they have no pictures if `serve` runs at a different one."""
    path, address = _addresses_file(workspace), image_url.partition("/key/")[0]
    if closed_text(workspace.label_studio):
        return
    known = read_json(path) if path.is_file() else []
    if address not in known:
        write_private_json(path, [*known, address])


def other_addresses(workspace: Workspace, image_url: str) -> list[str]:
    """Addresses of pictures in tasks that were sent while `serve` ran at a different one."""
    path = _addresses_file(workspace)
    known = read_json(path) if path.is_file() else []
    return [address for address in known if address != image_url.partition("/key/")[0]]


@contextlib.contextmanager
def explain_errors(connection: Connection, doing: str) -> Iterator[None]:
    """Turn the SDK's exceptions into one clear NdecError. The request is not shown: its headers hold the token."""
    import httpx
    from label_studio_sdk.core.api_error import ApiError

    again = "nothing is lost: fix that and run the same command again"
    try:
        yield
    except ApiError as error:
        if error.status_code in (401, 403):
            raise NdecError(
                f"Label Studio at {connection.url} refuses the access token (HTTP {error.status_code}); put "
                "the token of a user of that server (Account & Settings → Access Token) into LABEL_STUDIO_API_KEY or "
                "the file named by `token_file`"
            ) from None
        detail = error.body.get("detail", "") if isinstance(error.body, dict) else ""
        raise NdecError(
            f"Label Studio at {connection.url} answered HTTP {error.status_code} {detail} while {doing}; {again}"
        ) from None
    except httpx.HTTPError as error:
        raise NdecError(
            f"Label Studio at {connection.url} stopped answering ({type(error).__name__}) while {doing}; {again}"
        ) from None
