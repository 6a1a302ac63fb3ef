"""E0 of the free atoms: by least squares, from isolated atoms, or as given; for every head apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from vesin import NeighborList

from mmace.errors import UserError, unknown_key_message
from mmace.potential import Potential
from mmace.train.configuration import Configuration
from mmace.train.gathered import elements_of
from mmace.train.heads import by_head
from mmace.train.shards import ShardedConfigurations

AtomicEnergies = dict[str, float]  # element → eV

CHUNK = 64  # configurations that are predicted together


def fit_atomic_energies(configurations: Sequence[Configuration]) -> AtomicEnergies:
    """E0 per element, eV, by least squares of E/N on the composition; the smallest solution where the compositions
    do not tell the elements apart. Configurations without energy are left out; without any, {} is returned."""
    fit = EnergyFit()
    if isinstance(configurations, ShardedConfigurations):
        for counts, energies in configurations.compositions():
            for row in np.flatnonzero(np.isfinite(energies)):
                fit.add(counts[row], float(energies[row]))
    else:
        for configuration in configurations:
            if configuration.energy is not None:
                fit.add(composition(configuration), configuration.energy)
    return fit.result()


def composition(configuration: Configuration) -> np.ndarray:
    """Atoms of each atomic number 0 … 118, [119]."""
    return np.bincount(configuration.numbers, minlength=len(chemical_symbols)).astype(float)


class EnergyFit:
    """Least squares of E/N on the composition, one configuration at a time: of many only a triangle is kept."""

    KEPT = 4096  # equations before they are put together to a triangle

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []  # fractions of each atomic number, and E/N in eV: [120]

    def add(self, counts: np.ndarray, energy: float) -> None:
        """Takes in a configuration with ``counts`` [119] atoms of each atomic number and ``energy`` eV."""
        self.rows.append(np.append(counts, energy) / counts.sum())
        if len(self.rows) > self.KEPT:
            self.rows = list(np.linalg.qr(np.array(self.rows), mode="r"))

    def result(self) -> AtomicEnergies:
        """The smallest solution, eV per element; {} without configurations."""
        if not self.rows:
            return {}
        equations = np.array(self.rows)
        numbers = np.flatnonzero(np.any(equations[:, :-1] != 0, axis=0))
        solution = np.linalg.lstsq(equations[:, numbers], equations[:, -1], rcond=None)[0]
        return {chemical_symbols[number]: float(energy) for number, energy in zip(numbers, solution, strict=True)}


def isolated_atom_energies(configurations: Sequence[Configuration], r_max: float) -> AtomicEnergies:
    """E0 per element, eV: the lowest energy among the configurations of one atom without neighbours within ``r_max`` Å,
    be it in vacuum or alone in a large cell. Elements without such a configuration are not in the answer."""
    energies: AtomicEnergies = {}
    if isinstance(configurations, ShardedConfigurations):
        configurations = configurations.subset(np.flatnonzero(configurations.atoms == 1))
    for configuration in configurations:
        if len(configuration) != 1 or configuration.energy is None or not _is_isolated(configuration, r_max):
            continue
        symbol = chemical_symbols[int(configuration.numbers[0])]
        energies[symbol] = min(configuration.energy, energies.get(symbol, math.inf))
    return energies


def _is_isolated(configuration: Configuration, r_max: float) -> bool:
    if not configuration.pbc.any():
        return True
    (distances,) = NeighborList(cutoff=r_max, full_list=False).compute(
        points=configuration.positions, box=configuration.cell, periodic=configuration.pbc.tolist(), quantities="d"
    )
    return len(distances) == 0


def set_atomic_energies(
    model: Potential, source: str | dict[str, Any], configurations: Sequence[Configuration]
) -> None:
    """Sets E0 of every head of ``model`` as ``source``, `TrainingConfig.atomic_energies`, says.

    Least squares: an element that a head's energies do not show gets the E0 of the first head.
    Raises `UserError` for elements of the data that isolated atoms or the mapping leave out, unknown names and values
    that are no numbers.
    """
    heads = model.config.heads
    if source == "shift":
        shift_atomic_energies(model, configurations, heads)
        return
    parts = by_head(configurations, heads)
    given = _given(source, heads) if isinstance(source, dict) else {}
    for head in heads:
        if source == "least_squares":
            energies = {**_of_first_head(model, head), **fit_atomic_energies(parts[head])}
        elif source == "isolated_atoms":
            energies = isolated_atom_energies(parts[head], model.config.r_max)
            _require_all(energies, parts[head], _no_atom_mend(head, heads))
        else:
            energies = given.get(head, {})
            _require_all(energies, parts[head], "atomic_energies has no value for it; add one, in eV")
        model.set_atomic_energies(energies, head)


def shift_atomic_energies(model: Potential, configurations: Sequence[Configuration], heads: Sequence[str]) -> None:
    """Adds to E0 of ``heads``, by least squares, what the energies of ``model`` lack: right for energies of another
    origin, since forces, and what the model knows of differences, stay as they are."""
    from mmace.train.evaluate import predict

    parts = by_head(configurations, model.config.heads)
    for head in heads:
        missing = EnergyFit()
        for start in range(0, len(parts[head]), CHUNK):
            known = [c for c in parts[head][start : start + CHUNK] if c.energy is not None]
            for configuration, prediction in zip(known, predict(model, known), strict=True):
                missing.add(composition(configuration), float(configuration.energy or 0.0) - prediction.energy)
        row = model.atomic_energies[model.config.heads.index(head)]
        before = dict(zip(model.config.elements, row.tolist(), strict=True))
        shifts = missing.result()
        model.set_atomic_energies({element: before[element] + shift for element, shift in shifts.items()}, head)


def _of_first_head(model: Potential, head: str) -> AtomicEnergies:
    """What a head starts from before its own energies are looked at."""
    if head == model.config.heads[0]:
        return {}
    return dict(zip(model.config.elements, model.atomic_energies[0].tolist(), strict=True))


def _given(source: dict[str, Any], heads: Sequence[str]) -> dict[str, AtomicEnergies]:
    """The mapping of the settings as head → element → eV; one without heads holds for all of them."""
    nested = {key: value for key, value in source.items() if isinstance(value, dict)}
    if not nested:
        return {head: _numbers(source) for head in heads}
    for key in source:
        if key not in heads:
            raise UserError(unknown_key_message(str(key), heads, "training: atomic_energies"))
    return {head: _numbers(value) for head, value in source.items()}


def _numbers(mapping: Any) -> AtomicEnergies:
    if not isinstance(mapping, dict):
        raise UserError(f"training: atomic_energies: {mapping!r} is no mapping; give element: energy in eV")
    for element, value in mapping.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if element not in chemical_symbols[1:] or not number:
            raise UserError(f"training: atomic_energies: {element}: {value!r}; give a chemical symbol and its eV")
    return {element: float(value) for element, value in mapping.items()}


def _require_all(energies: AtomicEnergies, configurations: Sequence[Configuration], mend: str) -> None:
    if energies.keys() >= set(elements_of(configurations)):
        return
    for configuration in configurations:
        for number in np.unique(configuration.numbers):
            if chemical_symbols[number] not in energies:
                raise UserError(f"{configuration.name}: no E0 of {chemical_symbols[number]}: {mend}")


def _no_atom_mend(head: str, heads: Sequence[str]) -> str:
    of_head = f" of head {head}" if len(heads) > 1 else ""
    return (
        f"no configuration{of_head} is that atom alone, without neighbours and with an energy; "
        f"add one, or set atomic_energies to least_squares"
    )
