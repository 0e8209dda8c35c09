"""One Label Studio account per annotator, with the real server; labels under somebody else's account are reported."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.annotation import pull, push
from ndec_builder.annotation.label_studio import projects
from ndec_builder.annotation.label_studio.accounts import (
    _address,
    accounts_file,
    labels_of_others,
    make_accounts,
    read_accounts,
)
from ndec_builder.annotation.label_studio.connection import Connection
from ndec_builder.annotation.settings import PullConfig, PushConfig
from ndec_builder.core.schemas import LABEL_ROWS, table_of
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace

RESULT = [{"from_name": "verdict", "to_name": "query", "type": "choices", "value": {"choices": ["unrelated"]}}]
NOW = datetime(2026, 11, 29, tzinfo=UTC)
ACCOUNTS = {"ann": {"user": "ann@ndec.local", "password": "", "since": NOW.isoformat()}}


@pytest.fixture
def own(label_studio: Connection, monkeypatch: pytest.MonkeyPatch, make_candidates: Any) -> Workspace:
    """The workspace of the running server, as after `ndec annotate serve` and `mine`."""
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert label_studio.secrets is not None
    workspace = Workspace(label_studio.secrets.parent.parent)
    make_candidates(workspace, split="train", count=4)
    return workspace


def _log_in(url: str, account: dict[str, str]) -> requests.Session:
    browser = requests.Session()
    page = f"{url}/user/login/"
    browser.get(page).raise_for_status()
    form = {
        "email": account["user"],
        "password": account["password"],
        "csrfmiddlewaretoken": browser.cookies["csrftoken"],
    }
    answer = browser.post(page, form, headers={"Referer": page}, allow_redirects=False)
    assert answer.status_code == 302
    browser.headers.update({"X-CSRFToken": browser.cookies["csrftoken"], "Referer": page})
    return browser


@pytest.mark.server
def test_annotators_label_under_their_own_accounts_and_others_are_reported(
    own: Workspace, label_studio: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    config = PushConfig(own.root, split="train", annotators=("Zoe", "zed"), overlap=0.0)
    push.run(config)
    accounts, said = read_accounts(own.label_studio), capsys.readouterr().err
    assert stat.S_IMODE(accounts_file(own.label_studio).stat().st_mode) == 0o600
    assert all(accounts[name]["password"] in said for name in ("Zoe", "zed"))
    push.run(config)
    said = capsys.readouterr().err
    assert not any(accounts[name]["password"] in said for name in ("Zoe", "zed")) and "accounts.json" in said

    client = label_studio.client()
    number = projects.find_projects(client)[projects.project_key(own, "train", "first", "Zoe")].id
    tasks = list(client.tasks.list(project=number, fields="all"))
    for task, name in zip(tasks, ("Zoe", "zed"), strict=False):
        browser = _log_in(label_studio.url, accounts[name])
        given = {"result": RESULT, "lead_time": 2.0}
        browser.post(f"{label_studio.url}/api/tasks/{task.id}/annotations/", json=given).raise_for_status()
    labels = read_table(pull.run(PullConfig(own.root, split="train"))).to_pylist()
    assert {row["login"] for row in labels} == {"zoe@ndec.local", "zed@ndec.local"}
    assert {row["annotator"] for row in labels} == {"Zoe"}
    said = capsys.readouterr().err
    assert "project of Zoe: 1 label given under the account zed@ndec.local" in said
    pull.run(PullConfig(own.root, split="train"))
    assert "under the account" not in capsys.readouterr().err


@pytest.mark.server
def test_a_killed_sign_up_is_finished_with_the_stored_password(
    own: Workspace, label_studio: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr("ndec_builder.annotation.label_studio.accounts._sign_up", lambda *_: pytest.exit("killed"))
        with pytest.raises(BaseException, match="killed"):
            make_accounts(label_studio, ["gus"])
    stored = read_accounts(own.label_studio)["gus"]
    assert make_accounts(label_studio, ["gus"]) == {"gus": stored}
    _log_in(label_studio.url, stored)
    assert make_accounts(label_studio, ["gus"]) == {}


def test_no_accounts_on_a_server_of_somebody_else() -> None:
    assert make_accounts(Connection("http://nowhere", "t", ""), ["ann"]) == {}


@pytest.mark.parametrize(
    ("annotator", "login", "minutes", "reported"),
    [
        ("ann", "ann@ndec.local", 1, False),
        ("ann", "Ann@ndec.local", 1, False),
        ("ann", "ben@ndec.local", 1, True),
        ("ann", None, 1, True),
        ("ann", "ben@ndec.local", -1, False),  # before ann had an account
        ("cleo", "ben@ndec.local", 1, False),  # no account of her own
    ],
)
def test_which_labels_are_reported(annotator: str, login: str | None, minutes: int, reported: bool) -> None:
    row = {"annotator": annotator, "login": login, "annotated_at": NOW + timedelta(minutes=minutes)}
    found = labels_of_others(ACCOUNTS, [table_of(LABEL_ROWS, [row]), table_of(LABEL_ROWS, [row])])
    assert found == ({(annotator, login or "an unknown account"): 2} if reported else {})


@pytest.mark.slow
@given(st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", fullmatch=True), max_size=8, unique=True))
def test_every_annotator_gets_a_valid_address_of_their_own(names: list[str]) -> None:
    taken: set[str] = set()
    for name in names:
        address = _address(name, taken)
        stem, _, host = address.partition("@")
        assert address not in taken and address == address.lower() and host == "ndec.local"
        assert stem and all(part.isalnum() for part in stem.split("-"))
        taken.add(address)
