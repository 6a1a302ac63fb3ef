"""Anisotropy by the magnetic force theorem with GPAW: a collinear ground state, then Σ f ε for each direction [B1, B2].

The ground state is converged once, with more bands than are occupied: the spin–orbit operator mixes them, and how many
take part decides the numbers. Bands at the top that are only there for the others' sake do not take part. What remains
of the cut is studied on two probe directions and told as an error, as is the difference of opposite directions, which
would be zero without it. Presets have grids of k-points with Γ, which keep the symmetry of every lattice: what a grid
breaks of it looks like anisotropy.

Energies of directions go to a file as they come, beside the ground state: a run that was killed goes on from there.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, field_validator

import mmace_flows
from mmace.errors import UserError
from mmace_flows.labels.collinear import collinear_atoms
from mmace_flows.labels.gpaw_calculator import gpaw_calculator
from mmace_flows.labels.gpaw_engine import GPAWEngine, collinear_moments
from mmace_flows.labels.gpaw_failures import failures
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.labels.labelling import LabelStore
from mmace_flows.schemas.document import Document
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument, spin_orbit_key
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.directions import angles, directions, from_angles, opposite_pairs
from mmace_flows.structures.moments import magnetic_state

# directions done (0: the ground state begins), of how many, seconds of the last one
Progress = Callable[[int, int, float], None]


class SpinOrbitSettings(Document):
    """Ground state, bands and directions of a force-theorem run."""

    dft: GPAWSettings = Field(description="the collinear ground state; its number of bands is set here")
    directions: str = Field(default="lebedev:50", description="lebedev:N, fibonacci:N or random:N[:SEED]")
    bands: int = Field(default=300, gt=100, description="bands, in per cent of the occupied ones")
    spare_bands: int = Field(default=4, ge=0, description="bands at the top that are not converged and take no part")
    cuts: int = Field(default=3, ge=0, description="smaller numbers of bands that the study of the cut tries")
    probes: tuple[tuple[float, float], tuple[float, float]] = Field(
        default=((0.0, 0.0), (90.0, 0.0)), description="θ, φ (degrees) of the two directions of that study"
    )

    @field_validator("directions")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            directions(value)
        except UserError as error:
            raise ValueError(str(error)) from error
        return value

    @classmethod
    def small(cls, **changes: Any) -> SpinOrbitSettings:
        """Minutes on one core for two atoms; energies good for order and sign."""
        dft = GPAWSettings(cutoff=340.0, kpoint_spacing=0.06, gamma=True, smearing_width=0.05, density_convergence=1e-5)
        return cls(**{"dft": dft, "directions": "lebedev:26", **changes})

    @classmethod
    def paper(cls, **changes: Any) -> SpinOrbitSettings:
        """600 eV and a dense grid."""
        dft = GPAWSettings(cutoff=600.0, kpoint_spacing=0.03, gamma=True, smearing_width=0.05, density_convergence=1e-6)
        return cls(**{"dft": dft, "directions": "lebedev:146", **changes})


def find_or_compute_spin_orbit(
    structure: MagneticStructure,
    settings: SpinOrbitSettings,
    store: LabelStore,
    folder: Path,
    campaign: str | None = None,
    progress: Progress | None = None,
    retry_failed: bool = False,
) -> tuple[SpinOrbitDocument, bool]:
    """The document of a structure, and whether it had to be computed. A new one is stored before this returns.

    What is in the store is not computed again, failed ones included unless ``retry_failed``.
    Raises UserError for a structure without moments or with moments off one axis.
    """
    key = spin_orbit_key(structure, GPAWEngine.name, settings.model_dump(mode="json"))
    found = store.query_one({"spin_orbit_key": key})
    if found is not None and (found["status"] == "converged" or not retry_failed):
        return SpinOrbitDocument.from_store(found), False
    document = run_spin_orbit(structure, settings, folder, campaign, progress)
    store.update([document.model_dump(mode="json")], key="spin_orbit_key")
    return document, True


def run_spin_orbit(
    structure: MagneticStructure,
    settings: SpinOrbitSettings,
    folder: Path,
    campaign: str | None = None,
    progress: Progress | None = None,
) -> SpinOrbitDocument:
    """The document of one structure; resumes in ``folder`` what was finished there. Raises UserError as above."""
    along = check_moments(structure)
    folder.mkdir(parents=True, exist_ok=True)
    given = settings.model_dump(mode="json")
    key = spin_orbit_key(structure, GPAWEngine.name, given)
    started = time.perf_counter()
    document = SpinOrbitDocument(
        spin_orbit_key=key,
        status="failed",
        structure=structure,
        parent=structure.parent_hash(),
        engine=GPAWEngine.name,
        engine_version=GPAWEngine(settings.dft).version(),
        settings=given,
        host=platform.node(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        code_version=mmace_flows.__version__,
        campaign=campaign,
    )
    vectors = directions(settings.directions)
    if progress is not None and not _file(folder / key).exists():
        progress(0, len(vectors), 0.0)
    calculator, error = _ground_state(structure, along, settings, folder / key)
    if calculator is None:
        return document.model_copy(update={"error": error, "wall_seconds": time.perf_counter() - started})
    lengths = np.asarray(calculator.get_magnetic_moments(), dtype=float)
    bands = int(calculator.get_number_of_bands()) - settings.spare_bands
    energies, seconds = _energies(calculator, vectors, bands, folder / f"{key}.directions.jsonl", progress)
    pairs = opposite_pairs(vectors)
    cuts = _band_cuts(calculator, bands, settings)
    differences = list(cuts.values())
    return document.model_copy(
        update={
            "status": "converged",
            "directions": vectors.tolist(),
            "energies": energies.tolist(),
            "lengths": lengths.tolist(),
            "free_energy": float(calculator.get_potential_energy(force_consistent=True)),
            "magnetic_state_reached": magnetic_state(lengths),
            "opposite_error": float(np.abs(energies[pairs[:, 0]] - energies[pairs[:, 1]]).max())
            if len(pairs)
            else None,
            "bands": bands,
            "band_cuts": cuts,
            "band_cut_error": max(differences) - min(differences) if len(differences) > 1 else None,
            "seconds_per_direction": seconds,
            "wall_seconds": time.perf_counter() - started,
        }
    )


def check_moments(structure: MagneticStructure, where: str = "anisotropy") -> np.ndarray:
    """Signed lengths [N], μB, of the initial moments along their axis. Raises UserError without moments or axis."""
    try:
        along, _ = collinear_moments(structure.magmoms)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    if not np.any(along):
        raise UserError(f"{where}: the structure has no moments; give initial moments, small ones at least")
    return along


def _ground_state(
    structure: MagneticStructure, along: np.ndarray, settings: SpinOrbitSettings, path: Path
) -> tuple[Any, str | None]:
    """GPAW's calculator of the converged collinear state, from its file if that is there; or why there is none."""
    file = _file(path)
    if file.exists():
        return gpaw_calculator(str(file), txt=None), None
    error: str | None = None
    for attempt, dft in enumerate((settings.dft, settings.dft.safer())):
        arguments = dft.to_gpaw(structure.cell)
        arguments["nbands"] = f"{settings.bands}%"
        arguments["convergence"]["bands"] = -settings.spare_bands or "all"
        atoms = collinear_atoms(structure, along)
        atoms.calc = gpaw_calculator(**arguments, txt=str(path.with_name(f"{path.name}.{attempt}.txt")))
        with failures(dft.max_iterations) as reasons:
            atoms.get_potential_energy()
        error = reasons[0] if reasons else None
        if error is None:
            half = file.with_name(f"half-{file.name}")  # GPAW goes by the last suffix
            atoms.calc.write(str(half))
            half.replace(file)
            return atoms.calc, None
        if not error.startswith("SCF"):
            break
    return None, error


def _file(path: Path) -> Path:
    """Where the ground state is kept."""
    return path.with_name(f"{path.name}.gpw")


def _energies(
    calculator: Any, vectors: np.ndarray, bands: int, file: Path, progress: Progress | None
) -> tuple[np.ndarray, float | None]:
    """Σ f ε [D], eV, of all directions, those in ``file`` read from there; and the mean time of those computed now."""
    energies = np.full(len(vectors), np.nan)
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):  # a line that a kill has cut is computed again
            index, energy = json.loads(line)
            energies[index] = energy
    complete = text[: text.rfind("\n") + 1]
    if complete != text:
        file.write_text(complete, encoding="utf-8")
    turned = angles(vectors)
    spent: list[float] = []
    with file.open("a", encoding="utf-8") as lines:
        for index in np.flatnonzero(np.isnan(energies)):
            started = time.perf_counter()
            energies[index] = _band_energy(calculator, bands, *turned[index])
            spent.append(time.perf_counter() - started)
            lines.write(json.dumps([int(index), float(energies[index])]) + "\n")
            lines.flush()
            if progress is not None:
                progress(int(np.isfinite(energies).sum()), len(energies), spent[-1])
    return energies, float(np.mean(spent)) if spent else None


def _band_cuts(calculator: Any, bands: int, settings: SpinOrbitSettings) -> dict[str, float]:
    """Energy between the two probe directions with fewer and fewer bands, eV; all bands come last."""
    occupied = -(-round(calculator.wfs.nvalence) // 2)
    numbers = np.unique(np.linspace(occupied + (bands - occupied) // 2, bands, settings.cuts + 1).astype(int))
    first, second = (angles(from_angles(*probe)[None])[0] for probe in settings.probes)
    return {
        str(number): _band_energy(calculator, int(number), *second) - _band_energy(calculator, int(number), *first)
        for number in numbers
    }


def _band_energy(calculator: Any, bands: int, theta: float, phi: float) -> float:
    """Σ f ε of one direction (degrees), eV per cell."""
    from gpaw.spinorbit import soc_eigenstates

    return float(soc_eigenstates(calculator, 0, bands, theta=theta, phi=phi).calculate_band_energy())
