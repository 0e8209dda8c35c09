"""Addresses of pictures: their key, and hosts that are only this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndec_builder.annotation.label_studio.credentials import image_key, keyed_url
from ndec_builder.annotation.label_studio.ports import is_loopback


@pytest.mark.parametrize(("url", "expected"), [("", ""), ("http://i/key/k", "http://i/key/k"), ("http://i/", None)])
def test_addresses_get_the_key_once(tmp_path: Path, url: str, expected: str | None) -> None:
    found = keyed_url(url, tmp_path)
    assert found == (f"http://i/key/{image_key(tmp_path)}" if expected is None else expected)


def test_loopback_addresses() -> None:
    assert is_loopback("127.0.0.1") and is_loopback("::1")
    assert not is_loopback("0.0.0.0") and not is_loopback("10.0.0.1")
