"""Which addresses are public, and how a host is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndec_builder.core.access.hosts import AllowedHost, is_public, parse_allowed
from ndec_builder.core.errors import UsageError
from ndec_builder.sources.settings import IngestConfig


@pytest.mark.parametrize(
    ("address", "public"),
    {
        "93.184.216.34": True, "2606:4700::1111": True, "::ffff:93.184.216.34": True, "127.0.0.1": False, "::1": False,
        "10.1.2.3": False, "172.16.0.1": False, "192.168.1.1": False, "169.254.169.254": False, "fe80::1%eth0": False,
        "fd00:ec2::254": False, "100.64.0.1": False, "0.0.0.0": False, "224.0.0.1": False, "::ffff:127.0.0.1": False,
        "64:ff9b::7f00:1": False, "2002:7f00:1::": False, "240.0.0.1": False, "host": False,
    }.items(),
)  # fmt: skip
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    "text", ["example.org", "https://", "https://a/b", "https://me@a", "ftp://a", "https://a:x", ""]
)
def test_an_entry_of_allow_that_is_no_host(text: str) -> None:
    with pytest.raises(UsageError, match="expected a scheme and a host"):
        IngestConfig(Path(), "pool", "s", allow=(text,))


def test_an_allowed_host_is_its_scheme_host_and_port() -> None:
    entry = parse_allowed("https://*.example.org")
    assert entry == AllowedHost("https", "*.example.org", None)
    matching = ["https://a.example.org/x", "https://a.example.org:443/x"]
    others = ["http://a.example.org/x", "https://example.org/x", "https://a.example.org:8443/x", "https://b.org/x"]
    assert [entry.covers(uri) for uri in matching + others] == [True] * 2 + [False] * 4
