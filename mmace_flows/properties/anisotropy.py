"""Magnetocrystalline anisotropy from energies of directions: a fit on the sphere, its ends, and the constants.

E_A(θ,φ) is even in the moments, so real spherical harmonics of even degree describe it, and a few tens of directions
are enough. K1 and K2 are those of E/V = K1 sin²θ + K2 sin⁴θ [30] about an axis, or of the cubic
E/V = K1 (α₁²α₂² + α₂²α₃² + α₃²α₁²) + K2 α₁²α₂²α₃², as least squares over the whole sphere give them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mmace.errors import UserError

EV_PER_CUBIC_ANGSTROM = 160_217.6634  # in MJ/m³
USED = 0.8  # share of the distinct directions that coefficients may use up; the rest tells the error of the fit
SCAN_POINTS = 4000  # directions on which the fitted surface is first searched for its ends
ASYMMETRY_POINTS = 200  # directions of it that are compared with their images
ZOOMS, PATCH = 6, 0.05  # then in smaller and smaller patches around the best, from this size on, rad
LARGEST_DEGREE = 8
UNIAXIAL_DEGREE = 4  # of sin⁴θ: higher harmonics are orthogonal to both terms of [30], and take no part in K1 and K2


@dataclass(frozen=True)
class Surface:
    """A fitted energy surface on the sphere."""

    degree: int  # largest degree of the harmonics, even
    solution: np.ndarray  # eV per cell: the constant, then the real harmonics of degree 2, 4, …, by l and m
    fit_error: float  # RMS of what the fit leaves, leave-one-out, eV per cell

    def energies(self, vectors: np.ndarray) -> np.ndarray:
        """[D] eV per cell at unit vectors [D,3]."""
        return self.solution[0] + self.anisotropy(vectors)

    def anisotropy(self, vectors: np.ndarray) -> np.ndarray:
        """As `energies`, relative to the mean over the sphere."""
        return even_harmonics(vectors, self.degree)[:, 1:] @ self.solution[1:]

    def ends(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Direction [3] of the lowest energy, of the highest, and their difference ΔE_A [29], eV per cell."""
        grid, design = _search_grid(self.degree)
        start = design[:, 1:] @ self.solution[1:]
        low, lowest = self._refined(grid[int(np.argmin(start))], 1.0)
        high, highest = self._refined(grid[int(np.argmax(start))], -1.0)
        return upward(low), upward(high), highest - lowest

    def asymmetry(self, turns: np.ndarray) -> float:
        """Largest difference of energies at directions that rotations [G,3,3] of the crystal make alike, eV per cell.

        Physics makes it zero. What breaks it is mostly a grid of k-points that has not the symmetry of the crystal.
        """
        grid, _ = _search_grid(self.degree)
        turned = np.einsum("gij,dj->gdi", turns, grid[:: len(grid) // ASYMMETRY_POINTS])
        return float(np.ptp(self.anisotropy(turned.reshape(-1, 3)).reshape(turned.shape[:2]), axis=0).max())

    def _refined(self, best: np.ndarray, sign: float) -> tuple[np.ndarray, float]:
        """The lowest point (of ``sign`` times the surface) near ``best``, and the energy there."""
        steps = np.stack(np.meshgrid(*[np.linspace(-1.0, 1.0, 5)] * 2), axis=-1).reshape(-1, 2)
        size = PATCH
        for _ in range(ZOOMS):
            x, y = perpendicular(best)
            # the middle comes first: where all are equal, as on a flat surface, nothing moves
            patch = np.concatenate([best[None], best + size * (steps[:, :1] * x + steps[:, 1:] * y)])
            patch /= np.linalg.norm(patch, axis=1, keepdims=True)
            best = patch[int(np.argmin(np.round(sign * self.anisotropy(patch), 15)))]
            size *= 0.3
        return best, float(self.anisotropy(best[None])[0])

    def quadrupole_axis(self) -> np.ndarray:
        """Unit vector [3] along which the part of degree 2 is most extreme: the axis where symmetry names none."""
        probes = np.concatenate([np.eye(3), np.eye(3) + np.roll(np.eye(3), 1, axis=0)])
        probes /= np.linalg.norm(probes, axis=1, keepdims=True)
        values = even_harmonics(probes, 2)[:, 1:] @ self.solution[1:6]
        tensor = np.diag(values[:3])
        for value, probe in zip(values[3:], probes[3:], strict=True):
            i, j = np.flatnonzero(probe)
            tensor[i, j] = tensor[j, i] = value - 0.5 * (tensor[i, i] + tensor[j, j])
        sizes, vectors = np.linalg.eigh(tensor)
        return upward(vectors[:, int(np.argmax(np.abs(sizes)))])


def even_harmonics(vectors: np.ndarray, degree: int) -> np.ndarray:
    """[D,n] real spherical harmonics of degrees 0, 2, …, ``degree`` (component normalisation) of unit vectors [D,3]."""
    import torch
    from e3nn.o3 import spherical_harmonics

    given = torch.as_tensor(np.asarray(vectors, dtype=float))
    # e3nn's polar axis is y: its order of coordinates is (y, z, x) of ours
    cycled = given[:, [1, 2, 0]]
    degrees = list(range(0, degree + 1, 2))
    return spherical_harmonics(degrees, cycled, normalize=True, normalization="component").numpy()


def fit_surface(vectors: np.ndarray, energies: np.ndarray, degree: int | None = None) -> Surface:
    """Least squares of energies [D], eV per cell, at unit vectors [D,3].

    ``degree`` even (default: the largest, up to 8, for which a fifth of the directions is left over).
    Raises UserError for too few directions.
    """
    vectors, energies = np.asarray(vectors, dtype=float), np.asarray(energies, dtype=float)
    # a direction and its opposite are one: both have the same v⊗v
    distinct = len(np.unique(np.round(vectors[:, :, None] * vectors[:, None, :], 6).reshape(-1, 9) + 0.0, axis=0))
    if degree is None:
        possible = [even for even in range(4, LARGEST_DEGREE + 1, 2) if functions(even) <= USED * distinct]
        degree = max(possible, default=2)
    design = even_harmonics(vectors, degree)
    if np.linalg.matrix_rank(design) < functions(degree):
        raise UserError(
            f"anisotropy: {distinct} directions cannot tell {functions(degree)} harmonics up to degree {degree} apart; "
            "give more directions, for example lebedev:26"
        )
    middle = float(np.mean(energies))  # thousands of eV beside µeV: kept out of the fit
    solution, *_ = np.linalg.lstsq(design, energies - middle, rcond=None)
    orthogonal, _ = np.linalg.qr(design)
    leverage = (orthogonal**2).sum(1)
    left = (energies - middle - design @ solution) / np.maximum(1.0 - leverage, 1e-6)
    solution[0] += middle
    return Surface(degree, solution, float(np.sqrt(np.mean(left**2))))


def functions(degree: int) -> int:
    """How many harmonics of even degree there are up to ``degree``."""
    return (degree + 1) * (degree + 2) // 2


def uniaxial_constants(surface: Surface, axis: np.ndarray) -> tuple[float, float]:
    """K1·V and K2·V of [30] about the unit vector ``axis``, averaged around it, eV per cell; positive: an easy axis.

    K2 is 0 for a surface of degree 2.
    """
    degree = min(surface.degree, UNIAXIAL_DEGREE)
    low = Surface(degree, surface.solution[: functions(degree)], 0.0)
    polar = np.linspace(0.0, np.pi / 2, degree + 1)
    averaged = [low.energies(ring(axis, angle, 2 * degree + 2)).mean() for angle in polar]
    # exact: even harmonics, averaged around the axis, are polynomials of degree/2 in sin²θ
    powers = np.polynomial.polynomial.polyfit(np.sin(polar) ** 2, averaged, degree // 2)
    return float(powers[1]), float(powers[2]) if degree >= 4 else 0.0


def cubic_constants(vectors: np.ndarray, energies: np.ndarray, axes: np.ndarray) -> tuple[float, float]:
    """K1·V and K2·V of a cubic crystal with four-fold axes [3,3] (rows), eV per cell; K1 > 0: ⟨100⟩ is easy.

    A part of degree 2, which a cubic crystal has not, is fitted beside them: a slight distortion does not count.
    K2 is 0 where the directions cannot tell it from K1. Raises UserError where they tell neither.
    """
    first, second, third = (np.asarray(vectors, dtype=float) @ np.asarray(axes, dtype=float).T).T ** 2
    pairs, triple = first * second + second * third + third * first, first * second * third
    for terms in ([pairs, triple], [pairs]):
        design = np.column_stack([*terms, even_harmonics(vectors, 2)])
        if np.linalg.matrix_rank(design, tol=1e-6) == design.shape[1]:
            solution, *_ = np.linalg.lstsq(design, energies - np.mean(energies), rcond=None)
            return float(solution[0]), float(solution[1]) if len(terms) == 2 else 0.0
    raise UserError("anisotropy: too few directions for the constants of a cubic crystal; give lebedev:26 or more")


def perpendicular(axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors [3] at right angles to the unit vector ``axis`` and to each other."""
    helper = np.eye(3)[int(np.argmin(np.abs(axis)))]
    x = np.cross(axis, helper)
    x /= np.linalg.norm(x)
    return x, np.cross(axis, x)


def ring(axis: np.ndarray, polar: float, count: int) -> np.ndarray:
    """Unit vectors [count,3] at the angle ``polar`` (rad) from ``axis``, evenly around it."""
    x, y = perpendicular(np.asarray(axis, dtype=float))
    azimuth = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)[:, None]
    return np.sin(polar) * (np.cos(azimuth) * x + np.sin(azimuth) * y) + np.cos(polar) * axis


def upward(vector: np.ndarray) -> np.ndarray:
    """The direction or its opposite, whichever has a positive largest component."""
    return np.asarray(vector * np.sign(vector[np.argmax(np.abs(vector))]) + 0.0)


@lru_cache(maxsize=8)
def _search_grid(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions [D,3] over the whole sphere, the Cartesian axes among them, and their harmonics [D,n]."""
    from mmace_flows.structures.directions import directions

    grid = np.concatenate([np.eye(3), directions(f"fibonacci:{SCAN_POINTS}")])
    return grid, even_harmonics(grid, degree)
