"""Sampled CosFace: the whole loss when everything is drawn, rows that were not drawn stay, and it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ndec_builder.training.class_table import DECAY, SampledCosFace
from ndec_builder.training.losses import CosFaceLoss


def filled(classes: int, sample: int, dim: int = 6) -> SampledCosFace:
    table = SampledCosFace(dim, classes, sample, seed=0, scale=16.0)
    table.weight.copy_(torch.randn(classes, dim, generator=torch.Generator().manual_seed(1)))
    return table


def test_is_cosface_over_the_drawn_classes() -> None:
    table, labels = filled(50, 12), torch.tensor([3, 3, 17, 49])
    features = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    for step in range(20):
        table.draw(labels, step)
        drawn = table.classes.tolist()
        assert {3, 17, 49} <= set(drawn) and len(drawn) <= 12 and drawn == sorted(set(drawn))
        whole = CosFaceLoss(6, len(drawn), 16.0)
        with torch.no_grad():
            whole.weight.copy_(table.weight[table.classes])
        places = torch.tensor([drawn.index(label) for label in labels.tolist()])
        loss, expected = table(features, labels), whole(features, places)
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
        loss.backward()
        expected.backward()
        assert torch.allclose(table.rows.grad, whole.weight.grad, atol=1e-6)  # type: ignore[arg-type]


def test_draws_follow_from_seed_and_step_and_change() -> None:
    labels = torch.tensor([0])
    one, other = filled(1000, 20), filled(1000, 20)
    one.draw(labels, 5)
    other.draw(labels, 4)
    assert one.classes.tolist() != other.classes.tolist()
    other.draw(labels, 5)
    assert one.classes.tolist() == other.classes.tolist()


def test_an_update_is_the_formula_and_leaves_other_rows_alone() -> None:
    table, labels = filled(40, 6), torch.tensor([7])
    before, square, steps = table.weight.clone(), np.zeros(40), np.zeros(40)
    expected = before.numpy().astype(np.float64)
    rng = np.random.default_rng(0)
    for step in range(6):
        table.draw(labels, step)
        gradient = rng.normal(size=(len(table.classes), 6)).astype(np.float32)
        for row, values in zip(table.classes.tolist(), gradient.astype(np.float64), strict=True):
            steps[row] += 1
            square[row] = DECAY * square[row] + (1 - DECAY) * (values**2).mean()
            expected[row] -= 0.1 * values / (np.sqrt(square[row] / (1 - DECAY ** steps[row])) + 1e-8)
        table.update(torch.from_numpy(gradient), 0.1)
    assert table.weight.numpy() == pytest.approx(expected, abs=1e-4)
    assert torch.equal(table.weight[steps == 0], before[steps == 0]) and 0 < (steps == 0).sum() < 39


def test_it_learns_to_tell_the_classes_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(60, 16, generator=generator)
    table = SampledCosFace(16, 60, 20, seed=0, scale=16.0)
    table.weight.copy_(torch.randn(60, 16, generator=generator))
    for step in range(300):
        labels = torch.randint(0, 60, (16,), generator=generator)
        table.draw(labels, step)
        table(centres[labels] + 0.1 * torch.randn(16, 16, generator=generator), labels).backward()
        table.update(table.rows.grad, 0.05)  # type: ignore[arg-type]
    nearest = torch.nn.functional.normalize(centres) @ torch.nn.functional.normalize(table.weight).T
    assert (nearest.argmax(dim=1) == torch.arange(60)).float().mean() > 0.95
