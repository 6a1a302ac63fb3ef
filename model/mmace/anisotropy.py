"""Energies of one collinear structure for many directions of its moments."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from mmace.errors import UserError
from mmace.graph import vector_moments
from mmace.potential import Potential
from mmace.spins.directions import common_axis
from mmace.spins.scan import rotation_energies

SAME = 1e-6  # two unit vectors this close are one


def turns_to(axis: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Proper rotations [D,3,3] that take the unit vector ``axis`` [3] to each of ``vectors`` [D,3]: half turns about
    the line between the two."""
    axis, vectors = np.asarray(axis, dtype=float), np.asarray(vectors, dtype=float)
    middle = axis + vectors
    opposite = np.linalg.norm(middle, axis=1) < SAME
    middle[opposite] = np.cross(axis, np.eye(3)[int(np.argmin(np.abs(axis)))])
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    return 2.0 * middle[:, :, None] * middle[:, None, :] - np.eye(3)


def collinear_axis(magmoms: np.ndarray, where: str = "anisotropy") -> np.ndarray:
    """Unit vector [3] along which all moments [N,3] lie, the way the largest points; z without moments.

    Raises UserError for moments that are not collinear: their energy is no function of one direction.
    """
    axis = common_axis(np.asarray(magmoms, dtype=float))
    if axis is None:
        raise UserError(
            f"{where}: the moments are not collinear, so that their energy is no function of one direction; "
            "relax them along an axis (mmace relax-moments --mode collinear) or give collinear ones"
        )
    return axis


def direction_energies(model: Potential, atoms: Atoms, vectors: np.ndarray) -> np.ndarray:
    """Energies [D], eV, with the moments of ``atoms`` turned rigidly so that their axis points along each of
    ``vectors`` [D,3]. The axis is the way the largest moment points.

    A direction and its opposite are computed once, since energies are even in the moments. Raises UserError for
    moments that are not collinear and for a model without moments.
    """
    axis = collinear_axis(vector_moments(atoms), atoms.get_chemical_formula())
    vectors = np.asarray(vectors, dtype=float)
    if model.config.symmetry == "paper":  # the one form that is not even
        return rotation_energies(model, atoms, turns_to(axis, vectors))
    first, place = opposites_joined(vectors)
    return rotation_energies(model, atoms, turns_to(axis, vectors[first]))[place]


def opposites_joined(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of ``vectors`` [D,3] are the first of their kind, a direction and its opposite being one [U], and which of
    these each is [D]."""
    vectors = np.asarray(vectors, dtype=float)
    x, y, z = np.where(np.abs(vectors) < SAME, 0.0, vectors).T
    up = (z > 0) | ((z == 0) & ((y > 0) | ((y == 0) & (x > 0))))
    half = np.where(up[:, None], vectors, -vectors)
    _, first, place = np.unique(np.round(half, 6) + 0.0, axis=0, return_index=True, return_inverse=True)
    return first, place.reshape(-1)
