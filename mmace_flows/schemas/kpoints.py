"""Grids of k-points that follow from a spacing, the same for every engine, and what keys of results know of them."""

from __future__ import annotations

from math import ceil, pi
from typing import Any

import numpy as np

Grid = tuple[int, int, int]

SPACING = (  # of every engine's settings
    "largest spacing of the grid, Å⁻¹, without the 2π: n_i = ⌈|b_i|/spacing⌉ with a_i·b_j = δ_ij, "
    "or more where the lattice's symmetry asks for equal numbers"
)
FLAT = 1e-6  # Å³; a cell with a smaller volume is none, and engines refuse it
LATTICE_TOLERANCE = 1e-2  # Å: a relaxed lattice still has its symmetry


def kpoint_grid(cell: Any, spacing: float) -> Grid:
    """Smallest grid whose points lie at most ``spacing`` Å⁻¹ apart along each reciprocal vector, without the 2π, and
    which every symmetry of the lattice maps onto itself where it holds Γ.

    In a skewed cell of a symmetric lattice the reciprocal vectors differ in length, though the lattice makes them
    equal. With different numbers along them the grid would break the symmetry of the crystal: cubic crystals would get
    an easy axis. Where symmetry joins two directions, both get the larger number.

    Parameters: ``cell`` [3,3] Å, vectors as rows.
    """
    lattice = np.asarray(cell, dtype=float)
    return _symmetric(_plain_grid(lattice, spacing), lattice)


def grid_in_key(cell: Any, settings: dict[str, Any]) -> list[Any]:
    """What the key of a result says of its grid besides its ``settings``: nothing, unless symmetry made it finer than
    the spacing asks for. Results from before this was done are then not taken for what is asked for now."""
    spacing, lattice = settings.get("kpoint_spacing"), np.asarray(cell, dtype=float)
    if not isinstance(spacing, int | float) or spacing <= 0 or abs(np.linalg.det(lattice)) < FLAT:
        return []
    plain = _plain_grid(lattice, float(spacing))
    grid = _symmetric(plain, lattice)
    return [] if grid == plain else [list(grid)]


def spacing_with_two_pi(spacing: float) -> float:
    """The same spacing in the other convention (a_i·b_j = 2πδ_ij), rad/Å, as VASP's KSPACING counts."""
    return 2.0 * pi * spacing


def _plain_grid(lattice: np.ndarray, spacing: float) -> Grid:
    lengths = np.linalg.norm(np.linalg.inv(lattice).T, axis=1)
    # the little less than one keeps a length that is an exact multiple from being rounded up by its last bit
    x, y, z = (max(1, ceil(length / spacing - 1e-9)) for length in lengths)
    return x, y, z


def _symmetric(plain: Grid, lattice: np.ndarray) -> Grid:
    """``plain`` with larger numbers where a symmetry of the lattice would take points off the grid."""
    if len(set(plain)) == 1:
        return plain
    grid, turns = list(plain), _lattice_symmetries(lattice)
    while (joined := _broken(grid, turns)) is not None:
        number = max(grid[axis] for axis in joined)
        for axis in joined:
            grid[axis] = number
    x, y, z = grid
    return x, y, z


def _lattice_symmetries(lattice: np.ndarray) -> np.ndarray:
    """[G,3,3] integers: operations on fractional coordinates of reciprocal space that keep the lattice."""
    import spglib

    try:
        found = spglib.get_symmetry((lattice.tolist(), [[0.0, 0.0, 0.0]], [1]), symprec=LATTICE_TOLERANCE)
    except Exception:  # newer versions of spglib raise where older ones give None
        found = None
    if found is None:  # as for a cell so flat that no symmetry can be told
        return np.zeros((0, 3, 3), dtype=int)
    # a turn W of coordinates takes k to W⁻ᵀ k; with every W the group has its inverse too
    return np.asarray(found["rotations"], dtype=int).transpose(0, 2, 1)


def _broken(grid: list[int], turns: np.ndarray) -> tuple[int, int] | None:
    """Two axes whose numbers differ, so that a turn takes points n_j/N_j of the grid off it; None: none does."""
    for turn in turns:
        for i, j in zip(*np.nonzero(turn), strict=True):
            if grid[i] * turn[i, j] % grid[j]:
                return int(i), int(j)
    return None
