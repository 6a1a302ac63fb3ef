"""What a new model takes from its training data before the first step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmace.config import PotentialConfig
from mmace.graph import Graph
from mmace.potential import Potential
from mmace.train.atomic_energies import set_atomic_energies
from mmace.train.batches import Batch, ShardSingles, average_neighbors
from mmace.train.config import TrainingConfig
from mmace.train.configuration import Configuration
from mmace.train.directions import DirectionLabels, anisotropy_scale
from mmace.train.gathered import has_energies, largest_energy, largest_moments
from mmace.train.one_body import set_one_body, without_one_body

logger = logging.getLogger("mmace")

SCALE_SAMPLE = 128  # structures that the energy scale is taken from
NO_FORCE = 1e-6  # eV/Å: smaller forces vanish by symmetry
ENERGY_ROUNDING = 1e-4  # eV per atom: float32 may round the total energy by this much without a word


def with_moment_range(config: PotentialConfig, configurations: Sequence[Configuration]) -> PotentialConfig:
    """Copy of ``config`` with m_max of every element that has none: 1.2 · max|m| + 0.1 μB in the data [A6]."""
    largest = largest_moments(configurations)
    # rounded up to 0.01 μB, so that the numbers people read are the numbers in the checkpoint
    fitted = {symbol: float(np.ceil((1.2 * length + 0.1) * 100) / 100) for symbol, length in largest.items()}
    fitted = {symbol: value for symbol, value in fitted.items() if symbol in config.elements}
    return replace(config, m_max={**fitted, **config.m_max})


def interaction_scale(model: Potential, configurations: Sequence[Configuration], singles: Sequence[Batch]) -> float:
    """Energy scale, eV, at which the forces of the new ``model`` are as large as the labels.

    The RMS forces of label and model are compared structure by structure, and the median of the ratios is taken: the
    forces of random weights differ by factors of ten between seeds, and strongly compressed structures by more.
    Without forces in the data the spreads of the energies per atom are compared.
    """
    chosen = np.unique(np.linspace(0, len(singles) - 1, min(len(singles), SCALE_SAMPLE)).round().astype(int))
    model.set_energy_scale(1.0)
    ratios, labels, energies = [], [], []
    for index in chosen:
        configuration = configurations[index]
        output = model(singles[index].graph, stress=False, magnetic_forces=False)
        own, label = _rms(output["forces"].double().numpy()), _rms(configuration.forces)
        if own > NO_FORCE and label > NO_FORCE:
            ratios.append(label / own)
        if configuration.energy is not None:
            labels.append(configuration.energy / len(configuration))
            energies.append(float(output["energy"]) / len(configuration))
    if ratios:
        return float(np.median(ratios))
    if len(energies) > 1 and np.std(energies) > 0 and np.std(labels) > 0:
        return float(np.std(labels) / np.std(energies))
    return 1.0


def _rms(values: np.ndarray | None) -> float:
    return 0.0 if values is None else float(np.sqrt(np.mean(np.square(values))))


def initialise(
    model: Potential, configurations: Sequence[Configuration], singles: Sequence[Batch], config: TrainingConfig
) -> None:
    """Sets E0, energy scale and average number of neighbours of a new model from its training data.

    Parameters: ``singles`` the batches of one structure each, of the same configurations.
    """
    model.set_average_neighbors(max(average_neighbors(singles), 1.0))
    part = model.anisotropy
    if part is not None:
        initialise_anisotropy(part, singles)
    own = None
    if part is None and not has_energies(configurations):
        own = anisotropy_scale(model, *_with_directions(singles))
    model.set_energy_scale(config.energy_scale or own or interaction_scale(model, configurations, singles))
    if config.one_body is not None:
        set_one_body(model, config.one_body)
    left = without_one_body(model, configurations)
    set_atomic_energies(model, config.atomic_energies or "least_squares", left)
    warn_of_rounding(model, configurations)


def initialise_anisotropy(part: Potential, singles: Sequence[Batch]) -> None:
    """Sets the energy scale of a new anisotropy part; without energies of directions to learn from it is silent."""
    part.set_energy_scale(anisotropy_scale(part, *_with_directions(singles)) or 0.0)


def _with_directions(singles: Sequence[Batch]) -> tuple[list[DirectionLabels], list[Graph]]:
    """Labels and graphs of some of the structures that have energies of directions."""
    if isinstance(singles, ShardSingles):
        return [], []
    known = [(single.directions, single.graph) for single in singles if single.directions is not None]
    return [labels for labels, _ in known[:SCALE_SAMPLE]], [graph for _, graph in known[:SCALE_SAMPLE]]


def warn_of_rounding(model: Potential, configurations: Sequence[Configuration]) -> None:
    """Warns when float32 cannot hold the total energies to 0.1 meV per atom."""
    if model.config.dtype != "float32":
        return
    worst = largest_energy(configurations)
    if worst * np.finfo(np.float32).eps > ENERGY_ROUNDING:
        logger.warning(
            "energies of %.0f eV/atom are rounded by %.1f meV/atom in float32; use dtype float64",
            worst,
            1000 * worst * np.finfo(np.float32).eps,
        )
