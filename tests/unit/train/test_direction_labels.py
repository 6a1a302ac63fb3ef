"""Energies of directions as labels: the loss, what a training learns from them, and a model of two parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.spatial.transform import Rotation

from mmace import MagneticCalculator, Potential, PotentialConfig, build_graph, load, model_hash
from mmace.anisotropy import direction_energies
from mmace.errors import UserError
from mmace.spins.relax import relax_moments
from mmace.train import Configuration, TrainingConfig, evaluate_configurations, train
from mmace.train.batches import join, prepare, training_batches
from mmace.train.directions import turned_energies
from mmace.train.loss import batch_loss
from mmace.train.run import NOTHING_WRITTEN
from mmace.unified import with_anisotropy

SMALL = {"hidden": "4x0e", "r_max": 3.2, "l_pos": 2, "num_bessel": 4, "num_chebyshev": 3, "m_max": {"Fe": 4, "Pt": 2}}


def soc(seed: int = 0, **settings) -> PotentialConfig:
    return PotentialConfig(elements=["Fe", "Pt"], l_mag=2, seed=seed, **{**SMALL, **settings})


def exchange(seed: int = 0) -> Potential:
    model = Potential(PotentialConfig(elements=["Fe", "Pt"], symmetry="nonsoc", seed=seed, **SMALL))
    model.set_atomic_energies({"Fe": -8.0, "Pt": -6.0})
    return model


def crystal(seed: int) -> Atoms:
    generator = np.random.default_rng(seed)
    cell = np.diag([2.7, 2.8, 3.7]) + generator.normal(scale=0.1, size=(3, 3))
    atoms = Atoms("FePt", cell=cell, scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], pbc=True)
    atoms.set_initial_magnetic_moments(np.outer([2.5 + 0.3 * generator.normal(), 0.4], [0, 0, 1]))
    return atoms


def vectors(seed: int, count: int) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, 3))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def parents(teacher: Potential, count: int, directions: int = 12, scale: float = 1.0) -> list[Configuration]:
    made = []
    for seed in range(count):
        atoms, turned = crystal(seed), vectors(seed, directions)
        energies = scale * direction_energies(teacher, atoms, turned)
        made.append(replace(Configuration.from_atoms(atoms), directions=turned, anisotropy=energies + seed))
    return made


def batch_of(model: Potential, data: list[Configuration]):
    return join(list(prepare(data, model.config.elements, model.config.r_max, model.config.torch_dtype)))


def test_turned_energies_are_those_of_the_scan():
    model = Potential(soc())
    data = parents(model, 3)
    plain = Configuration.from_atoms(crystal(9))  # without directions, in the middle of the batch
    batch = batch_of(model, [data[0], plain, *data[1:]])
    found = turned_energies(model, batch.graph, batch.directions).detach()
    for number, configuration in zip((0, 2, 3), data, strict=True):
        own = found[batch.directions.structure == number].numpy()
        wanted = configuration.anisotropy
        np.testing.assert_allclose(own - own.mean(), wanted - wanted.mean(), atol=1e-10)
    assert batch.directions.counts.tolist() == [12, 0, 12, 12]


def test_the_teacher_has_no_loss_and_its_random_turns_neither():
    model = Potential(soc())
    config = TrainingConfig(rotate_jointly=True, isotropic_weight=0.0, directions_per_step=5)
    data = parents(model, 4)
    for batch in training_batches(
        prepare(data, model.config.elements, model.config.r_max, torch.float64), config, epoch=0
    ):
        assert batch.directions.counts.tolist() == [5] * len(batch.graph.num_atoms)
        assert float(batch_loss(model, batch, config).detach()) < 1e-16


def test_loss_is_relative_and_blind_to_a_constant():
    model, other = Potential(soc(0)), Potential(soc(1))
    config = TrainingConfig(isotropic_weight=0.0)
    data = parents(model, 2)
    loss = float(batch_loss(other, batch_of(other, data), config))
    shifted = [replace(c, anisotropy=c.anisotropy - 100.0) for c in data]
    assert float(batch_loss(other, batch_of(other, shifted), config)) == pytest.approx(loss)
    flat = [replace(c, anisotropy=0.0 * c.anisotropy) for c in data]
    # nothing predicted of anisotropies that are there: every relative error is 1
    silent = Potential(soc(0))
    silent.set_energy_scale(0.0)
    assert float(batch_loss(silent, batch_of(silent, data), config)) == pytest.approx(1.0)
    assert float(batch_loss(silent, batch_of(silent, flat), config)) == 0.0


def test_a_model_of_anisotropy_alone_learns_from_directions(tmp_path):
    data = parents(Potential(soc(1)), 12, scale=1e-3)
    config = TrainingConfig(epochs=60, learning_rate=0.02, num_threads=1, directions_per_step=6)
    result = train(soc(2), config, data[:9], data[9:], tmp_path)
    assert not result.model.knows_energies
    first, best = result.history[0], min(result.history, key=lambda event: event["valid_loss"])
    assert best["anisotropy_rmse"] < 0.5 * first["anisotropy_rmse"]
    assert first["energy_rmse"] is None
    errors = evaluate_configurations(result.model, data[9:])["all"]
    assert errors["anisotropy_rmse"] == pytest.approx(best["anisotropy_rmse"], rel=1e-6)


def test_stopped_and_continued_ends_with_the_same_weights(tmp_path):
    data = parents(Potential(soc(1)), 6, scale=1e-3)
    config = TrainingConfig(epochs=4, num_threads=1, directions_per_step=4, batch_size=2, checkpoint_every=1)
    whole = train(soc(2), config, data[:4], data[4:], tmp_path / "whole")

    def stop(event):
        if event["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        train(soc(2), config, data[:4], data[4:], tmp_path / "parts", progress=stop)
    assert str(stopped.value) != NOTHING_WRITTEN
    parts = train(soc(2), config, data[:4], data[4:], tmp_path / "parts")
    assert parts.continued and model_hash(parts.model) == model_hash(whole.model)


def test_exchange_contributes_nothing_to_rigid_rotations():
    model = with_anisotropy(exchange(), soc(3))
    part = model.anisotropy
    part.set_energy_scale(1e-3)
    atoms, turned = crystal(0), vectors(1, 7)
    whole, alone = direction_energies(model, atoms, turned), direction_energies(part, atoms, turned)
    np.testing.assert_allclose(np.ptp(whole - alone), 0.0, atol=1e-12)
    atoms.set_initial_magnetic_moments(np.outer([2.5, 0.4], turned[0]))
    graph = build_graph(atoms, ["Fe", "Pt"], 3.2)
    found = direction_energies(model, atoms, turned[:1])
    assert float(model.node_energies(graph).sum()) == pytest.approx(found[0], abs=1e-10)
    graph = build_graph(atoms, ["Fe", "Pt"], 3.2)
    stay = torch.eye(3, dtype=torch.float64)[None]
    for seed in range(3):
        turn = torch.tensor(Rotation.random(random_state=seed).as_matrix())[None]
        rotated = graph.rotated(stay, turn)
        change = model.node_energies(rotated).sum() - model.node_energies(graph).sum()
        of_part = part.node_energies(rotated).sum() - part.node_energies(graph).sum()
        assert abs(float(of_part)) > 1e-9
        assert float(change - of_part) == pytest.approx(0.0, abs=1e-12)
        assert float(model.node_energies(graph.rotated(stay, -stay)).sum()) == pytest.approx(
            float(model.node_energies(graph).sum()), abs=1e-12
        )
        joint = graph.rotated(turn, turn)
        assert float(model.node_energies(joint).sum()) == pytest.approx(float(model.node_energies(graph).sum()))


def test_a_unified_model_is_a_potential_like_any_other(tmp_path):
    first = exchange()
    model = with_anisotropy(first, {"l_mag": 2, "hidden": "4x0e", "l_pos": 2, "num_bessel": 4, "num_chebyshev": 3})
    atoms = crystal(0)
    before, silent = (MagneticCalculator(one) for one in (first, model))
    assert silent.get_potential_energy(atoms) == pytest.approx(before.get_potential_energy(atoms))  # silent as yet
    data = [
        replace(c, energy=None) for c in parents(Potential(soc(1)), 8, scale=1e-3)
    ]  # turn two: anisotropy on top of exchange that stays
    config = TrainingConfig(epochs=3, num_threads=1, trainable="anisotropy")
    result = train(None, config, data[:6], data[6:], tmp_path, model)
    again = load(result.checkpoint)
    assert model_hash(again) == model_hash(result.model) and again.knows_energies
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    calculator = MagneticCalculator(again)
    assert np.ptp(direction_energies(again, atoms, vectors(0, 5))) > 0
    forces = calculator.get_forces(atoms)
    moved = atoms.copy()
    energies = []
    for step in (1e-4, -1e-4):
        moved.positions[0, 0] = atoms.positions[0, 0] + step
        energies.append(calculator.get_potential_energy(moved))
    assert forces[0, 0] == pytest.approx(-(energies[0] - energies[1]) / 2e-4, abs=1e-6)
    assert relax_moments(again, atoms, mode="collinear")[0].evaluations > 1
    # turn three: energies alone train exchange alone
    labelled = [replace(Configuration.from_atoms(crystal(seed)), energy=-14.0) for seed in range(4)]
    tuned = train(None, TrainingConfig(epochs=1, num_threads=1), labelled, labelled, tmp_path / "more", again)
    for name, value in again.anisotropy.state_dict().items():
        assert torch.equal(tuned.model.anisotropy.state_dict()[name], value)


def test_energies_and_anisotropy_are_learnt_at_once(tmp_path):
    """eV of exchange and meV of anisotropy, on the same crystals, by one training of a model of both parts."""
    teacher = with_anisotropy(exchange(1), soc(3))
    teacher.anisotropy.set_energy_scale(1e-3)
    data = []
    for seed, one in enumerate(parents(teacher, 12)):
        atoms = crystal(seed)
        data.append(replace(one, energy=MagneticCalculator(teacher).get_potential_energy(atoms)))
    parts = {"l_mag": 2, "hidden": "4x0e", "l_pos": 2, "num_bessel": 4, "num_chebyshev": 3}
    pupil = PotentialConfig(elements=["Fe", "Pt"], symmetry="nonsoc", seed=5, anisotropy=parts, **SMALL)
    config = TrainingConfig(epochs=60, learning_rate=0.02, num_threads=1, directions_per_step=6)
    result = train(pupil, config, data[:9], data[9:], tmp_path)
    first, best = result.history[0], min(result.history, key=lambda event: event["valid_loss"])
    assert best["energy_rmse"] < 0.5 * first["energy_rmse"] and first["energy_rmse"] > 1e-3
    assert best["anisotropy_rmse"] < 0.5 * first["anisotropy_rmse"] < 1e-3


def test_what_cannot_be_trained_is_said(tmp_path):
    data = parents(Potential(soc(1)), 2)
    with pytest.raises(UserError, match="which mean nothing to symmetry = nonsoc"):
        train(exchange().config, TrainingConfig(epochs=1), data, data, tmp_path)
    with pytest.raises(UserError, match="no anisotropy part"):
        train(soc(), TrainingConfig(epochs=1, trainable="anisotropy"), data, data, tmp_path)
    crooked = replace(data[0], magmoms=np.array([[0, 0, 2.0], [0.4, 0, 0]]))
    with pytest.raises(UserError, match="not collinear"):
        train(soc(), TrainingConfig(epochs=1), [crooked], data, tmp_path)
    with pytest.raises(UserError, match="two directions or more"):
        replace(data[0], anisotropy=None)
    with pytest.raises(UserError, match="not unit vectors"):
        replace(data[0], directions=2.0 * data[0].directions)
    with pytest.raises(UserError, match="not nonsoc to nonsoc"):
        PotentialConfig(elements=["Fe"], symmetry="nonsoc", anisotropy={"symmetry": "nonsoc"})
    with pytest.raises(UserError, match="train energies with symmetry nonsoc first"):
        with_anisotropy(Potential(soc()), {"l_mag": 2})
    with pytest.raises(UserError, match="did you mean 'l_mag'"):
        PotentialConfig(elements=["Fe"], symmetry="nonsoc", anisotropy={"l_mga": 3})
