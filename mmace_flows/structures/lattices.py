"""Sublattices and supercells: integer matrices, Hermite normal forms, and the atoms of a supercell.

A supercell of a cell A (rows, Å) is P·A with an integer matrix P. Two matrices make the same lattice if and only if
they have the same Hermite normal form (here: upper triangular, entries above the diagonal reduced by the pivot below).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from ase.geometry import minkowski_reduce

from mmace.errors import UserError
from mmace_flows.schemas.structure import MagneticStructure


def hermite_normal_form(matrix: Any) -> np.ndarray:
    """[3,3] integers, upper triangular with a positive diagonal, spanning the same lattice as the rows of ``matrix``.

    Raises ValueError for a matrix that is singular or not of integers.
    """
    given = np.asarray(matrix)
    rows = [[int(value) for value in row] for row in np.rint(given)]
    if given.shape != (3, 3) or np.any(given != rows):
        raise ValueError(f"a supercell is described by 3×3 integers, not by {given.tolist()}")
    for column in range(3):
        while any(rows[row][column] for row in range(column + 1, 3)):
            pivot = min((r for r in range(column, 3) if rows[r][column]), key=lambda r: abs(rows[r][column]))
            rows[column], rows[pivot] = rows[pivot], rows[column]
            for row in range(column + 1, 3):
                factor = rows[row][column] // rows[column][column]
                rows[row] = [a - factor * b for a, b in zip(rows[row], rows[column], strict=True)]
        if rows[column][column] == 0:
            raise ValueError(f"the supercell {given.tolist()} has no volume")
        if rows[column][column] < 0:
            rows[column] = [-value for value in rows[column]]
        for row in range(column):
            factor = rows[row][column] // rows[column][column]
            rows[row] = [a - factor * b for a, b in zip(rows[row], rows[column], strict=True)]
    return np.array(rows)


def sublattices(index: int) -> Iterator[np.ndarray]:
    """The Hermite normal form [3,3] of every sublattice of this index (cells per supercell), each once."""
    divisors = [d for d in range(1, index + 1) if index % d == 0]
    for a, d in product(divisors, divisors):
        if index % (a * d):
            continue
        f = index // (a * d)
        for b, c, e in product(range(d), range(f), range(f)):
            yield np.array([[a, b, c], [0, d, e], [0, 0, f]])


def reduced(translations: Any, normal_form: np.ndarray) -> np.ndarray:
    """``translations`` [...,3] of the parent lattice, modulo the sublattice: 0 ≤ n_i < normal_form[i,i]."""
    rest = np.array(translations, dtype=int)
    for i in range(3):
        rest -= (rest[..., i] // normal_form[i, i])[..., None] * normal_form[i]
    return rest


def translations(normal_form: np.ndarray) -> np.ndarray:
    """[index,3] one parent translation for each cell of the supercell, in lexical order; the first is zero."""
    return np.array(list(product(*(range(int(value)) for value in np.diag(normal_form)))))


def commensurate_sublattice(wave_vector: Sequence[Any]) -> np.ndarray:
    """Hermite normal form [3,3] of the largest sublattice on which a wave of rational ``wave_vector`` is periodic.

    ``wave_vector`` three `fractions.Fraction` in units of the reciprocal vectors. The index is the lowest common
    denominator of the three.
    """
    from fractions import Fraction
    from math import lcm

    fractions = [Fraction(value) for value in wave_vector]
    denominator = lcm(*(value.denominator for value in fractions))
    numerators = [int(value * denominator) for value in fractions]
    for form in sublattices(denominator):  # q·T must be whole for each row T: exactly one sublattice of this index
        if all(sum(n * int(t) for n, t in zip(numerators, row, strict=True)) % denominator == 0 for row in form):
            return form
    raise AssertionError(f"no sublattice of index {denominator} belongs to {fractions}")


def supercell(structure: MagneticStructure, matrix: Any, compact: bool = False) -> MagneticStructure:
    """``structure`` repeated to the cell ``matrix`` · cell, cell by cell, moments with it.

    Parameters: ``matrix`` [3,3] integers, or three repeats; ``compact`` takes the shortest vectors of the new lattice
    (Minkowski-reduced) for the same crystal. Atoms are wrapped into the new cell.
    Raises UserError for a matrix that is singular or not of integers.
    """
    given = np.asarray(matrix)
    try:
        whole = np.diag(given) if given.ndim == 1 else given
        form = hermite_normal_form(whole)
    except ValueError as error:
        raise UserError(f"supercell: {error}; give three repeats or nine integers") from None
    parent_cell = np.asarray(structure.cell, dtype=float)
    cell = np.asarray(whole, dtype=float) @ parent_cell
    if np.linalg.det(np.asarray(whole, dtype=float)) < 0:  # keep the handedness of the parent's cell
        cell = -cell
    if compact:
        cell = np.asarray(minkowski_reduce(cell)[0])
    shifts = translations(form) @ parent_cell
    positions = (shifts[:, None, :] + np.asarray(structure.positions, dtype=float)).reshape(-1, 3)
    fractional = positions @ np.linalg.inv(cell)
    fractional -= np.floor(fractional + 1e-9)
    count = len(shifts)
    return MagneticStructure(
        symbols=structure.symbols * count,
        positions=(fractional @ cell).tolist(),
        cell=cell.tolist(),
        pbc=structure.pbc,
        magmoms=structure.magmoms * count,
    )
