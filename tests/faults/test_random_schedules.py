"""Two random schedules of two users on two hosts; the script runs 200."""

from __future__ import annotations

import pytest

from faults.random_schedules import run_schedules, unavailable


@pytest.mark.slow
def test_two_schedules_lose_nothing() -> None:
    """One with locks that reach the other host, one without."""
    if reason := unavailable():
        pytest.skip(reason)
    result = run_schedules([2, 3], 10)
    assert result.wrong == []
    assert result.counts["schedules"] == 2 and result.counts["answers"] > 0
