"""Several looks at the slice that checks auto-clearing share the error of one test."""

from __future__ import annotations

import numpy as np
import pytest

from ndec_builder.annotation.decisions.clearing import (
    look_number,
)
from ndec_builder.annotation.decisions.label_statistics import clearing_threshold, look_confidence


def test_enlarging_the_slice_until_it_passes_seldom_claims_too_much() -> None:
    """SIMULATED: the share of no copies is the allowed one exactly, so every claim is false. 5 % are allowed."""
    rng, false, sizes = np.random.default_rng(2), 0, range(140, 640, 40)
    for _ in range(150):
        scores, copies = rng.random(640), rng.random(640) >= 0.03
        looks = [look_number(0.03 / 0.9, sizes[: number + 1]) for number in range(len(sizes))]
        false += any(
            clearing_threshold(scores[:size], copies[:size], 0.03, look)
            for size, look in zip(sizes, looks, strict=True)
        )
    assert false <= 7


@pytest.mark.parametrize(
    ("sizes", "look"),
    [((), 1), ((270,), 1), ((100, 270), 1), ((270, 330), 2), ((270, 280, 290), 3), ((139, 160, 270), 2)],
)
def test_a_size_that_could_have_proven_it_is_a_look(sizes: tuple[int, ...], look: int) -> None:
    """3 % from clean pairs: 139 at the first look, 190 at the second."""
    assert look_number(0.03, sizes) == look


def test_all_looks_together_use_the_error_of_one_test() -> None:
    errors = [1 - look_confidence(0.95, look) for look in range(1, 60)]
    assert min(errors) > 0
    assert sum(errors) == pytest.approx(0.05) and errors[0] == pytest.approx(0.0375)
