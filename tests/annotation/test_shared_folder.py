"""A workspace that two users share: the folder with passwords belongs to one of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ndec_builder.annotation.label_studio.connection import connect_label_studio
from ndec_builder.annotation.label_studio.credentials import image_key
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import disk_error
from ndec_builder.core.workspace import Workspace
from support.fake_label_studio import TOKEN, FakeLabelStudio

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a second user")


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Workspace, FakeLabelStudio]]:
    """A workspace whose pictures' key belongs to root, and a server that both users know."""
    workspace = Workspace(tmp_path / "bench")
    image_key(workspace.label_studio)
    with FakeLabelStudio() as server:
        monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
        for folder in (workspace.root, *list(workspace.root.parents)[:3]):
            if folder.name.startswith(("pytest", "bench", "test_")):
                folder.chmod(0o755)
        connect_label_studio(workspace)  # imports its client: Python itself may be in a folder of root
        yield workspace, server


def as_nobody(work: Callable[[], object]) -> str:
    """What the call says to a user without rights: its error, or its result."""
    os.seteuid(65534)
    try:
        return str(work())
    except NdecError as error:
        return str(error)
    finally:
        os.seteuid(0)


def test_a_second_user_can_pull_from_a_named_server(shared: tuple[Workspace, FakeLabelStudio]) -> None:
    workspace, server = shared
    assert as_nobody(lambda: connect_label_studio(workspace).url) == server.url


def test_a_second_user_needs_the_key_of_the_pictures_to_push(shared: tuple[Workspace, FakeLabelStudio]) -> None:
    workspace, _ = shared
    said = as_nobody(lambda: connect_label_studio(workspace, image_url=""))
    assert f"{workspace.label_studio}, with passwords and keys of Label Studio, belongs to user root" in said
    assert "set it as image_url" in said
    given = "http://127.0.0.1:8701/key/k"
    assert as_nobody(lambda: connect_label_studio(workspace, image_url=given).image_url) == given


def test_a_second_user_without_an_address_is_told_whom_to_ask(
    shared: tuple[Workspace, FakeLabelStudio], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LABEL_STUDIO_URL")
    said = as_nobody(lambda: connect_label_studio(shared[0]))
    assert "belongs to user root; ask for an address and an access token" in said


def test_a_file_of_another_user_is_named_with_its_owner(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(PermissionError) as refused:
        os.seteuid(65534)
        try:
            (tmp_path / "x").read_text()
        finally:
            os.seteuid(0)
    text = str(disk_error(refused.value))
    assert f"{tmp_path / 'x'} cannot be opened (Permission denied)" in text and "belongs to user root" in text
