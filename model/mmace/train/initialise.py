"""What a new model takes from its training data before the first step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ase.data import chemical_symbols

from mmace.config import PotentialConfig
from mmace.potential import Potential
from mmace.train.batches import Batch
from mmace.train.config import TrainingConfig
from mmace.train.configuration import Configuration

logger = logging.getLogger("mmace")

ENERGY_ROUNDING = 1e-4  # eV per atom: float32 may round the total energy by this much without a word


def with_moment_range(config: PotentialConfig, configurations: Sequence[Configuration]) -> PotentialConfig:
    """Copy of ``config`` with m_max of every element that has none: 1.2 · max|m| + 0.1 μB in the data [A6]."""
    largest: dict[str, float] = {}
    for configuration in configurations:
        for number, length in zip(configuration.numbers, np.linalg.norm(configuration.magmoms, axis=1), strict=True):
            symbol = chemical_symbols[number]
            largest[symbol] = max(float(length), largest.get(symbol, 0.0))
    # rounded up to 0.01 μB, so that the numbers people read are the numbers in the checkpoint
    fitted = {symbol: float(np.ceil((1.2 * length + 0.1) * 100) / 100) for symbol, length in largest.items()}
    fitted = {symbol: value for symbol, value in fitted.items() if symbol in config.elements}
    return replace(config, m_max={**fitted, **config.m_max})


def fit_atomic_energies(configurations: Sequence[Configuration]) -> dict[str, float]:
    """E0 per element, eV, by least squares of E/N on the composition; the smallest solution where the compositions
    do not tell the elements apart. Configurations without energy are left out; without any, {} is returned."""
    known = [configuration for configuration in configurations if configuration.energy is not None]
    if not known:
        return {}
    numbers = sorted({int(number) for configuration in known for number in configuration.numbers})
    fractions = np.array([[np.mean(c.numbers == number) for number in numbers] for c in known])
    energies = np.array([c.energy / len(c) for c in known if c.energy is not None])
    solution = np.linalg.lstsq(fractions, energies, rcond=None)[0]
    return {chemical_symbols[number]: float(energy) for number, energy in zip(numbers, solution, strict=True)}


def force_scale(configurations: Sequence[Configuration]) -> float:
    """RMS of the force components, eV/Å; without forces the spread of the energies per atom, eV; at least 1e-3."""
    forces = [c.forces.ravel() for c in configurations if c.forces is not None]
    if forces and np.any(np.concatenate(forces)):
        return max(float(np.sqrt(np.mean(np.square(np.concatenate(forces))))), 1e-3)
    energies = [c.energy / len(c) for c in configurations if c.energy is not None]
    return max(float(np.std(energies)), 1e-3) if len(energies) > 1 else 1.0


def initialise(
    model: Potential, configurations: Sequence[Configuration], singles: Sequence[Batch], config: TrainingConfig
) -> None:
    """Sets E0, energy scale and average number of neighbours of a new model from its training data.

    Parameters: ``singles`` the batches of one structure each, of the same configurations.
    """
    model.set_atomic_energies(fit_atomic_energies(configurations))
    model.set_energy_scale(config.energy_scale or force_scale(configurations))
    edges = sum(float(single.graph.real.sum()) for single in singles)
    model.set_average_neighbors(max(edges / sum(len(c) for c in configurations), 1.0))
    warn_of_rounding(model, configurations)


def warn_of_rounding(model: Potential, configurations: Sequence[Configuration]) -> None:
    """Warns when float32 cannot hold the total energies to 0.1 meV per atom."""
    if model.config.dtype != "float32":
        return
    worst = max((abs(c.energy) / len(c) for c in configurations if c.energy is not None), default=0.0)
    if worst * np.finfo(np.float32).eps > ENERGY_ROUNDING:
        logger.warning(
            "energies of %.0f eV/atom are rounded by %.1f meV/atom in float32; use dtype float64",
            worst,
            1000 * worst * np.finfo(np.float32).eps,
        )
