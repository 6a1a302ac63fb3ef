"""One GPAW calculation, from a structure with moments to raw numbers in eV, Å and μB."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmace.errors import UserError
from mmace_flows.labels.collinear import OFF_AXIS, collinear_atoms, fixed_total_forces, split_moments
from mmace_flows.labels.engine import EngineResult, in_attempts
from mmace_flows.labels.gpaw_calculator import NOT_INSTALLED, gpaw_calculator
from mmace_flows.labels.gpaw_failures import failures
from mmace_flows.labels.gpaw_processes import attempt_in_processes, gpaw_processes
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.schemas.structure import MagneticStructure


@dataclass
class GPAWEngine:
    """GPAW in its plane-wave mode: spin-paired, collinear or, in LDA, non-collinear."""

    settings: GPAWSettings = field(default_factory=GPAWSettings.small)
    name: str = "gpaw"

    def version(self) -> str:
        """Version of GPAW and of its PAW setups. UserError if GPAW is not there."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            code = version("gpaw")
        except PackageNotFoundError as error:
            raise UserError(NOT_INSTALLED) from error
        try:
            return f"{code} (setups {version('gpaw-data')})"
        except PackageNotFoundError:
            return code

    def settings_dict(self) -> dict[str, Any]:
        """Complete settings, JSON-able."""
        return self.settings.model_dump(mode="json")

    def check(self, structure: MagneticStructure) -> None:
        """Raises UserError for moments that GPAW cannot treat with these settings."""
        if not noncollinear(structure, self.settings):
            collinear_moments(structure.magmoms)

    def run(
        self, structure: MagneticStructure, folder: Path | str, name: str = "gpaw", start_attempt: int = 0
    ) -> EngineResult:
        """Compute one structure; a second attempt with safer iterations if the first does not converge.

        All-zero initial moments give a spin-paired calculation with zero moments. Otherwise the moments' common axis
        becomes GPAW's z and the resulting moments are turned back; positions need no turning, for there is no
        spin–orbit coupling. GPAW's text goes to ``folder/<name>.<attempt>.txt``.
        Moments off one axis, or held in their directions, are a non-collinear calculation in the lab frame.
        Raises UserError for moments that GPAW cannot treat with these settings.
        """
        self.check(structure)
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        processes = gpaw_processes()

        def attempt(settings: GPAWSettings, number: int, result: EngineResult) -> str | None:
            text_file = folder / f"{name}.{number}.txt"
            if processes > 1:
                return attempt_in_processes(structure, settings, text_file, result, processes)
            return one_attempt(structure, settings, text_file, result)

        return in_attempts(self.settings, start_attempt, attempt)


def one_attempt(
    structure: MagneticStructure, settings: GPAWSettings, text_file: Path, result: EngineResult
) -> str | None:
    """One SCF cycle of whatever kind the moments ask for; in all processes alike where there are several.

    Fills ``result`` and returns None, or returns one line that says why it failed.
    """
    if noncollinear(structure, settings):
        from mmace_flows.labels.gpaw_noncollinear import attempt_noncollinear

        return attempt_noncollinear(structure, settings, text_file, result)
    along, axis = collinear_moments(structure.magmoms)
    return _attempt(structure, along, axis, settings, text_file, result)


def noncollinear(structure: MagneticStructure, settings: GPAWSettings) -> bool:
    """Whether a structure is a non-collinear calculation: its moments are off one axis in LDA, or are to be held.

    Raises UserError for both where the settings say that the total moment is held.
    """
    if settings.direction_penalty is not None and np.any(structure.magmoms):
        return True
    if settings.xc != "LDA" or split_moments(structure.magmoms)[2] <= OFF_AXIS:
        return False
    if settings.fix_total_magmom:
        raise UserError("structure: magmoms are not along one axis; fix_total_magmom is for collinear moments")
    return True


def collinear_moments(magmoms: Any) -> tuple[np.ndarray, np.ndarray]:
    """Signed lengths along the common axis, and the axis.

    Parameters: ``magmoms`` [N,3] μB. Returns [N] μB and a unit vector [3] whose largest component is positive.
    Raises UserError for moments that are not along one axis: self-consistent non-collinear PBE is not in GPAW.
    """
    along, axis, off = split_moments(magmoms)
    if off > OFF_AXIS:
        raise UserError(
            f"structure: magmoms are not along one axis (up to {off:.3f} μB off it), which GPAW does in LDA only; "
            "set xc: LDA, use --engine espresso, or give collinear moments"
        )
    return along, axis


def _attempt(
    structure: MagneticStructure,
    along: np.ndarray,
    axis: np.ndarray,
    settings: GPAWSettings,
    text_file: Path,
    result: EngineResult,
) -> str | None:
    """One SCF cycle; fills ``result`` and returns None, or returns one line that says why it failed."""
    atoms = collinear_atoms(structure, along)
    spin_polarised = bool(np.any(along))
    calculator = gpaw_calculator(**settings.to_gpaw(structure.cell, spin_polarised), txt=str(text_file))
    with failures(settings.max_iterations) as reasons:
        energy = float(calculator.get_potential_energy(atoms))
        forces = np.asarray(calculator.get_forces(atoms), dtype=float)
        stress = np.asarray(calculator.get_stress(atoms), dtype=float) if all(structure.pbc) else None
    if reasons:
        return reasons[0]
    if not all(np.all(np.isfinite(one)) for one in (energy, forces, 0.0 if stress is None else stress)):
        return "SCF gave numbers that are not finite"
    lengths = np.zeros(len(atoms))
    if spin_polarised:
        lengths = np.asarray(calculator.get_magnetic_moments(atoms), dtype=float)
    result.converged = True
    result.energy = energy
    result.free_energy = float(calculator.get_potential_energy(atoms, force_consistent=True))
    result.forces = forces
    if stress is not None:  # a box around a molecule has none
        xx, yy, zz, yz, xz, xy = stress  # Voigt order
        pulay = settings.pulay_stress(structure.cell, len(atoms))
        result.stress = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) + pulay * np.eye(3)
    result.magmoms = np.outer(lengths, axis) + 0.0
    result.total_magmom = float(calculator.get_magnetic_moment(atoms)) if spin_polarised else 0.0
    if settings.fix_total_magmom and spin_polarised:
        up, down = (float(level) for level in calculator.get_fermi_levels())
        field = fixed_total_forces(up, down, result.total_magmom, lengths)
        result.magnetic_forces = np.outer(field, axis) + 0.0
    result.scf_iterations = int(calculator.get_number_of_iterations())
    result.details = {
        "kpoint_grid": list(settings.grid(structure.cell)),
        "irreducible_kpoints": len(calculator.get_ibz_k_points()),
        "bands": int(calculator.get_number_of_bands()),
    }
    return None
