"""What a server says about waiting and sizes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from ndec_builder.manifests.polite_http import _number, retry_after

pytestmark = pytest.mark.slow


def test_retry_after() -> None:
    assert retry_after("17") == 17.0 and retry_after(None) is None and retry_after("soon") is None
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (retry_after(moment) or 0) <= 60
    assert retry_after(format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)) == 0.0
    for odd in ("²", "9" * 5000, "Wed, 21 Oct 20262026 07:28:00 GMT"):
        assert retry_after(odd) is None


@pytest.mark.parametrize("length", ["²", "9" * 5000, "-1", ""])
def test_a_content_length_that_is_no_number_is_not_looked_at(length: str) -> None:
    assert _number(length) is None
