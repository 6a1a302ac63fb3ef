"""Batches: order, masks, and labels that turn with the inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmace import Potential
from mmace.train import TrainingConfig
from mmace.train.batches import join, prepare, random_rotations, training_batches

from .conftest import isolated_atom, labelled, random_structures, small_config


def singles_of(data):
    return prepare(data, ["Fe", "Ni"], 3.5, torch.float64)


def rotations(count, seed):
    return torch.tensor(random_rotations(np.random.default_rng(seed), count))


def test_random_rotations_are_proper_and_uniform():
    turns = random_rotations(np.random.default_rng(0), 4000)
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turns.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turns), 1.0)
    assert np.abs(turns.mean(axis=0)).max() < 0.05  # uniform: every matrix element averages to zero …
    np.testing.assert_allclose((turns**2).mean(axis=0), 1 / 3, atol=0.03)  # … and its square to one third


@pytest.mark.parametrize(("symmetry", "apart"), [("soc", False), ("nonsoc", False), ("nonsoc", True)])
def test_turned_labels_are_the_labels_of_the_turned_structure(symmetry, apart):
    model = Potential(small_config(symmetry=symmetry, seed=3))
    batch = join(singles_of(labelled(model, random_structures(3))))
    joint = rotations(3, 1)
    turned = batch.rotated(joint, rotations(3, 2) if apart else joint)
    output = model(turned.graph)
    for name, label in turned.labels.items():
        torch.testing.assert_close(output[name], label, rtol=1e-8, atol=1e-8)
    assert (turned.labels["magnetic_forces"] - batch.labels["magnetic_forces"]).abs().max() > 1e-3


def test_unknown_labels_have_no_weight(make_data):
    data = make_data(2)
    data[1].energy, data[1].stress = None, None
    data[0].weight = 2.5
    batch = join([*singles_of(data), *singles_of([isolated_atom()])])
    assert batch.weights["energy"].tolist() == [2.5, 0, 1]
    assert batch.weights["stress"].tolist() == [2.5, 0, 0]
    assert batch.weights["magnetic_forces"].tolist() == [2.5, 1, 0]
    assert batch.labels["forces"].shape == (5, 3)
    assert torch.isfinite(batch.graph.volume).all()


def test_every_configuration_once_per_epoch_in_an_order_of_its_own(make_data):
    data = make_data(7)
    singles, config = singles_of(data), TrainingConfig(batch_size=3, seed=5)
    energies = [c.energy for c in data]
    orders = [
        [energy for batch in training_batches(singles, config, epoch) for energy in batch.labels["energy"].tolist()]
        for epoch in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == sorted(energies)


def test_an_epoch_taken_up_in_the_middle_is_the_rest_of_it(make_data):
    singles = singles_of(make_data(7))
    config = TrainingConfig(batch_size=2, rotate_jointly=True, rotate_moments=True)
    whole = list(training_batches(singles, config, 3))
    rest = list(training_batches(singles, config, 3, start=2))
    assert len(whole) == 4
    for expected, batch in zip(whole[2:], rest, strict=True):
        assert torch.equal(expected.graph.positions, batch.graph.positions)
        assert torch.equal(expected.graph.magmoms, batch.graph.magmoms)
        assert torch.equal(expected.labels["forces"], batch.labels["forces"])


@pytest.mark.parametrize(("jointly", "moments"), [(True, False), (False, True), (True, True)])
def test_augmentation_turns_what_it_says(make_data, jointly, moments):
    singles = singles_of(make_data(2))
    plain = next(training_batches(singles, TrainingConfig(batch_size=2), 0))
    config = TrainingConfig(batch_size=2, rotate_jointly=jointly, rotate_moments=moments)
    turned = next(training_batches(singles, config, 0))
    assert torch.equal(plain.graph.positions, turned.graph.positions) is not jointly
    # the angle between a moment and the lattice changes only when the moments turn apart
    before, after = (
        torch.einsum("na,na->n", batch.graph.cell[batch.graph.structure][:, 0], batch.graph.magmoms)
        for batch in (plain, turned)
    )
    assert torch.allclose(before, after) is not moments
    torch.testing.assert_close(plain.graph.magmoms.norm(dim=1), turned.graph.magmoms.norm(dim=1))
