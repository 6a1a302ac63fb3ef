"""Moments along one axis: their signed lengths, for engines that know nothing but up and down."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

from mmace.errors import UserError
from mmace_flows.schemas.structure import MagneticStructure

OFF_AXIS = 0.01  # μB: components off the common axis up to this are dropped
LEAST_TOTAL = 0.01  # μB: with a smaller sum of moments the part between the atoms is not asked for


def split_moments(magmoms: Any) -> tuple[np.ndarray, np.ndarray, float]:
    """Signed lengths along the common axis, the axis, and how far moments lie off it.

    Parameters: ``magmoms`` [N,3] μB. Returns [N] μB, a unit vector [3] whose largest component is positive, and the
    largest component off it, μB. Raises UserError for moments that are not finite.
    """
    moments = np.asarray(magmoms, dtype=float).reshape(-1, 3)
    if not np.all(np.isfinite(moments)):
        raise UserError("structure: magmoms contain NaN or infinity; give finite numbers in μB")
    if not np.any(moments):
        return np.zeros(len(moments)), np.array([0.0, 0.0, 1.0]), 0.0
    axis = np.linalg.eigh(moments.T @ moments)[1][:, -1]
    largest = int(np.argmax(np.abs(axis)))
    axis = axis * np.sign(axis[largest])
    if np.abs(axis[largest]) > 1.0 - 1e-12:  # exactly a Cartesian axis: no noise from the eigenvectors
        axis = np.eye(3)[largest]
    along = moments @ axis
    return along, axis, float(np.linalg.norm(moments - np.outer(along, axis), axis=1).max())


def collinear_atoms(structure: MagneticStructure, along: np.ndarray) -> Atoms:
    """ASE atoms with numbers [N] for moments: vectors would mean a non-collinear calculation."""
    atoms = structure.to_atoms()
    atoms.set_initial_magnetic_moments(None)  # ASE refuses numbers where vectors stand
    atoms.set_initial_magnetic_moments(along)
    return atoms


def fixed_total_forces(up: float, down: float, total: float, lengths: np.ndarray) -> np.ndarray:
    """Magnetic forces −∂E/∂m [N], eV/μB, at a fixed total moment M: the same for every atom.

    The electrons share M among the atoms at the least energy, so ∂E/∂m_i = (dE/dM)(∂M/∂m_i). dE/dM is half the distance
    of the Fermi levels of the two spins (N↑ − N↓ = M), and the part of M between the atoms goes with the moments within
    them: ∂M/∂m_i = M/Σm.

    Parameters: Fermi levels ``up`` and ``down``, eV; ``total`` M and ``lengths`` [N] along the common axis, μB.
    """
    inside = float(lengths.sum())
    share = total / inside if abs(inside) > LEAST_TOTAL else 1.0
    return np.full(len(lengths), -0.5 * (up - down) * share)
