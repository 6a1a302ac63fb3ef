"""What pw.x wrote: energies, forces, stress, moments of every site, and why it stopped if it did."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from ase.units import Bohr, Hartree, Rydberg

NUMBER = r"[-+]?\d+\.?\d*(?:[EeDd][-+]?\d+)?"
Reason = Literal["scf", "geometry", "pseudopotential", "disk", "other"]


@dataclass
class PwResult:
    """Numbers of a converged calculation, in eV, Å and μB, vectors in pw.x's frame. N atoms."""

    free_energy: float  # eV, without the penalty of a constraint
    smearing_energy: float  # −TS, eV
    forces: np.ndarray  # [N,3] eV/Å
    stress: np.ndarray  # [3,3] eV/Å³, ASE's sign: the negative of what pw.x prints
    iterations: int
    energies: list[float]  # eV, of each iteration
    accuracies: list[float]  # eV, estimated error of each iteration
    magmoms: np.ndarray | None = None  # [N,3] μB within the spheres; None where spin-paired
    targets: np.ndarray | None = None  # [N,3] μB that the penalty aims at, if pw.x says it
    total_magmom: np.ndarray | None = None  # [3] μB of the cell
    fermi_levels: tuple[float, float] | None = None  # eV, spin up and down, where the total moment is fixed
    density_grid: tuple[int, int, int] = (0, 0, 0)
    sphere_radius: float | None = None  # Å, of the largest sphere that moments are integrated in
    kpoints: int = 0
    bands: int = 0


@dataclass(frozen=True)
class Failure:
    """Why pw.x gave no numbers."""

    reason: Reason
    message: str = field(default="")


class OutputError(ValueError):
    """A text that is no complete output of pw.x."""


def read_version(text: str) -> str | None:
    """pw.x's version, such as 6.7MaX, or None if the text is not pw.x's."""
    found = re.search(r"Program PWSCF v\.?(\S+)", text)
    return found.group(1) if found else None


def version_number(version: str) -> tuple[int, ...]:
    """6.7MaX as (6, 7), 7.3.1 as (7, 3, 1)."""
    return tuple(int(part) for part in re.findall(r"\d+", version.split("MaX")[0])[:3])


def find_failure(text: str, errors: str = "") -> Failure | None:
    """What went wrong, by the output and the error stream; None if the calculation converged and ended."""
    if re.search(r"no space left on device|disk quota exceeded", text + errors, re.IGNORECASE):
        return Failure("disk", "no space left on the disk")
    found = re.search(r"Error in routine\s+(\S.*?)\s*\(\s*-?\d+\):\s*\n\s*(.*)", text + "\n" + errors)
    if found:
        routine, message = found.group(1), " ".join(found.group(2).split())
        said = f"{message} ({routine})"
        words = f"{routine} {message}".lower()
        if any(word in words for word in ("upf", "readpp", "read_ps", "pseudo")):
            return Failure("pseudopotential", said)
        if "overlap" in words and "atom" in words:
            return Failure("geometry", said)
        if any(word in words for word in ("cdiaghg", "rdiaghg", "c_bands", "bands", "charge is wrong", "cholesky")):
            return Failure("scf", said)
        if any(word in words for word in ("davcio", "diropn", "write", "open")):
            return Failure("disk", said)
        return Failure("other", said)
    missed = re.search(r"convergence NOT achieved after\s+(\d+) iterations", text)
    if missed:
        return Failure("scf", f"not converged in {missed.group(1)} iterations")
    if "JOB DONE" not in text:
        return Failure("other", "pw.x stopped in the middle")
    return None


def read_output(text: str, num_atoms: int, kind: str) -> PwResult:
    """Numbers of a converged calculation of ``num_atoms`` atoms.

    Parameters: ``kind`` is "spin-paired", "collinear" or "non-collinear". Raises OutputError if something is missing
    or not finite.
    """
    energy = _last(rf"(?m)^!\s+total energy\s+=\s+({NUMBER}) Ry", text, "total energy")
    result = PwResult(
        free_energy=energy * Rydberg,
        smearing_energy=_last(rf"smearing contrib\. \(-TS\)\s+=\s+({NUMBER}) Ry", text, "-TS") * Rydberg,
        forces=_forces(text, num_atoms) * Rydberg / Bohr,
        stress=-_stress(text) * Rydberg / Bohr**3,
        iterations=int(_last(r"convergence has been achieved in\s+(\d+) iterations", text, "iterations")),
        energies=[float(e) * Rydberg for e in re.findall(rf"(?m)^\s+total energy\s+=\s+({NUMBER}) Ry", text)],
        accuracies=[float(e) * Rydberg for e in re.findall(rf"estimated scf accuracy\s+<\s+({NUMBER}) Ry", text)],
        kpoints=int(_last(r"number of k points=\s+(\d+)", text, "k-points")),
        bands=int(_last(r"number of Kohn-Sham states=\s+(\d+)", text, "bands")),
    )
    grid = re.search(r"Dense\s+grid:.*FFT dimensions: \(\s*(\d+),\s*(\d+),\s*(\d+)\)", text)
    if grid is None:
        raise OutputError("pw.x's output has no grid of the density")
    result.density_grid = (int(grid.group(1)), int(grid.group(2)), int(grid.group(3)))
    radii = [float(radius) * Bohr for radius in re.findall(r"new r_m :.*?\(alat units\)\s+([\d.]+) \(a\.u\.\)", text)]
    result.sphere_radius = max(radii) if radii else None
    if kind == "collinear":
        result.magmoms, result.targets = _collinear_moments(text, num_atoms)
        total = _last(rf"total magnetization\s+=\s+({NUMBER}) Bohr", text, "total magnetization")
        result.total_magmom = np.array([0.0, 0.0, total])
    elif kind == "non-collinear":
        result.magmoms, result.targets = _vector_moments(text, num_atoms)
        totals = re.findall(rf"total magnetization\s+=\s+({NUMBER})\s+({NUMBER})\s+({NUMBER}) Bohr", text)
        # a spinor calculation without moments has no magnetisation to print
        result.total_magmom = np.array([float(x) for x in totals[-1]]) if totals else np.zeros(3)
    numbers = [result.free_energy, result.smearing_energy, *result.forces.flat, *result.stress.flat]
    if not np.all(np.isfinite(numbers)):
        raise OutputError("pw.x gave numbers that are not finite")
    return result


def read_exact_magnetism(path: Path, result: PwResult) -> None:
    """Put what pw.x's XML file has with all digits into ``result``: total moment, Fermi levels. Collinear only."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise OutputError(f"pw.x's XML file cannot be read ({error})") from error
    if int(root.findtext(".//output/convergence_info/scf_conv/n_scf_steps", "0")) != result.iterations:
        raise OutputError("pw.x's XML file belongs to another run than its output")
    if root.findtext(".//output/magnetization/lsda") == "true":
        result.total_magmom = np.array([0.0, 0.0, float(root.findtext(".//output/magnetization/total", "nan"))])
    levels = root.findtext(".//output/band_structure/two_fermi_energies")
    if levels:
        up, down = (float(level) * Hartree for level in levels.split())
        result.fermi_levels = (up, down)


def _last(pattern: str, text: str, what: str) -> float:
    found = re.findall(pattern, text)
    if not found:
        raise OutputError(f"pw.x's output has no {what}")
    return float(found[-1].replace("D", "E").replace("d", "e"))


def _forces(text: str, num_atoms: int) -> np.ndarray:
    """[N,3] Ry/bohr. The first block after the heading is the sum; parts of it may follow."""
    _, heading, rest = text.rpartition("Forces acting on atoms")
    rows = re.findall(rf"atom\s+(\d+)\s+type\s+\d+\s+force =\s*({NUMBER})\s*({NUMBER})\s*({NUMBER})", rest)
    rows = rows[:num_atoms]
    if not heading or [int(row[0]) for row in rows] != list(range(1, num_atoms + 1)):
        raise OutputError("pw.x's output has no forces of all atoms")
    return np.array([row[1:] for row in rows], dtype=float)


def _stress(text: str) -> np.ndarray:
    """[3,3] Ry/bohr³, pw.x's sign."""
    _, heading, rest = text.rpartition("total   stress  (Ry/bohr**3)")
    rows = [line.split()[:3] for line in rest.splitlines()[1:4]]
    try:
        stress = np.array(rows, dtype=float)
    except ValueError as error:
        raise OutputError("pw.x's output has no stress") from error
    if not heading or stress.shape != (3, 3):
        raise OutputError("pw.x's output has no stress")
    return stress


def _collinear_moments(text: str, num_atoms: int) -> tuple[np.ndarray, np.ndarray]:
    rows = re.findall(rf"atom:\s+(\d+)\s+charge:\s+{NUMBER}\s+magn:\s+({NUMBER})\s+constr:\s+({NUMBER})", text)
    rows = rows[-num_atoms:]
    if [int(row[0]) for row in rows] != list(range(1, num_atoms + 1)):
        raise OutputError("pw.x's output has no moment for every site")
    moments, targets = np.zeros((num_atoms, 3)), np.zeros((num_atoms, 3))
    moments[:, 2] = [float(row[1]) for row in rows]
    targets[:, 2] = [float(row[2]) for row in rows]
    return moments, targets


def _vector_moments(text: str, num_atoms: int) -> tuple[np.ndarray, np.ndarray | None]:
    blocks = re.split(r"atom number\s+(\d+)\s+relative position", text)[1:]
    pairs = list(zip(blocks[::2], blocks[1::2], strict=True))[-num_atoms:]
    if not pairs:
        return np.zeros((num_atoms, 3)), None  # a spinor calculation without moments
    if [int(number) for number, _ in pairs] != list(range(1, num_atoms + 1)):
        raise OutputError("pw.x's output has no moment for every site")
    moments, targets = [], []
    for _, block in pairs:
        moment = _vector(r"magnetization\s*:", block)
        if moment is None:
            raise OutputError("pw.x's output has no moment for every site")
        moments.append(moment)
        targets.append(_vector(r"constrained moment\s*:", block))
    found = [target for target in targets if target is not None]
    return np.array(moments), np.array(found) if len(found) == num_atoms else None


def _vector(heading: str, text: str) -> list[float] | None:
    found = re.search(rf"{heading}\s*({NUMBER})\s*({NUMBER})\s*({NUMBER})", text)
    return None if found is None else [float(value) for value in found.groups()]
