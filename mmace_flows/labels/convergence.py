"""Convergence of DFT in cutoff, density of k-points and smearing, judged by what matters for a potential.

Differences of energies between structures, forces, stress, moments and the anisotropy are held against those of the
finest value of a scan. Absolute energies, which converge much later and cancel, play no part. One parameter is scanned
after the other, the others at the best known so far; every point is a set of labels in the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from mmace.errors import UserError
from mmace_flows.labels.convergence_settings import (
    PARAMETERS,
    QUANTITIES,
    ConvergenceSettings,
    Parameter,
    Quantity,
    Value,
    checked,
    fields_of,
)
from mmace_flows.schemas.document import Document
from mmace_flows.schemas.label import LabelDocument
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument
from mmace_flows.schemas.structure import Candidate
from mmace_flows.structures.distort import DistortSettings, distort

DISTORTED = "compressed and displaced"
MOMENTS_KEPT = 0.3  # μB: a larger change of a moment is another state, not another precision


class PointResults(Document):
    """What one setting gave for P structures and S structures with spin–orbit coupling."""

    labels: list[LabelDocument] = Field(default=[], description="[P] labels, failed ones included")
    spin_orbit: list[SpinOrbitDocument] = Field(default=[], description="[S] energies of directions")

    @property
    def documents(self) -> list[LabelDocument | SpinOrbitDocument]:
        """All of them."""
        return [*self.labels, *self.spin_orbit]


class ConvergencePoint(Document):
    """One value of one parameter, against the finest value of the scan."""

    value: Value = Field(description="eV, Å⁻¹, or a grid")
    settings: dict[str, Any] = Field(description="complete settings of the engine")
    label_keys: list[str] = Field(description="[P] labels in the store")
    spin_orbit_keys: list[str] = Field(default=[])
    differences: list[float] = Field(
        default=[], description="free energy of each structure above the first one of its composition, eV per atom"
    )
    anisotropies: list[float] = Field(default=[], description="E(x) − E(z), eV per atom")
    total_energies: list[float] = Field(default=[], description="[P] free energies, eV per atom")
    errors: dict[Quantity, float] = Field(
        default={}, description="largest deviation from the finest value; energy: of the differences"
    )
    other_state: list[int] = Field(default=[], description="structures whose moments are another state's")
    failed: str | None = Field(default=None, description="why a structure did not converge, one line")
    seconds: float = Field(default=0.0, description="of all calculations of this point")
    grid: list[int] = Field(default=[], description="k-point grid of the first structure")


class ConvergenceScan(Document):
    """One parameter from coarse to fine."""

    parameter: Parameter
    points: list[ConvergencePoint]
    chosen: int = Field(description="the coarsest point from which on all are within tolerance")
    shown: bool = Field(description="false: only the finest value is left, which nothing shows to be converged")

    @property
    def best(self) -> ConvergencePoint:
        """The chosen point."""
        return self.points[self.chosen]


class ConvergenceStudy(Document):
    """All scans and what is recommended."""

    settings: ConvergenceSettings
    structures: list[str] = Field(description="[P] what the structures are")
    scans: list[ConvergenceScan]
    recommended: dict[str, Any] = Field(description="complete settings of the engine")
    errors: dict[Quantity, float] = Field(description="sum of the chosen points' errors over the scans")
    engine_version: str = ""
    cutoff_slope: float | None = Field(
        default=None, description="dE/dcutoff at the recommended cutoff, eV per eV and atom; see GPAWSettings"
    )

    @property
    def converged(self) -> bool:
        """Whether every scan has shown that its chosen value is within tolerance."""
        return all(scan.shown for scan in self.scans)


def probes(starts: Sequence[Candidate], volume: float = 0.94, displacement: float = 0.05) -> list[Candidate]:
    """The structures whose differences are followed: ``starts``, and of each composition's first one a copy at
    ``volume`` times its volume with atoms displaced by a Gaussian of ``displacement`` Å (none if both change nothing).
    """
    made = list(starts)
    if volume == 1.0 and displacement == 0.0:
        return made
    # 0.5 Å: distances are the crystal's own, and short ones are no reason to draw again
    settings = DistortSettings(volume_scale=(volume, volume), displacement=displacement, minimum_distance=0.5)
    for number in sorted(_firsts([one.structure.symbols for one in starts]).values()):
        first = starts[number]
        kept: dict[str, Any] = {
            name: first.details[name] for name in ("configuration", "base") if name in first.details
        }
        made.append(distort(first.structure, 0, settings, operation=DISTORTED, details=kept))
    return made


def spin_orbit_probes(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those of the structures whose anisotropy is followed: as given, with moments."""
    return [
        one for one in candidates if one.operation != DISTORTED and np.abs(one.structure.magmoms).max(initial=0.0) > 0.0
    ]


def check_probes(settings: ConvergenceSettings, candidates: Sequence[Candidate]) -> None:
    """Raises UserError where a quantity cannot be judged by these structures."""
    compositions = _firsts([one.structure.symbols for one in candidates])
    if "energy" in settings.quantities and len(compositions) == len(candidates):
        raise UserError(
            "convergence: energies are compared between structures of one composition; give a second structure, "
            "another state, or a volume other than 1"
        )
    if settings.anisotropy and not spin_orbit_probes(candidates):
        raise UserError("convergence: anisotropy needs moments; give initial moments or the state fm")


def next_scan(
    settings: ConvergenceSettings, done: Sequence[ConvergenceScan]
) -> tuple[Parameter, list[tuple[Value, dict[str, Any]]]] | None:
    """The parameter to scan after ``done``, and each of its values with complete settings; None at the end."""
    present = present_settings(settings, done)
    for parameter in PARAMETERS:
        values = settings.values(parameter)
        if len(values) > 1 and parameter not in {scan.parameter for scan in done}:
            return parameter, [
                (value, checked(settings.engine, present | fields_of(parameter, value))) for value in values
            ]
    return None


def present_settings(settings: ConvergenceSettings, done: Sequence[ConvergenceScan]) -> dict[str, Any]:
    """The best settings known after the scans that are done."""
    present = settings.start()
    for scan in done:
        present |= fields_of(scan.parameter, scan.best.value)
    return present


def judge(
    settings: ConvergenceSettings, parameter: Parameter, results: Sequence[tuple[Value, dict[str, Any], PointResults]]
) -> ConvergenceScan:
    """The scan of results from coarse to fine: errors against the finest point that converged, and the choice.

    Raises UserError if no point has all its labels.
    """
    points = [_point(value, dft, result) for value, dft, result in results]
    good = [number for number, point in enumerate(points) if point.failed is None]
    if not good:
        raise UserError(f"convergence: no value of {parameter} gave labels of all structures: {points[-1].failed}")
    for number in good:
        points[number].errors, points[number].other_state = _errors(results[number][2], results[good[-1]][2])
    chosen = good[-1]
    while chosen > 0 and _within(settings, points[chosen - 1]):
        chosen -= 1
    return ConvergenceScan(parameter=parameter, points=points, chosen=chosen, shown=chosen < good[-1])


def summarise(
    settings: ConvergenceSettings, names: Sequence[str], scans: Sequence[ConvergenceScan], engine_version: str = ""
) -> ConvergenceStudy:
    """The study of all its scans."""
    errors = {
        name: sum(scan.best.errors.get(name, 0.0) for scan in scans)
        for name in QUANTITIES
        if any(name in scan.best.errors for scan in scans)
    }
    return ConvergenceStudy(
        settings=settings,
        structures=list(names),
        scans=list(scans),
        recommended=present_settings(settings, scans),
        errors=errors,
        engine_version=engine_version,
        cutoff_slope=_slope(scans),
    )


def _point(value: Value, dft: dict[str, Any], result: PointResults) -> ConvergencePoint:
    bad = [one.error or "not converged" for one in result.documents if one.status == "failed"]
    point = ConvergencePoint(
        value=value,
        settings=dft,
        label_keys=[label.label_key for label in result.labels],
        spin_orbit_keys=[one.spin_orbit_key for one in result.spin_orbit],
        failed=bad[0] if bad else None,
        seconds=sum(one.wall_seconds or 0.0 for one in result.documents),
    )
    grids = [label.details.get("kpoint_grid") for label in result.labels]
    if grids and grids[0]:
        point.grid = [int(number) for number in grids[0]]
    if bad:
        return point
    per_atom = [float(label.free_energy or 0.0) / len(label.structure.symbols) for label in result.labels]
    firsts = _firsts([label.structure.symbols for label in result.labels])
    point.total_energies = per_atom
    point.differences = [
        energy - per_atom[firsts[_composition(label.structure.symbols)]]
        for energy, label in zip(per_atom, result.labels, strict=True)
    ]
    point.anisotropies = [anisotropy_of(document) for document in result.spin_orbit]
    return point


def _errors(result: PointResults, finest: PointResults) -> tuple[dict[Quantity, float], list[int]]:
    """Largest deviations from the finest point, and the structures that are in another magnetic state."""
    errors: dict[Quantity, float] = {}
    other = []
    if result.labels:
        here, there = (_point(0.0, {}, one).differences for one in (result, finest))
        errors["energy"] = float(np.abs(np.subtract(here, there)).max())
        forces, stresses, moments = [], [], []
        for number, (one, best) in enumerate(zip(result.labels, finest.labels, strict=True)):
            forces.append(float(np.abs(np.subtract(one.forces, best.forces)).max()))  # type: ignore[arg-type]
            if one.stress is not None and best.stress is not None:
                stresses.append(float(np.abs(np.subtract(one.stress, best.stress)).max()))
            mine, its = np.asarray(one.magmoms), np.asarray(best.magmoms)
            # all moments reversed are the same state
            moments.append(float(min(np.abs(mine - its).max(), np.abs(mine + its).max())))
            if moments[-1] > MOMENTS_KEPT or one.magnetic_state_reached != best.magnetic_state_reached:
                other.append(number)
        errors |= {"forces": max(forces), "moments": max(moments)}
        if stresses:
            errors["stress"] = max(stresses)
    if result.spin_orbit:
        pairs = zip(result.spin_orbit, finest.spin_orbit, strict=True)
        errors["anisotropy"] = max(abs(anisotropy_of(one) - anisotropy_of(best)) for one, best in pairs)
    return errors, other


def anisotropy_of(document: SpinOrbitDocument) -> float:
    """E(x) − E(z), eV per atom, each the mean over both ways along the axis."""
    vectors, energies = np.asarray(document.directions), np.asarray(document.energies)
    along = [float(energies[np.abs(vectors[:, axis]) > 1.0 - 1e-6].mean()) for axis in (0, 2)]
    return (along[0] - along[1]) / len(document.structure.symbols)


def _within(settings: ConvergenceSettings, point: ConvergencePoint) -> bool:
    return point.failed is None and all(
        point.errors[name] <= settings.tolerances[name] for name in settings.quantities if name in point.errors
    )


def _slope(scans: Sequence[ConvergenceScan]) -> float | None:
    """dE/dcutoff between the neighbours of the chosen cutoff, mean over the structures."""
    for scan in scans:
        if scan.parameter != "cutoff":
            continue
        near = [one for one in scan.points[max(0, scan.chosen - 1) : scan.chosen + 2] if one.total_energies]
        if len(near) < 2:
            return None
        rise = np.mean(near[-1].total_energies) - np.mean(near[0].total_energies)
        return float(rise / (float(near[-1].value) - float(near[0].value)))  # type: ignore[arg-type]
    return None


def _composition(symbols: Sequence[str]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted((element, count / len(symbols)) for element, count in Counter(symbols).items()))


def _firsts(structures: Sequence[Sequence[str]]) -> dict[tuple[tuple[str, float], ...], int]:
    """Number of the first structure of each composition."""
    firsts: dict[tuple[tuple[str, float], ...], int] = {}
    for number, symbols in enumerate(structures):
        firsts.setdefault(_composition(symbols), number)
    return firsts


def candidate_name(candidate: Candidate) -> str:
    """A structure of the study in a few words."""
    formula = "".join(
        f"{element}{count if count > 1 else ''}" for element, count in Counter(candidate.structure.symbols).items()
    )
    where = candidate.details.get("configuration")
    words = [formula, candidate.magnetic_state, *([f"configuration {where}"] if where is not None else [])]
    return " ".join([*words, *([DISTORTED] if candidate.operation == DISTORTED else [])])
