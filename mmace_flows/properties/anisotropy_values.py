"""What people ask of an anisotropy: constants in every usual unit, easy directions, field and hardness."""

from __future__ import annotations

from math import gcd, pi, sqrt
from typing import Any, Literal

import numpy as np

from mmace.errors import UserError
from mmace_flows.properties.anisotropy import (
    EV_PER_CUBIC_ANGSTROM,
    Surface,
    cubic_constants,
    fit_surface,
    ring,
    uniaxial_constants,
    upward,
)
from mmace_flows.properties.anisotropy_axes import MagneticAxes, magnetic_axes
from mmace_flows.schemas.anisotropy_entry import AnisotropyValues
from mmace_flows.schemas.document import content_hash
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument
from mmace_flows.schemas.structure import MagneticStructure

POLARIZATION = 11.654_013  # T Å³/μB: μ0 μB
VACUUM = 4e-7 * pi  # μ0, T m/A
LEAST_NET_MOMENT = 0.01  # μB per atom; with less there is no field and no hardness
NO_ANISOTROPY = 1e-7  # eV per atom: a smaller ΔE_A is none
IN_PLANE = 0.1  # share of ΔE_A that the energy may vary around a cone or a plane whose directions count as equal


def values_from_document(document: SpinOrbitDocument, axis: np.ndarray | None = None) -> AnisotropyValues | None:
    """What a stored run of the force theorem says; None where its ground state did not converge.

    ``axis`` [3] of uniaxial constants, of any crystal; default: what its symmetry says, see `values`. The spread of K1
    is what the cut of the bands changes and what the energies lack of the crystal's symmetry.
    Raises UserError for too few directions.
    """
    if document.status != "converged":
        return None
    volume = abs(float(np.linalg.det(np.array(document.structure.cell))))
    lengths = np.array(document.lengths)
    axes = magnetic_axes(document.structure, lengths)
    found = values(
        document.structure,
        lengths,
        np.array(document.directions),
        np.array(document.energies),
        axis=axis,
        axes=axes,
        energy=document.free_energy,
        source=document.spin_orbit_key,
        method={
            "engine": document.engine,
            "engine_version": document.engine_version,
            "settings": content_hash(document.settings),
        },
        created=document.created,
    )
    asymmetry = surface_of(found).asymmetry(axes.turns)
    spread = float(np.hypot(document.band_cut_error or 0.0, asymmetry)) / volume * EV_PER_CUBIC_ANGSTROM
    return found.model_copy(update={"symmetry_error": asymmetry, "spread": spread})


def values(
    structure: MagneticStructure,
    lengths: np.ndarray,
    vectors: np.ndarray,
    energies: np.ndarray,
    *,
    axis: np.ndarray | None = None,
    axes: MagneticAxes | None = None,
    spread: float | None = None,
    energy: float | None = None,
    source: str,
    method: dict[str, Any],
    created: str,
) -> AnisotropyValues:
    """Constants, ends and magnet's figures of N atoms from D directions.

    Parameters: ``lengths`` [N] signed moments, μB; ``vectors`` [D,3] that positive ones point along, ``energies`` [D]
    eV per cell; ``axis`` [3]: uniaxial constants about it, whatever the crystal. Without it the magnetic crystal
    decides: cubic constants, or uniaxial ones about its three-, four- or six-fold axis, or, where it has none, about
    the axis along which the part of degree 2 is most extreme. ``spread`` of K1, MJ/m³; ``energy`` of the structure, eV
    per cell; ``axes`` of the magnetic crystal where they are known.
    Raises UserError for too few directions.
    """
    vectors, energies = np.asarray(vectors, dtype=float), np.asarray(energies, dtype=float)
    if not np.isfinite(energies).all():
        raise UserError(f"anisotropy: {''.join(structure.symbols)}: energies of directions are not finite numbers")
    surface = fit_surface(vectors, energies)
    easy, hard, strength = surface.ends()
    symbols = structure.symbols
    atoms, volume = len(symbols), abs(float(np.linalg.det(np.array(structure.cell))))
    axes = axes or magnetic_axes(structure, lengths)
    symmetry, along, first, second = _constants(surface, vectors, energies, axes, axis)
    if strength < NO_ANISOTROPY * atoms:
        kind: Literal["axis", "plane", "cone", "none"] = "none"
    else:
        kind = "axis" if symmetry == "cubic" else _easy_kind(surface, along, first, second, strength)
    to_people = EV_PER_CUBIC_ANGSTROM / volume
    net = abs(float(np.sum(lengths)))
    polarization = POLARIZATION * net / volume
    k1, magnetic = first * to_people, net >= LEAST_NET_MOMENT * atoms
    units = gcd(*(symbols.count(symbol) for symbol in set(symbols)))
    return AnisotropyValues(
        strength_mev_per_atom=1000.0 * strength / atoms,
        k1=k1,
        k2=second * to_people,
        k1_mev_per_atom=1000.0 * first / atoms,
        k1_mev_per_formula=1000.0 * first / units,
        symmetry=symmetry,
        easy=easy.tolist(),
        hard=hard.tolist(),
        axis=along.tolist(),
        easy_kind=kind,
        degree=surface.degree,
        coefficients=surface.solution[1:].tolist(),
        fit_error=surface.fit_error,
        spread=spread,
        polarization=polarization,
        anisotropy_field=2e6 * k1 * VACUUM / polarization if magnetic else None,
        hardness=sqrt(abs(k1) * 1e6 * VACUUM) / polarization if magnetic else None,
        energy_per_atom=None if energy is None else energy / atoms,
        source=source,
        method=method,
        created=created,
    )


def first_constant(
    structure: MagneticStructure,
    axes: MagneticAxes,
    vectors: np.ndarray,
    energies: np.ndarray,
    axis: np.ndarray | None = None,
) -> float:
    """K1, MJ/m³, as `values` finds it from energies [D], eV per cell, at ``vectors`` [D,3], and nothing else."""
    energies = np.asarray(energies, dtype=float)
    first = _constants(fit_surface(vectors, energies), vectors, energies, axes, axis)[2]
    return first * EV_PER_CUBIC_ANGSTROM / abs(float(np.linalg.det(np.array(structure.cell))))


def _constants(
    surface: Surface, vectors: np.ndarray, energies: np.ndarray, axes: MagneticAxes, axis: np.ndarray | None
) -> tuple[Literal["uniaxial", "cubic"], np.ndarray, float, float]:
    """Symmetry, the axis [3] they are about, and K1 and K2, eV per cell."""
    if axis is None and axes.cubic is not None:
        return "cubic", upward(axes.cubic[0]), *cubic_constants(vectors, energies, axes.cubic)
    given = axes.unique if axis is None else np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    along = surface.quadrupole_axis() if given is None else given
    return "uniaxial", along, *uniaxial_constants(surface, along)


def surface_of(found: AnisotropyValues) -> Surface:
    """The fitted surface again, relative to its mean."""
    return Surface(found.degree, np.array([0.0, *found.coefficients]), found.fit_error)


def _easy_kind(
    surface: Surface, axis: np.ndarray, first: float, second: float, strength: float
) -> Literal["axis", "plane", "cone"]:
    """What the easy directions form, by the least of K1 sin²θ + K2 sin⁴θ; an axis too where a plane is not even."""
    squares = np.array([0.0, 1.0, np.clip(-0.5 * first / second, 0.0, 1.0) if second else 1.0])
    best = float(squares[int(np.argmin(first * squares + second * squares**2))])
    if best == 0.0:
        return "axis"
    around = surface.energies(ring(axis, float(np.arcsin(np.sqrt(best))), 36))
    if np.ptp(around) > IN_PLANE * strength:
        return "axis"
    return "plane" if best == 1.0 else "cone"
