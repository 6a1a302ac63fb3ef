"""Self-consistent non-collinear GPAW: LDA, moments in the lab frame, their directions held or free.

Directions are held by GPAW's own penalty P = λ Σ_i (|m_i|² − (m_i·u_i)²) on the moments within the spheres. Its energy
is not in GPAW's total, so that at the moments that are reached −∂E/∂m_i = ∂P/∂m_i = 2λ (m_i − u_i (m_i·u_i)).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmace_flows.labels.collinear import split_moments
from mmace_flows.labels.engine import EngineResult
from mmace_flows.labels.gpaw_calculator import gpaw_calculator
from mmace_flows.labels.gpaw_failures import failures
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.moments import NONMAGNETIC_BELOW


def attempt_noncollinear(
    structure: MagneticStructure, settings: GPAWSettings, text_file: Path, result: EngineResult
) -> str | None:
    """One SCF cycle; fills ``result`` and returns None, or returns one line that says why it failed.

    There is no stress: GPAW has none for non-collinear densities. Atoms that start without a moment are free.
    """
    moments = np.asarray(structure.magmoms, dtype=float)
    targets = held_directions(moments) if settings.direction_penalty is not None else {}
    atoms = structure.to_atoms()
    atoms.set_initial_magnetic_moments(None)  # they are given to GPAW itself, as vectors
    calculator = gpaw_calculator(**arguments(structure, settings, targets), txt=str(text_file))
    with failures(settings.max_iterations) as reasons:
        energy = float(calculator.get_potential_energy(atoms))
        forces = np.asarray(calculator.get_forces(atoms), dtype=float)
    if reasons:
        return reasons[0]
    if not (np.isfinite(energy) and np.all(np.isfinite(forces))):
        return "SCF gave numbers that are not finite"
    total, reached = (np.asarray(one, dtype=float) for one in calculator.dft.magmoms())
    result.converged = True
    result.energy = energy
    result.free_energy = float(calculator.get_potential_energy(atoms, force_consistent=True))
    result.forces = forces
    result.magmoms = reached
    result.total_magmom = float(total @ split_moments(reached)[1])
    if targets and settings.direction_penalty is not None:
        result.magnetic_forces = direction_forces(reached, targets, settings.direction_penalty)
    result.scf_iterations = int(calculator.get_number_of_iterations())
    result.details = {
        "kind": "noncollinear",
        "kpoint_grid": list(settings.grid(structure.cell)),
        "irreducible_kpoints": len(calculator.get_ibz_k_points()),
        "bands": int(calculator.get_number_of_bands()),
        "total_magmom_vector": total.tolist(),
    }
    if targets:
        result.details["largest_angle_off"] = largest_angle_off(reached, targets)
    return None


def arguments(structure: MagneticStructure, settings: GPAWSettings, targets: dict[int, np.ndarray]) -> dict[str, Any]:
    """Keyword arguments of ``gpaw.GPAW``: those of a collinear run, with vectors, bands of spinors, no symmetry."""
    made = settings.to_gpaw(structure.cell)
    made |= {"magmoms": np.asarray(structure.magmoms, dtype=float), "symmetry": "off"}
    if isinstance(settings.bands, int):
        made["nbands"] = 2 * settings.bands  # of spinors, where it was of each spin
    if targets:
        made["extensions"] = [
            {
                "name": "spin_direction_constraint",
                "constraint": {atom: direction.tolist() for atom, direction in targets.items()},
                "penalty": settings.direction_penalty,
            }
        ]
    return made


def held_directions(moments: np.ndarray) -> dict[int, np.ndarray]:
    """Atom → unit vector [3] that its moment is held along, of the atoms that start with one. ``moments`` [N,3] μB."""
    lengths = np.linalg.norm(moments, axis=1)
    return {int(atom): moments[atom] / lengths[atom] for atom in np.flatnonzero(lengths >= NONMAGNETIC_BELOW)}


def direction_forces(moments: np.ndarray, targets: dict[int, np.ndarray], penalty: float) -> np.ndarray:
    """Magnetic forces −∂E/∂m [N,3], eV/μB, of moments [N,3] μB under the penalty λ, eV/μB²; zero where free."""
    forces = np.zeros_like(moments)
    for atom, direction in targets.items():
        forces[atom] = 2.0 * penalty * (moments[atom] - direction * (moments[atom] @ direction))
    return forces


def largest_angle_off(moments: np.ndarray, targets: dict[int, np.ndarray]) -> float:
    """Degrees between a moment and where it is held, the largest."""
    angles = [0.0]
    for atom, direction in targets.items():
        length = float(np.linalg.norm(moments[atom]))
        if length > 0.0:
            angles.append(float(np.degrees(np.arccos(np.clip(moments[atom] @ direction / length, -1.0, 1.0)))))
    return max(angles)
