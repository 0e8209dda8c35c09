"""One Label Studio account per annotator, so that a label tells who gave it."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pyarrow as pa
import requests

from ndec_builder.annotation.label_studio.connection import Connection, explain_errors
from ndec_builder.annotation.label_studio.credentials import write_private_json
from ndec_builder.annotation.label_tables import keys
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import locked
from ndec_builder.core.storage import read_json

_Row = Mapping[str, Any]
Accounts = dict[str, dict[str, str]]  # annotator → user (an email address), password, since


def accounts_file(data: Path) -> Path:
    return data / "accounts.json"


def read_accounts(data: Path) -> Accounts:
    """Accounts that ndec made on the workspace's own server; empty before the first."""
    path = accounts_file(data)
    found: Accounts = read_json(path) if path.is_file() else {}
    return found


def make_accounts(connection: Connection, annotators: Sequence[str]) -> Accounts:
    """Make the accounts that these annotators lack on the workspace's own server; returns the new ones.

    Passwords are stored (mode 0600) before the server has them, so a killed call loses none, and the next one finishes.
    On a server that somebody else runs, accounts are up to its administrator: nothing is made.
    """
    if connection.secrets is None:
        return {}
    data, made = connection.secrets.parent, {}
    with locked(accounts_file(data), wait=True):
        accounts = read_accounts(data)
        with explain_errors(connection, "listing the users"):
            users = {str(user.email or "").lower() for user in connection.client().users.list()}
        for name in annotators:
            if name not in accounts:
                taken = users | {account["user"] for account in accounts.values()}
                now = datetime.now(UTC).isoformat(timespec="seconds")
                accounts[name] = {"user": _address(name, taken), "password": secrets.token_urlsafe(9), "since": now}
                write_private_json(accounts_file(data), accounts)
            if accounts[name]["user"] not in users:
                _sign_up(connection, accounts[name])
                made[name] = accounts[name]
    return made


def labels_of_others(accounts: Accounts, labels: Iterable[pa.Table]) -> Counter[tuple[str, str]]:
    """(annotator, login) → labels (schema LABEL_ROWS) in an annotator's project that were given under another account.

    Only labels that were given after the annotator got an account. `labels`: a table in parts.
    """
    found: Counter[tuple[str, str]] = Counter()
    if not accounts:
        return found
    rows = (row for part in labels for row in keys(part, "annotator", "login", "annotated_at"))
    for annotator, login, annotated_at in rows:
        account = accounts.get(annotator)
        if account is None or annotated_at < datetime.fromisoformat(account["since"]):
            continue
        if (login or "").lower() != account["user"]:
            found[annotator, login or "an unknown account"] += 1
    return found


def log_in(url: str, account: Mapping[str, str]) -> requests.Session:
    """A browser session of an annotator. Raises NdecError when Label Studio refuses the password."""
    page = f"{url}/user/login/"
    browser = requests.Session()
    try:
        answer = _submit(browser, page, account)
        browser.headers.update({"X-CSRFToken": browser.cookies["csrftoken"], "Referer": page})
    except (requests.RequestException, KeyError) as error:
        raise NdecError(f"Label Studio at {url} cannot be logged in to ({type(error).__name__})") from None
    if answer.status_code != 302:
        raise NdecError(f"Label Studio at {url} refuses the password of {account['user']}; it was changed there")
    return browser


def _submit(browser: requests.Session, page: str, account: Mapping[str, str]) -> requests.Response:
    """Send the login or sign-up form of `page`. Raises RequestException, and KeyError without a form cookie."""
    browser.get(page, timeout=60).raise_for_status()
    form = {
        "email": account["user"],
        "password": account["password"],
        "csrfmiddlewaretoken": browser.cookies["csrftoken"],
    }
    return browser.post(page, form, headers={"Referer": page}, timeout=60, allow_redirects=False)


def _address(annotator: str, taken: set[str]) -> str:
    """A login for an annotator; Label Studio expects the form of an email address and ignores case."""
    stem = "-".join(part for part in annotator.lower().replace("_", "-").replace(".", "-").split("-") if part)
    number, found = 1, f"{stem}@ndec.local"
    while found in taken:
        number, found = number + 1, f"{stem}-{number + 1}@ndec.local"
    return found


def _sign_up(connection: Connection, account: Mapping[str, str]) -> None:
    """Make an account through the invite link, as a person would: accounts made by the API cannot log in."""
    try:
        headers = {"Authorization": f"Token {connection.token}"}
        invite = requests.get(f"{connection.url}/api/invite", headers=headers, timeout=60)
        invite.raise_for_status()
        link = urlsplit(str(invite.json()["invite_url"]))
        page = urljoin(connection.url, f"{link.path}?{link.query}")
        with requests.Session() as browser:
            answer = _submit(browser, page, account)
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        raise NdecError(
            f"Label Studio at {connection.url} made no account for {account['user']} ({type(error).__name__}); run the "
            'same command again, or use one account for all with `accounts = "shared"` in [annotate.push]'
        ) from None
    if answer.status_code != 302:
        raise NdecError(
            f"Label Studio at {connection.url} refused the account {account['user']} (HTTP {answer.status_code}); use "
            'one account for all with `accounts = "shared"` in [annotate.push]'
        )
