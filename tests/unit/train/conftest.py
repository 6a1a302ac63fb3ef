"""A small potential with random weights as teacher, and data that it has labelled: exactly consistent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms

from mmace import Potential, PotentialConfig
from mmace.train import Configuration, predict

SMALL = {"r_max": 3.5, "hidden": "4x0e", "l_pos": 2, "correlation": 2, "num_bessel": 5, "num_chebyshev": 4}


def small_config(**changes) -> PotentialConfig:
    """Settings of a potential that takes milliseconds."""
    return PotentialConfig(**{"elements": ["Fe", "Ni"], **SMALL, "radial_hidden": (16, 16), **changes})


def random_structures(count: int, seed: int = 0) -> list[Configuration]:
    """Unlabelled Fe–Ni cells of two atoms with random positions, cells and vector moments."""
    generator = np.random.default_rng(seed)
    structures = []
    for index in range(count):
        cell = 2.6 * np.eye(3) + generator.normal(scale=0.12, size=(3, 3))
        positions = np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]) @ cell + generator.normal(scale=0.1, size=(2, 3))
        moments = generator.normal(size=(2, 3)) * np.array([[1.2], [0.4]])
        structures.append(Configuration([26, 28], positions, cell, True, moments, name=f"random:{index}"))
    return structures


def labelled(model: Potential, structures: list[Configuration]) -> list[Configuration]:
    """The structures with all labels from ``model``."""
    for configuration, prediction in zip(structures, predict(model, structures), strict=True):
        configuration.energy, configuration.forces = prediction.energy, prediction.forces
        configuration.stress, configuration.magnetic_forces = prediction.stress, prediction.magnetic_forces
    return structures


def isolated_atom(energy: float | None = -3.0) -> Configuration:
    """One iron atom without a cell."""
    return Configuration([26], np.zeros((1, 3)), np.zeros((3, 3)), False, [[0, 0, 2.0]], energy=energy, name="atom")


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors are faster on one thread, and several test processes may share the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def teacher() -> Potential:
    """Random weights, with atomic energies and a scale that make numbers of the usual size."""
    model = Potential(small_config(seed=7))
    model.set_atomic_energies({"Fe": -8.0, "Ni": -5.0})
    return model


@pytest.fixture
def make_data(teacher: Potential) -> Callable[..., list[Configuration]]:
    """``make_data(count, seed)``: labelled configurations."""
    return lambda count, seed=0: labelled(teacher, random_structures(count, seed))


@pytest.fixture
def iron() -> Atoms:
    """bcc iron, two atoms, with labels under the project's keys."""
    atoms = Atoms("Fe2", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[2.87] * 3, pbc=True)
    atoms.arrays["REF_magmom"] = np.array([[0.0, 0.1, 2.2], [0.0, 0.0, 2.1]])
    atoms.arrays["REF_forces"] = np.array([[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])
    atoms.arrays["REF_magforces"] = np.full((2, 3), 0.01)
    atoms.info["REF_energy"] = -16.5
    atoms.info["REF_stress"] = np.array([1.0, 0.1, 0.2, 0.1, 2.0, 0.3, 0.2, 0.3, 3.0]) * 0.01
    return atoms
