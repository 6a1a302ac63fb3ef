"""One calculation with Quantum ESPRESSO's pw.x, from a structure with moments to raw numbers in eV, Å and μB."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmace.errors import UserError
from mmace_flows.labels.collinear import fixed_total_forces
from mmace_flows.labels.engine import EngineResult, in_attempts
from mmace_flows.labels.espresso_input import Plan, magnetism_of, species_of, write_input
from mmace_flows.labels.espresso_output import (
    Failure,
    OutputError,
    PwResult,
    find_failure,
    read_exact_magnetism,
    read_output,
    version_number,
)
from mmace_flows.labels.espresso_program import (
    DISK_FULL,
    espresso_command,
    espresso_version,
    run_program,
    work_folder,
)
from mmace_flows.labels.espresso_settings import EspressoSettings, Pseudopotential
from mmace_flows.labels.pseudopotentials import check_file, choose, file_hash, pseudo_folder
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.moments import common_axis

LEAST_FREE = 2**20  # bytes: a disk with less is full
TARGET_DIGITS = 2e-4  # μB: pw.x prints collinear targets with four digits


@dataclass
class EspressoEngine:
    """pw.x for structures of the elements whose pseudopotentials stand in the settings: see `for_elements`."""

    settings: EspressoSettings
    name: str = field(default="espresso", init=False)

    @classmethod
    def for_elements(cls, settings: EspressoSettings, symbols: Iterable[str] = ()) -> EspressoEngine:
        """The engine for structures of these elements: each with its pseudopotential and the file's hash.

        Only these elements' files come into the settings, so that a label's key depends on nothing that it does not
        need. Without ``symbols``: all elements that the settings name. Raises UserError for a file that is missing,
        broken, made for another functional, or not the one whose hash stands in the settings.
        """
        folder = pseudo_folder()
        resolved: dict[str, Pseudopotential] = {}
        for element in sorted(set(symbols) or set(settings.pseudopotentials)):
            given = settings.pseudopotentials.get(element)
            if given is None:
                path = choose(folder, element, settings.xc, settings.spin_orbit)
            else:
                path = folder / given.file
                check_file(path, element, settings.xc, settings.spin_orbit)
            digest = file_hash(path)
            if given is not None and given.sha256 not in (None, digest):
                raise UserError(
                    f"{path}: is not the pseudopotential that the settings mean (SHA-256 {digest[:12]}…, "
                    f"not {str(given.sha256)[:12]}…); set MMACE_PSEUDO_DIR to the folder that has it"
                )
            resolved[element] = Pseudopotential(file=path.name, sha256=digest)
        return cls(settings.model_copy(update={"pseudopotentials": resolved}))

    def version(self) -> str:
        """Version of pw.x. UserError if it is not there."""
        return espresso_version()

    def settings_dict(self) -> dict[str, Any]:
        """Complete settings with the pseudopotentials' hashes, JSON-able."""
        return self.settings.model_dump(mode="json")

    def check(self, structure: MagneticStructure) -> None:
        """Raises UserError for a structure that pw.x can never treat with these settings."""
        self._plan(structure)

    def run(
        self, structure: MagneticStructure, folder: Path | str, name: str = "espresso", start_attempt: int = 0
    ) -> EngineResult:
        """Compute one structure; a second attempt with safer iterations if the first does not converge.

        All-zero initial moments give a spin-paired calculation with zero moments; moments along one axis a collinear
        one, whose z is that axis and whose moments are turned back (without spin–orbit coupling energies do not depend
        on it); any others a non-collinear one in the lab frame. Input and output stay in
        ``folder/<name>.<attempt>.in`` and ``.out``; all else is removed.
        Raises UserError for a structure that pw.x can never treat, for a pseudopotential that it cannot read, for a
        full disk, and if pw.x is killed: none of these says anything about the structure.
        """
        plan = self._plan(structure)
        folder = Path(folder).absolute()

        def attempt(settings: EspressoSettings, number: int, result: EngineResult) -> str | None:
            tried = Plan(structure, settings, plan.magnetism, plan.headers, plan.version)
            return self._attempt(tried, folder, f"{name}.{number}", result)

        return in_attempts(self.settings, start_attempt, attempt)

    def _plan(self, structure: MagneticStructure) -> Plan:
        cell = np.asarray(structure.cell, dtype=float)
        if not all(structure.pbc) or abs(np.linalg.det(cell)) < 1e-6:
            raise UserError("structure: pw.x needs a cell that is periodic in three directions; put the atoms in a box")
        headers = {}
        for element in sorted(set(structure.symbols)):
            given = self.settings.pseudopotentials.get(element)
            if given is None:
                raise UserError(f"pseudopotentials: none for {element}; make the engine for the structure's elements")
            path = pseudo_folder() / given.file
            headers[element] = check_file(path, element, self.settings.xc, self.settings.spin_orbit)
        magnetism = magnetism_of(structure, self.settings)
        species_of(structure.symbols, magnetism.starts)
        return Plan(structure, self.settings, magnetism, headers, version_number(espresso_version()))

    def _attempt(self, plan: Plan, folder: Path, stem: str, result: EngineResult) -> str | None:
        """One SCF cycle; fills ``result`` and returns None, or returns one line that says why it failed."""
        command, settings = espresso_command(), plan.settings
        files = {element: settings.pseudopotentials[element].file for element in plan.headers}
        prepares = plan.constrained and settings.constraint == "atomic"
        with work_folder(folder, stem) as work:
            for name in files.values():
                os.symlink((pseudo_folder() / name).absolute(), work / name)  # pw.x takes no long or quoted paths
            for part in ("prepare", "pw") if prepares else ("pw",):
                (work / f"{part}.in").write_text(write_input(plan, files, preparing=part == "prepare"))
                status, errors = run_program(command, f"{part}.in", work, work / f"{part}.out")
                text = (work / f"{part}.out").read_text(errors="replace")
                failure = _judge(status, text, errors)
                if failure is not None:
                    if shutil.disk_usage(work).free < LEAST_FREE:  # even the complaint may not have fitted
                        failure = Failure("disk", failure.message)
                    break
            numbers: PwResult | None = None
            if failure is None:
                try:
                    numbers = read_output(text, len(plan.structure.symbols), plan.magnetism.kind)
                    if plan.magnetism.kind == "collinear":
                        read_exact_magnetism(work / "pw.save" / "data-file-schema.xml", numbers)
                    _check_targets(plan, numbers)
                except OutputError as error:
                    failure = Failure("other", str(error))
            for suffix in ("in", "out"):
                os.replace(work / f"{part}.{suffix}", folder / f"{stem}.{suffix}")
        if failure is None and numbers is not None:
            _fill(result, plan, numbers)
            return None
        assert failure is not None
        return _told(failure, plan)


def _judge(status: int, text: str, errors: str) -> Failure | None:
    """The failure that the exit status and the output tell, or None."""
    failure = find_failure(text, errors)
    if status < 0 and (failure is None or failure.reason == "other"):  # a crash in the middle of an iteration
        return Failure("scf", f"pw.x crashed with {signal.Signals(-status).name}")
    if failure is not None and failure.message == "pw.x stopped in the middle":
        lines = [line.strip() for line in errors.splitlines() if line.strip(" -*")]
        return Failure("other", f"pw.x stopped in the middle ({lines[0] if lines else f'status {status}'})")
    return failure


def _told(failure: Failure, plan: Plan) -> str:
    """One line for the label. Raises UserError for what is no property of the structure."""
    if failure.reason == "disk":
        raise UserError(f"pw.x: {failure.message}; {DISK_FULL}")
    if failure.reason == "pseudopotential":
        names = ", ".join(pseudo.file for pseudo in plan.settings.pseudopotentials.values())
        raise UserError(f"pw.x: {failure.message}; pseudopotentials: {names} in {pseudo_folder()}")
    if failure.reason == "scf":
        missed = failure.message.startswith("not converged")
        return f"SCF {failure.message}" if missed else f"SCF broke down: {failure.message}"
    return f"atoms too close: {failure.message}" if failure.reason == "geometry" else f"pw.x: {failure.message}"


def _check_targets(plan: Plan, numbers: PwResult) -> None:
    """Raises OutputError if pw.x held other moments than were asked for."""
    if not plan.constrained or plan.settings.constraint != "atomic" or numbers.targets is None:
        return
    off = float(np.abs(numbers.targets - plan.magnetism.starts).max())
    if off > TARGET_DIGITS:
        raise OutputError(f"pw.x held moments that are {off:.4f} μB off those asked for")


def _fill(result: EngineResult, plan: Plan, numbers: PwResult) -> None:
    settings, magnetism = plan.settings, plan.magnetism
    # Fermi–Dirac and Gaussian occupations: halfway between F and E; the other two are made so that F is E at zero width
    halfway = settings.smearing in ("fermi-dirac", "gaussian")
    count = len(plan.structure.symbols)
    moments = np.zeros((count, 3)) if numbers.magmoms is None else numbers.magmoms
    total = np.zeros(3) if numbers.total_magmom is None else numbers.total_magmom
    result.converged = True
    result.free_energy = numbers.free_energy
    result.energy = numbers.free_energy - (0.5 * numbers.smearing_energy if halfway else 0.0)
    result.forces = numbers.forces
    result.stress = numbers.stress
    result.magmoms = magnetism.to_lab(moments)
    lab_total = magnetism.to_lab(total[None, :])[0]
    axis = common_axis(result.magmoms)
    result.total_magmom = float(lab_total @ (np.array([0.0, 0.0, 1.0]) if axis is None else axis))
    forces = _magnetic_forces(plan, numbers)
    result.magnetic_forces = None if forces is None else magnetism.to_lab(forces)
    result.scf_iterations = numbers.iterations
    result.details = {
        "kind": magnetism.kind,
        "kpoint_grid": list(settings.grid(plan.structure.cell)),
        "irreducible_kpoints": numbers.kpoints,
        "bands": numbers.bands,
        "density_grid": list(numbers.density_grid),
        "sphere_radius": numbers.sphere_radius,
        "scf_energies": numbers.energies,
        "scf_accuracies": numbers.accuracies,
        "total_magmom_vector": lab_total.tolist(),
    }
    if plan.constrained and settings.constraint == "atomic":
        result.details["largest_deviation"] = float(np.abs(moments - magnetism.starts).max())


def _magnetic_forces(plan: Plan, numbers: PwResult) -> np.ndarray | None:
    """Magnetic forces −∂E/∂m [N,3], eV/μB, in pw.x's frame; None where the moments were free.

    pw.x minimises E(m) + P(m) and prints E alone, so that at the moments m that it reaches −∂E/∂m = ∂P/∂m. With
    κ = λ·Ry·s, where s is 1, or Ω/(n1·n2·n3) in bohr³ up to version 7.3.1 (see `Plan.penalty_scale`):

    - 'atomic', P = κ Σ_i |m_i − m0_i|²: −∂E/∂m_i = 2κ (m_i − m0_i), κ in eV/μB²;
    - 'atomic direction', P = κ Σ_i (cos θ_i − cos θ0_i)², cos θ_i = m_iz/|m_i|:
      −∂E/∂m_i = 2κ (cos θ_i − cos θ0_i) (ẑ − cos θ_i m̂_i)/|m_i|, κ in eV;
    - fixed total moment: see `fixed_total_forces`.
    """
    moments, starts = numbers.magmoms, plan.magnetism.starts
    if moments is None:
        return None
    if plan.settings.fix_total_magmom and numbers.fermi_levels is not None and numbers.total_magmom is not None:
        up, down = numbers.fermi_levels
        forces = np.zeros_like(moments)
        forces[:, 2] = fixed_total_forces(up, down, float(numbers.total_magmom[2]), moments[:, 2])
        return forces
    if not plan.constrained:
        return None
    strength = plan.settings.constraint_stiffness / plan.penalty_scale(plan.density_grid())  # λ, eV
    stiffness = strength * plan.penalty_scale(numbers.density_grid)  # κ; the same if pw.x took the grid it was given
    if plan.settings.constraint == "atomic":
        return 2.0 * stiffness * (moments - starts)
    lengths = np.linalg.norm(moments, axis=1, keepdims=True)
    cosines = moments[:, 2:] / lengths
    off = cosines - starts[:, 2:] / np.linalg.norm(starts, axis=1, keepdims=True)
    return 2.0 * stiffness * off * (np.array([0.0, 0.0, 1.0]) - cosines * moments / lengths) / lengths
