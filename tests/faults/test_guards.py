"""Every check that guards.py breaks is where it says, so the script can run."""

from __future__ import annotations

import pytest

from faults.guards import GUARDS, ROOT, Guard


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_is_there_once(guard: Guard) -> None:
    assert (ROOT / guard.path).read_text("utf-8").count(guard.intact) == 1
    file, _, test = guard.test.partition("::")
    assert not test or f"def {test}(" in (ROOT / file).read_text("utf-8")
