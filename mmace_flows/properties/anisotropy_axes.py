"""Which axes anisotropy constants belong to, and which directions are alike: those of crystal and magnetic order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmace.errors import UserError
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.symmetry import require_crystal

TOLERANCE = 1e-2  # Å: a relaxed crystal still has its symmetry
MOMENT_TOLERANCE = 0.05  # μB
ORDER_OF_TRACE = {3: 1, -1: 2, 0: 3, 1: 4, 2: 6}  # of a proper rotation


@dataclass(frozen=True)
class MagneticAxes:
    """What the point group of the magnetic crystal says about its energy surface."""

    cubic: np.ndarray | None  # [3,3] four-fold axes (rows) of a cubic crystal
    unique: np.ndarray | None  # [3] the three-, four- or six-fold axis of a uniaxial one; else None
    turns: np.ndarray  # [G,3,3] all proper rotations that E(n), which is even, has: identity first


def magnetic_axes(structure: MagneticStructure, lengths: np.ndarray, tolerance: float = TOLERANCE) -> MagneticAxes:
    """Axes of the crystal with signed moments ``lengths`` [N] μB along one direction, that direction aside.

    E(n) has every symmetry that keeps all moments or turns all of them round: antiferromagnetic order can make a
    cubic crystal uniaxial. Raises UserError without a crystal or with two atoms at one place.
    """
    import spglib
    from ase.data import atomic_numbers

    require_crystal(structure, "anisotropy")
    lattice = np.asarray(structure.cell, dtype=float)
    fractional = np.asarray(structure.positions, dtype=float) @ np.linalg.inv(lattice)
    numbers = [atomic_numbers[symbol] for symbol in structure.symbols]
    cell = (lattice.tolist(), fractional.tolist(), numbers, np.asarray(lengths, dtype=float).tolist())
    try:
        found = spglib.get_magnetic_symmetry(cell, symprec=tolerance, mag_symprec=MOMENT_TOLERANCE)
    except Exception as error:  # newer versions of spglib raise where older ones give None
        raise UserError(f"anisotropy: no symmetry is found ({error}); are two atoms at the same place?") from error
    if found is None:
        raise UserError("anisotropy: no symmetry is found; are two atoms at the same place?")
    axes: dict[int, list[np.ndarray]] = {}
    turns = [np.eye(3)]
    # E is even, so that an inversion changes nothing
    proper_turns = {tuple((np.ravel(turn) * round(np.linalg.det(turn))).tolist()) for turn in found["rotations"]}
    for proper_turn in sorted(proper_turns):
        proper = np.reshape(proper_turn, (3, 3))
        order = ORDER_OF_TRACE[int(np.trace(proper))]
        if order == 1:
            continue
        # columns of latticeᵀ are the cell vectors: fractional coordinates to Cartesian ones
        cartesian = lattice.T @ proper @ np.linalg.inv(lattice.T)
        turns.append(cartesian)
        axis = np.linalg.svd(cartesian - np.eye(3))[2][-1]
        known = axes.setdefault(order, [])
        if all(abs(axis @ other) < 0.99 for other in known):
            known.append(axis)
    all_turns = np.array(turns)
    three = axes.get(3, [])
    if len(three) > 1:  # four-fold axes, or in the tetrahedral groups the two-fold ones
        return MagneticAxes(np.array(axes.get(4) or axes[2])[:3], None, all_turns)
    for order in (6, 4, 3):
        if order in axes:
            axis = axes[order][0]
            return MagneticAxes(None, axis * np.sign(axis[np.argmax(np.abs(axis))]) + 0.0, all_turns)
    return MagneticAxes(None, None, all_turns)
