"""Functions of a rigid rotation of all moments, as far as polynomials of the moments reach.

Scalar features of the network are polynomials of the turned moments. As functions of the rotation Q they lie in a space
of known, small dimension, so that a few rotations decide all others exactly: for collinear moments along n the
spherical harmonics Y_L(Q·n), L up to the polynomial's degree; else the elements of the matrices D_L(Q).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y
from torch import Tensor

from mmace.harmonics import rotation_matrices

SPARE_POINTS, SPARE_ROTATIONS = 1.1, 1.5  # samples per function, even or random: least squares well conditioned
LARGEST_MATRICES = 6  # degree of D_L; beyond, the space is larger than any scan


class RotationFunctions:
    """The space of functions of Q for moments [N,3]. ``degree`` of the polynomials; ``even``: in all moments."""

    def __init__(self, magmoms: np.ndarray, degree: int, even: bool) -> None:
        self.axis = common_axis(magmoms)
        self.degrees = [L for L in range(degree + 1) if self.axis is None or not even or L % 2 == 0]
        if self.axis is None:
            self.count = sum((2 * L + 1) ** 2 for L in self.degrees) if degree <= LARGEST_MATRICES else None
        else:
            self.count = sum(2 * L + 1 for L in self.degrees)

    def samples(self) -> np.ndarray:
        """Proper rotations [B,3,3] that decide every function of the space."""
        assert self.count is not None
        if self.axis is None:
            return Rotation.random(int(SPARE_ROTATIONS * self.count) + 8, random_state=0).as_matrix()
        number = int(SPARE_POINTS * self.count) + 8
        k = np.arange(number) + 0.5  # Fibonacci's points on the sphere
        z, azimuth = 1 - 2 * k / number, np.pi * (1 + 5**0.5) * k
        r = np.sqrt(1 - z**2)
        points = np.column_stack([r * np.cos(azimuth), r * np.sin(azimuth), z])
        return np.array([_turn(self.axis, point) for point in points])

    def values(self, rotations: np.ndarray) -> np.ndarray:
        """All functions [B, count] at ``rotations`` [B,3,3]."""
        if self.axis is None:
            turns = torch.as_tensor(rotations)
            columns = [np.sqrt(2 * L + 1) * rotation_matrices(L, turns).flatten(1).numpy() for L in self.degrees]
            return np.concatenate(columns, axis=1)
        x, y, z = (rotations @ self.axis).T
        polar, azimuth = np.arccos(np.clip(z, -1.0, 1.0)), np.arctan2(y, x)
        columns = []
        for L in self.degrees:
            for m in range(L + 1):
                value = sph_harm_y(L, m, polar, azimuth)
                columns += [value.real, value.imag] if m else [value.real]
        return np.stack(columns, axis=1)

    def interpolation(self, rotations: np.ndarray, samples: np.ndarray) -> Tensor:
        """Matrix [B, samples]: values at ``rotations`` from values at ``samples``. float64."""
        wanted, known = (torch.as_tensor(self.values(turns)) for turns in (rotations, samples))
        return wanted @ torch.linalg.pinv(known)


def common_axis(magmoms: np.ndarray) -> np.ndarray | None:
    """Unit vector along which all moments lie, up to their sign; None for non-collinear moments."""
    lengths = np.linalg.norm(magmoms, axis=1)
    if not lengths.any():
        return np.array([0.0, 0.0, 1.0])
    axis = magmoms[lengths.argmax()] / lengths.max()
    return axis if np.linalg.norm(np.cross(magmoms, axis)) < 1e-10 * lengths.max() else None


def _turn(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A rotation that takes one unit vector to another."""
    if np.dot(start, end) < -0.999999:  # by way of a third
        third = np.eye(3)[np.abs(start).argmin()]
        third -= third @ start * start
        third /= np.linalg.norm(third)
        return _turn(third, end) @ _turn(start, third)
    cross = np.cross(start, end)
    skew = np.array([[0, -cross[2], cross[1]], [cross[2], 0, -cross[0]], [-cross[1], cross[0], 0]])
    return np.eye(3) + skew + skew @ skew / (1 + np.dot(start, end))
