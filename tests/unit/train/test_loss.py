"""The loss against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmace import Potential
from mmace.train import TrainingConfig, predict
from mmace.train.batches import join, prepare
from mmace.train.loss import batch_loss

from .conftest import isolated_atom, small_config


@pytest.fixture
def student() -> Potential:
    return Potential(small_config(seed=1))


def loss_of(model, data, **settings):
    return batch_loss(model, join(prepare(data, ["Fe", "Ni"], 3.5, torch.float64)), TrainingConfig(**settings))


def test_loss_is_the_weighted_mean_of_squares(student, make_data):
    data = make_data(3)
    data[1].forces = None
    data[2].weight = 0.5
    weights = {"energy": 2.0, "forces": 3.0, "stress": 5.0, "magnetic_forces": 7.0}
    expected = 0.0
    for c, p in zip(data, predict(student, data), strict=True):
        value = 2.0 / 3 * ((p.energy - c.energy) / 2) ** 2 + 5.0 / 3 * np.mean((p.stress - c.stress) ** 2)
        value += 7.0 / 6 * np.sum((p.magnetic_forces - c.magnetic_forces) ** 2) / 3
        value += 3.0 / 6 * np.sum((p.forces - c.forces) ** 2) / 3 if c.forces is not None else 0
        expected += c.weight * value
    assert loss_of(student, data, weights=weights).item() == pytest.approx(expected, rel=1e-10)


def test_loss_of_the_teacher_itself_is_zero(teacher, make_data):
    assert loss_of(teacher, make_data(3)).item() == pytest.approx(0, abs=1e-20)


def test_huber_is_squared_for_small_errors_and_straight_for_large_ones(student, make_data):
    data = make_data(1)
    only_energy = {"energy": 1, "forces": 0, "stress": 0, "magnetic_forces": 0}
    data[0].energy = predict(student, data)[0].energy - 2 * 3.0  # 3 eV per atom too low
    losses = [loss_of(student, data, weights=only_energy, huber_delta=delta).item() for delta in (None, 4.0, 1.0)]
    assert losses == pytest.approx([9.0, 9.0, 5.0])  # δ(2|e| − δ) = 1·(6 − 1)


def test_gradient_reaches_the_weights_through_every_label(student, make_data):
    for name in ("energy", "forces", "stress", "magnetic_forces"):
        weights = {label: float(label == name) for label in ("energy", "forces", "stress", "magnetic_forces")}
        student.zero_grad()
        loss_of(student, make_data(2), weights=weights).backward()
        assert sum(float(p.grad.abs().sum()) for p in student.parameters() if p.grad is not None) > 0, name


def test_structures_without_cell_or_labels_do_not_spoil_the_others(student, make_data):
    loss_of(student, [*make_data(2), isolated_atom(), isolated_atom(energy=None)]).backward()
    assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None)
