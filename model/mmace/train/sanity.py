"""Numbers that a file can hold but nobody can mean: atoms on top of each other, moments and forces beyond nature."""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols

from mmace.errors import UserError
from mmace.fields import ENERGY, FORCES, MAGMOMS, MAGNETIC_FORCES, STRESS
from mmace.train.configuration import Configuration

SHORTEST_DISTANCE = 0.1  # Å
SEARCH_RADIUS = 1.0  # Å; pairs are sorted into boxes of this size, and smaller boxes only take longer
LARGEST_TABLE = 400  # atoms up to which all pairs are looked at one by one
LARGEST_MOMENT = 20.0  # μB; the largest of any atom are near 10
LARGEST_FORCE = 1e3  # eV/Å
LARGEST_MAGNETIC_FORCE = 1e3  # eV/μB
LARGEST_STRESS = 100.0  # eV/Å³, 16 TPa; GPa or kBar taken for eV/Å³ are mostly beyond
LARGEST_ENERGY = 1e6  # eV per atom; the all-electron energy of the heaviest atoms


def check_sanity(configuration: Configuration) -> None:
    """Raises `UserError` naming configuration and atoms (counted from 0) for values beyond the limits above."""
    _check_lengths(configuration, MAGMOMS.name, configuration.magmoms, LARGEST_MOMENT, "μB")
    if configuration.forces is not None:
        _check_lengths(configuration, FORCES.name, configuration.forces, LARGEST_FORCE, "eV/Å")
    if configuration.magnetic_forces is not None:
        limit = LARGEST_MAGNETIC_FORCE
        _check_lengths(configuration, MAGNETIC_FORCES.name, configuration.magnetic_forces, limit, "eV/μB")
    if configuration.stress is not None:
        _check_number(configuration, STRESS.name, float(np.abs(configuration.stress).max()), LARGEST_STRESS, "eV/Å³")
    if configuration.energy is not None:
        per_atom = abs(configuration.energy) / len(configuration)
        _check_number(configuration, ENERGY.name, per_atom, LARGEST_ENERGY, "eV per atom")
    _check_distances(configuration)


def _check_lengths(configuration: Configuration, field: str, vectors: np.ndarray, limit: float, unit: str) -> None:
    lengths = np.linalg.norm(vectors, axis=1)
    atom = int(np.argmax(lengths))
    if lengths[atom] > limit:
        raise UserError(
            f"{configuration.name}: {field} of {_named(configuration, atom)} is {lengths[atom]:.4g} {unit}, more than "
            f"{limit:g} {unit}; check units and columns, or remove this configuration"
        )


def _check_number(configuration: Configuration, field: str, size: float, limit: float, unit: str) -> None:
    if size > limit:
        raise UserError(
            f"{configuration.name}: {field} is {size:.4g} {unit} in size, more than {limit:g} {unit}; check its unit, "
            f"or remove this configuration"
        )


def _check_distances(configuration: Configuration) -> None:
    if np.linalg.matrix_rank(configuration.cell[configuration.pbc]) < configuration.pbc.sum():
        raise UserError(
            f"{configuration.name}: the cell is periodic but its vectors span no volume; correct the Lattice or the pbc"
        )
    found = _closest(configuration)
    if found is None or found[3] >= SHORTEST_DISTANCE:
        return
    one, other, shift, distance = found
    first, second = sorted((one, other))
    through = " through the cell's boundary" if np.any(shift) else ""
    raise UserError(
        f"{configuration.name}: {_named(configuration, first)} and {_named(configuration, second)} are "
        f"{distance:.3f} Å apart{through}, less than {SHORTEST_DISTANCE} Å; correct positions or "
        f"cell, or remove this configuration"
    )


def _closest(configuration: Configuration) -> tuple[int, int, np.ndarray, float] | None:
    """The pair of atoms that are closest, if any are closer than `SHORTEST_DISTANCE`: atoms, cells between, Å."""
    vectors = configuration.cell[configuration.pbc]
    inverse = np.linalg.pinv(vectors)  # [3, periodic]
    flat = np.linalg.norm(inverse, axis=0).max(initial=0.0) > 1.0 / (2 * SHORTEST_DISTANCE)
    if flat or len(configuration) > LARGEST_TABLE:
        return _closest_neighbour(configuration)
    one, other = np.triu_indices(len(configuration), k=1)
    apart = configuration.positions[other] - configuration.positions[one]
    # in a cell higher than twice the distance looked for, a pair that close is close in the nearest image
    shifts = np.round(apart @ inverse)
    distances = np.linalg.norm(apart - shifts @ vectors, axis=1)
    if not len(distances):
        return None
    pair = int(np.argmin(distances))
    return int(one[pair]), int(other[pair]), shifts[pair], float(distances[pair])


def _closest_neighbour(configuration: Configuration) -> tuple[int, int, np.ndarray, float] | None:
    """As `_closest`, for any cell and many atoms."""
    from vesin import NeighborList  # imports torch, which takes seconds

    one, other, shifts, distances = NeighborList(cutoff=SEARCH_RADIUS, full_list=False).compute(
        points=configuration.positions,
        box=configuration.cell,
        periodic=configuration.pbc.tolist(),
        quantities="ijSd",
    )
    if not len(distances):
        return None
    pair = int(np.argmin(distances))
    return int(one[pair]), int(other[pair]), shifts[pair], float(distances[pair])


def _named(configuration: Configuration, atom: int) -> str:
    return f"atom {atom} ({chemical_symbols[configuration.numbers[atom]]})"
