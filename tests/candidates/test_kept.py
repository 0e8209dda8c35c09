from __future__ import annotations

import pytest

from ndec_builder.candidates.kept_queries import kept_queries
from ndec_builder.core.schemas import CANDIDATES, DECISIONS, pair_id, table_of

# query → {reference: decision}; "duplicate" marks the candidate, "absent" has no row among the decisions
CASES = {
    "one hard negative": ({"r1": "hard_negative"}, ["r1"]),
    "two, and an unrelated one": ({"r2": "hard_negative", "r1": "hard_negative", "r3": "unrelated"}, ["r1", "r2"]),
    "a copy of another reference": ({"r1": "hard_negative", "r2": "edited_copy"}, "edited_copy"),
    "a copy": ({"r1": "edited_copy"}, "edited_copy"),
    "unsure": ({"r1": "hard_negative", "r2": "unsure"}, "unsure"),
    "undecided": ({"r1": "hard_negative", "r2": None}, "undecided"),
    "never shown": ({"r1": "hard_negative", "r2": "absent"}, "undecided"),
    "unrelated only": ({"r1": "unrelated"}, "no_hard_negative"),
    "duplicate elsewhere": ({"r1": "hard_negative", "r2": "duplicate"}, "duplicate"),
    "copy before unsure": ({"r1": "unsure", "r2": "edited_copy"}, "edited_copy"),
}


@pytest.mark.parametrize("name", CASES)
def test_rule(name):
    pairs, want = CASES[name]
    candidates = [
        {
            "pair_id": pair_id("test", "q", reference),
            "query_id": "q",
            "reference_id": reference,
            "duplicate_of": reference if label == "duplicate" else None,
        }
        for reference, label in pairs.items()
    ]
    decisions = [
        {"pair_id": pair_id("test", "q", reference), "decision": label}
        for reference, label in pairs.items()
        if label not in ("absent", "duplicate")
    ]
    result = kept_queries(table_of(CANDIDATES, candidates), table_of(DECISIONS, decisions))
    if isinstance(want, list):
        assert result.kept == {"q": want} and not result.dropped
    else:
        assert result.dropped == {"q": want} and not result.kept


def test_empty_tables():
    result = kept_queries(CANDIDATES.empty_table(), DECISIONS.empty_table())
    assert not result.kept and not result.dropped
