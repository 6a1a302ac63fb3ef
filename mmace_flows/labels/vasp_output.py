"""Output of VASP as an engine's result: from the files of a run, or from the task document of one of atomate2's jobs.

Traps that are seen to here: vasprun.xml has no moments, they stand in the OUTCAR; a collinear OUTCAR calls its moments
"magnetization (x)", and they are along VASP's up; those of a non-collinear run are in the frame of SAXIS; the energies
of the last electronic step are the right ones, those behind it mix entropy in differently from version to version;
stress is in kB and of the opposite sign; the atoms are in VASP's order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase.units import GPa

from mmace.errors import UserError
from mmace_flows.labels.collinear import split_moments
from mmace_flows.labels.engine import EngineResult
from mmace_flows.labels.vasp_input import VaspMagnetism, vasp_order
from mmace_flows.schemas.structure import MagneticStructure

KILOBAR = 0.1 * GPa  # eV/Å³


class VaspOutputError(ValueError):
    """Files that do not hold a finished calculation."""


@dataclass
class VaspNumbers:
    """What VASP wrote, in its order of atoms and its units turned to eV, Å, μB. N atoms."""

    symbols: list[str]
    positions: np.ndarray  # [N,3] Å
    cell: np.ndarray  # [3,3] Å
    converged: bool
    free_energy: float
    energy: float  # extrapolated to zero smearing
    forces: np.ndarray  # [N,3]
    stress: np.ndarray | None  # [3,3] ASE's sign
    magmoms: np.ndarray | None  # [N] along VASP's up, or [N,3] in the lab frame; None: no spin
    total_magmom: float | None
    iterations: int
    version: str
    incar: dict[str, Any] = field(default_factory=dict)
    kpoint_grid: list[int] = field(default_factory=list)
    scf_energies: list[float] = field(default_factory=list)
    potcars: list[str] = field(default_factory=list)  # titles, such as "PAW_PBE Fe_pv 02Aug2007"


def read_folder(folder: Path) -> VaspNumbers:
    """vasprun.xml and OUTCAR of a folder (or .gz). Raises VaspOutputError, one line, if they are not complete."""
    import warnings

    from pymatgen.io.vasp.outputs import Outcar, Vasprun

    files = {}
    for name in ("vasprun.xml", "OUTCAR"):
        found = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
        if not found:
            raise VaspOutputError(f"{folder / name}: is missing")
        files[name] = found[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it did not converge, which is told by the result
            run = Vasprun(files["vasprun.xml"], parse_dos=False, parse_eigen=False, parse_potcar_file=False)
            outcar = Outcar(files["OUTCAR"])
    except Exception as error:  # whatever half a file does to a parser
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise VaspOutputError(f"{folder}: output is not complete ({reason})") from error
    if not run.ionic_steps or not run.ionic_steps[-1].get("electronic_steps"):
        raise VaspOutputError(f"{folder}: no finished ionic step in vasprun.xml")
    last = run.ionic_steps[-1]
    structure = run.final_structure
    parameters = {**run.parameters, **run.incar}
    return VaspNumbers(
        symbols=[site.specie.symbol for site in structure],
        positions=structure.cart_coords,
        cell=structure.lattice.matrix,
        converged=bool(run.converged_electronic),
        **_step_numbers(last),
        magmoms=_moments(outcar.magnetization, parameters),
        total_magmom=None if outcar.total_mag is None else float(outcar.total_mag),
        version=str(run.vasp_version),
        incar=dict(run.incar),
        kpoint_grid=[int(number) for number in run.kpoints.kpts[0]],
        potcars=[str(title) for title in run.potcar_symbols],
    )


def read_task(task: Any) -> VaspNumbers:
    """The output of one of atomate2's VASP jobs: a TaskDoc, or the dictionary that a store has of it."""
    document = task if isinstance(task, dict) else task.model_dump()
    try:
        calculation = document["calcs_reversed"][0]
        output, given = calculation["output"], calculation["input"]
        last, structure = output["ionic_steps"][-1], _plain_structure(output["structure"])
        outcar = output.get("outcar") or {}
        parameters = {**(given.get("parameters") or {}), **(given.get("incar") or {})}
        kpoints = given.get("kpoints") or {}
        divisions = (kpoints.get("kpoints") if isinstance(kpoints, dict) else kpoints.kpts) or [[]]
        return VaspNumbers(
            **structure,
            converged=str(document.get("state")).rpartition(".")[2].lower() == "successful",
            **_step_numbers(last),
            magmoms=_task_moments(document, outcar.get("magnetization") or (), parameters),
            total_magmom=outcar.get("total_magnetization"),
            version=str(calculation.get("vasp_version")),
            incar=dict(given.get("incar") or {}),
            kpoint_grid=[int(number) for number in divisions[0]],
        )
    except (KeyError, IndexError, TypeError) as error:
        raise VaspOutputError(f"VASP task document: {type(error).__name__} at {error}; not a finished task") from error


def _task_moments(document: dict[str, Any], sites: Any, parameters: dict[str, Any]) -> np.ndarray | None:
    """Moments of a task document; where it has lost their directions, those of the OUTCAR in its folder.

    The documents of today's atomate2 have a number per moment, also of non-collinear runs: its length with a sign.
    """
    if not _is_noncollinear(parameters) or not sites or all(len(_components(one["tot"])) == 3 for one in sites):
        return _moments(sites, parameters)
    from pymatgen.io.vasp.outputs import Outcar

    folder = Path(str(document.get("dir_name") or "").rpartition(":")[2])
    found = [path for path in (folder / "OUTCAR", folder / "OUTCAR.gz") if path.is_file()]
    if not found:
        raise VaspOutputError(
            "VASP task document: it holds lengths of the moments only, as atomate2 writes them, and there is no OUTCAR "
            f"in its folder {folder} on this machine; convert it where VASP ran"
        )
    return _moments(Outcar(found[0]).magnetization, parameters)


def _is_noncollinear(parameters: dict[str, Any]) -> bool:
    return bool(parameters.get("LNONCOLLINEAR") or parameters.get("LSORBIT"))


def _step_numbers(step: dict[str, Any]) -> dict[str, Any]:
    """Energies, forces and stress of an ionic step."""
    electronic = step["electronic_steps"]
    stress = step.get("stress")
    return {
        "free_energy": float(electronic[-1]["e_fr_energy"]),
        "energy": float(electronic[-1]["e_0_energy"]),
        "forces": np.asarray(step["forces"], dtype=float),
        "stress": None if stress is None else -KILOBAR * np.asarray(stress, dtype=float),
        "iterations": len(electronic),
        "scf_energies": [float(one["e_fr_energy"]) for one in electronic],
    }


def _plain_structure(structure: Any) -> dict[str, Any]:
    from pymatgen.core import Structure

    made = Structure.from_dict(structure) if isinstance(structure, dict) else structure
    return {
        "symbols": [site.specie.symbol for site in made],
        "positions": made.cart_coords,
        "cell": made.lattice.matrix,
    }


def _moments(sites: Any, parameters: dict[str, Any]) -> np.ndarray | None:
    """Atomic moments [N] or, of a non-collinear run, [N,3] in the lab frame; None if the OUTCAR has none."""
    if not sites:
        return None
    vectors = np.array([_components(site["tot"]) for site in sites], dtype=float)
    if not _is_noncollinear(parameters):
        return vectors[:, 0]
    return vectors @ saxis_rotation(parameters.get("SAXIS") or [0, 0, 1]).T


def _components(total: Any) -> list[float]:
    """Of pymatgen's Magmom, its dictionary, a list, or a number."""
    if isinstance(total, dict):
        total = total["moment"]
    if hasattr(total, "global_moment"):  # a Magmom without an axis of its own: components as they were printed
        total = total.moment
    return [float(part) for part in np.atleast_1d(np.asarray(total, dtype=float))]


def saxis_rotation(saxis: Any) -> np.ndarray:
    """R [3,3] with m_lab = R m_VASP: SAXIS is VASP's z, turned there by β about y and then by α about z."""
    x, y, z = (float(part) for part in saxis)
    alpha, beta = np.arctan2(y, x), np.arctan2(np.hypot(x, y), z)
    about_z = np.array([[np.cos(alpha), -np.sin(alpha), 0], [np.sin(alpha), np.cos(alpha), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(beta), 0, np.sin(beta)], [0, 1, 0], [-np.sin(beta), 0, np.cos(beta)]])
    return about_z @ about_y


def fill(
    result: EngineResult,
    numbers: VaspNumbers,
    structure: MagneticStructure,
    magnetism: VaspMagnetism,
    keep_order: bool = False,
) -> None:
    """``result`` for our structure of numbers in VASP's order; with ``keep_order`` ours is VASP's.

    Raises VaspOutputError if they are of another structure.
    """
    order = np.arange(len(structure.symbols)) if keep_order else vasp_order(structure.symbols)
    if numbers.symbols != [structure.symbols[number] for number in order]:
        raise VaspOutputError("VASP's output is of other atoms than its input")
    back = np.argsort(order)
    count = len(order)
    if magnetism.kind != "none" and numbers.magmoms is None:
        raise VaspOutputError("no moments in the OUTCAR; LORBIT must be 11")
    if numbers.magmoms is None or magnetism.kind == "none":
        magmoms = np.zeros((count, 3))
    elif (numbers.magmoms.ndim == 2) != (magnetism.kind == "noncollinear"):
        raise VaspOutputError("VASP's output is collinear where its input is not, or the other way round")
    else:
        magmoms = magnetism.to_lab(numbers.magmoms[back])
    result.converged = True
    result.energy, result.free_energy = numbers.energy, numbers.free_energy
    result.forces = numbers.forces[back]
    result.stress = None if numbers.stress is None else 0.5 * (numbers.stress + numbers.stress.T)
    result.magmoms = magmoms
    result.total_magmom = _total(numbers, magnetism, magmoms)
    result.scf_iterations = numbers.iterations
    result.details = {
        "kind": magnetism.kind,
        "kpoint_grid": numbers.kpoint_grid,
        "vasp_version": numbers.version,
        "scf_energies": numbers.scf_energies,
        "incar": {key: value for key, value in numbers.incar.items() if isinstance(value, str | int | float | bool)},
    }


def _total(numbers: VaspNumbers, magnetism: VaspMagnetism, magmoms: np.ndarray) -> float:
    """Total moment along the moments' axis; of non-collinear runs, whose OUTCAR does not tell it, the spheres' sum."""
    if magnetism.kind == "none":
        return 0.0
    if magnetism.kind == "collinear" and numbers.total_magmom is not None:
        return float(numbers.total_magmom)
    return float(magmoms.sum(axis=0) @ split_moments(magmoms)[1])


def foreign_structure(numbers: VaspNumbers, start: Any = None) -> MagneticStructure:
    """The structure of a run that was not ours, in VASP's order.

    Initial moments: ``start``, the MAGMOM of its INCAR; where that says nothing, VASP's 1 μB is taken, along z.
    Raises UserError for a MAGMOM that does not fit the atoms.
    """
    count = len(numbers.symbols)
    spin = numbers.magmoms is not None
    vectors = spin and numbers.magmoms is not None and numbers.magmoms.ndim == 2
    given = np.asarray(start if start is not None else np.ones(count) * float(spin), dtype=float).ravel()
    if vectors and given.size == 3 * count:
        moments = given.reshape(count, 3) @ saxis_rotation(numbers.incar.get("SAXIS") or [0, 0, 1]).T
    elif given.size == count:
        moments = np.column_stack([np.zeros((count, 2)), given])
    else:
        raise UserError(f"VASP output: MAGMOM has {given.size} numbers for {count} atoms")
    return MagneticStructure(
        symbols=numbers.symbols,
        positions=numbers.positions.tolist(),
        cell=numbers.cell.tolist(),
        magmoms=moments.tolist(),
    )
