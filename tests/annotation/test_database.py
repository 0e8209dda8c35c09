"""One address selects the database; its password is never shown."""

from __future__ import annotations

import pytest

from ndec_builder.annotation.label_studio.database import Database, read_database
from ndec_builder.annotation.settings import ServeConfig
from ndec_builder.core.errors import UsageError


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NDEC_DATABASE_URL", "NDEC_DATABASE_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


def test_no_address_means_sqlite() -> None:
    assert read_database("") is None


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgresql://me@db.example/bench", Database("me", "db.example", 5432, "bench")),
        ("postgres://m%40e@db:6000/b%20c", Database("m@e", "db", 6000, "b c")),
        ("postgresql://me@/bench?host=/run/postgresql", Database("me", "/run/postgresql", 5432, "bench")),
    ],
)
def test_an_address_is_parsed(address: str, expected: Database) -> None:
    assert read_database(address) == expected
    assert read_database(address).variables()["POSTGRE_HOST"] == expected.host  # type: ignore[union-attr]


def test_sources_of_the_password_which_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = read_database("postgresql://me@db/bench", "kept")
    assert kept is not None and kept.password == "kept"
    monkeypatch.setenv("NDEC_DATABASE_URL", "postgresql://me:in%2Furl@db/bench")
    found = read_database("", "kept")
    assert found is not None and found.password == "in/url"
    assert "in/url" not in repr(found) + found.shown and found.variables()["POSTGRE_PASSWORD"] == "in/url"
    monkeypatch.setenv("NDEC_DATABASE_PASSWORD", "variable")
    assert read_database("postgresql://me@db/bench", "kept").password == "variable"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("postgresql://me:hidden-pw@db/bench", "holds a password"),
        ("mysql://me@db/bench", "scheme 'mysql'; expected postgresql://USER@HOST:PORT/NAME"),
        ("postgresql://me@db", "expected postgresql"),
        ("postgresql://db/bench", "expected postgresql"),
        ("postgresql://me@db:x/bench", "port"),
    ],
)
def test_invalid_addresses(address: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_database(address)
    assert "hidden-pw" not in str(caught.value)


def test_the_setting_has_no_default() -> None:
    assert ServeConfig.__dataclass_fields__["database"].default == ""
