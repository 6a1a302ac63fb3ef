"""Magnetocrystalline anisotropy from energies of directions: a fit on the sphere, constants, units.

E_A(θ,φ) is even in the moments, so real spherical harmonics of even degree describe it, and a few tens of directions
are enough. The uniaxial constants are those of E/V = K1 sin²θ + K2 sin⁴θ [30], averaged over φ.
"""

from __future__ import annotations

from math import gcd

import numpy as np
from pydantic import Field

from mmace.errors import UserError
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument
from mmace_flows.schemas.structure import Document

EV_PER_CUBIC_ANGSTROM = 160_217.6634  # in MJ/m³
USED = 0.8  # share of the distinct directions that coefficients may use up; the rest tells the error of the fit
SCAN_POINTS = 20_000  # directions on which the fitted surface is searched for its ends


class Anisotropy(Document):
    """What the energies of one structure say about its easy and hard directions. D directions."""

    degree: int = Field(description="largest degree of the harmonics that were fitted")
    coefficients: list[float] = Field(description="eV per cell, of the real harmonics of even degree 2, 4, …, by l, m")
    fit_error: float = Field(description="RMS of what the fit leaves, leave-one-out, eV per cell")
    strength: float = Field(description="ΔE_A: highest minus lowest energy of the fitted surface [29], eV per cell")
    easy: list[float] = Field(description="[3] unit vector of the lowest energy")
    hard: list[float] = Field(description="[3] unit vector of the highest energy")
    k1: float = Field(description="uniaxial K1 about ``axis``, MJ/m³; positive: the axis is easy")
    k2: float = Field(description="uniaxial K2 about ``axis``, MJ/m³")
    axis: list[float] = Field(description="[3] axis of K1 and K2")
    k1_mev_per_atom: float = Field(description="K1·V, meV per atom")
    k1_mev_per_formula: float = Field(description="K1·V, meV per formula unit")


def even_harmonics(vectors: np.ndarray, degree: int) -> np.ndarray:
    """[D,n] real spherical harmonics of degrees 0, 2, …, ``degree`` (component normalisation) of unit vectors [D,3]."""
    import torch
    from e3nn.o3 import spherical_harmonics

    given = torch.as_tensor(np.asarray(vectors, dtype=float))
    # e3nn's polar axis is y: its order of coordinates is (y, z, x) of ours
    cycled = given[:, [1, 2, 0]]
    degrees = list(range(0, degree + 1, 2))
    return spherical_harmonics(degrees, cycled, normalize=True, normalization="component").numpy()


def analyse(
    vectors: np.ndarray,
    energies: np.ndarray,
    volume: float,
    num_atoms: int,
    formula_units: int = 1,
    axis: np.ndarray | None = None,
    degree: int | None = None,
) -> Anisotropy:
    """Fit the surface and read off strength, easy and hard direction, K1 and K2.

    Parameters: ``vectors`` [D,3] unit, ``energies`` [D] eV per cell, ``volume`` Å³; ``axis`` of K1 and K2 (default z);
    ``degree`` even (default: the largest, up to 8, for which a fifth of the directions is left over).
    Raises UserError for too few directions.
    """
    vectors, energies = np.asarray(vectors, dtype=float), np.asarray(energies, dtype=float)
    # a direction and its opposite are one: both have the same v⊗v
    distinct = len(np.unique(np.round(vectors[:, :, None] * vectors[:, None, :], 6).reshape(-1, 9) + 0.0, axis=0))
    if degree is None:
        degree = max(even for even in (2, 4, 6, 8) if even == 2 or (even + 1) * (even + 2) // 2 <= USED * distinct)
    functions = (degree + 1) * (degree + 2) // 2
    design = even_harmonics(vectors, degree)
    if np.linalg.matrix_rank(design) < functions:
        raise UserError(
            f"anisotropy: {distinct} directions cannot tell {functions} harmonics up to degree {degree} apart; "
            "give more directions, for example lebedev:26"
        )
    solution, *_ = np.linalg.lstsq(design, energies, rcond=None)
    orthogonal, _ = np.linalg.qr(design)
    leverage = (orthogonal**2).sum(1)
    left = (energies - design @ solution) / np.maximum(1.0 - leverage, 1e-6)

    from mmace_flows.structures.directions import directions

    everywhere = np.concatenate([directions(f"fibonacci:{SCAN_POINTS}"), np.eye(3)])
    surface = even_harmonics(everywhere, degree) @ solution
    lowest, highest = int(np.argmin(surface)), int(np.argmax(surface))
    along = np.array([0.0, 0.0, 1.0]) if axis is None else np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    first, second = _uniaxial(along, degree, solution)
    return Anisotropy(
        degree=degree,
        coefficients=solution[1:].tolist(),
        fit_error=float(np.sqrt(np.mean(left**2))),
        strength=float(surface[highest] - surface[lowest]),
        easy=_upward(everywhere[lowest]),
        hard=_upward(everywhere[highest]),
        k1=first / volume * EV_PER_CUBIC_ANGSTROM,
        k2=second / volume * EV_PER_CUBIC_ANGSTROM,
        axis=along.tolist(),
        k1_mev_per_atom=1000.0 * first / num_atoms,
        k1_mev_per_formula=1000.0 * first / formula_units,
    )


def analyse_document(document: SpinOrbitDocument, axis: np.ndarray | None = None) -> Anisotropy | None:
    """What `analyse` says of a stored run; None where the ground state did not converge. ``axis`` as there."""
    if document.status != "converged":
        return None
    symbols = document.structure.symbols
    volume = abs(float(np.linalg.det(np.array(document.structure.cell))))
    units = gcd(*(symbols.count(symbol) for symbol in set(symbols)))
    return analyse(np.array(document.directions), np.array(document.energies), volume, len(symbols), units, axis)


def _uniaxial(axis: np.ndarray, degree: int, solution: np.ndarray) -> tuple[float, float]:
    """K1·V and K2·V, eV: the fitted surface, averaged around the axis, as a polynomial in sin²θ."""
    helper = np.eye(3)[int(np.argmin(np.abs(axis)))]
    x = np.cross(axis, helper) / np.linalg.norm(np.cross(axis, helper))
    y = np.cross(axis, x)
    azimuth = np.linspace(0.0, 2.0 * np.pi, 2 * degree + 2, endpoint=False)
    polar = np.linspace(0.0, np.pi / 2, degree + 1)
    around = np.cos(azimuth)[:, None] * x + np.sin(azimuth)[:, None] * y
    grid = np.sin(polar)[:, None, None] * around + np.cos(polar)[:, None, None] * axis
    averaged = (even_harmonics(grid.reshape(-1, 3), degree) @ solution).reshape(len(polar), -1).mean(1)
    # exact: even harmonics, averaged around the axis, are polynomials of degree/2 in sin²θ
    powers = np.polynomial.polynomial.polyfit(np.sin(polar) ** 2, averaged, degree // 2)
    return float(powers[1]), float(powers[2]) if degree >= 4 else 0.0


def _upward(vector: np.ndarray) -> list[float]:
    """The direction or its opposite, whichever has a positive largest component."""
    return (vector * np.sign(vector[np.argmax(np.abs(vector))]) + 0.0).tolist()
