"""Equations of state of one crystal by several engines: lattice constant, bulk modulus, moment against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jobflow import Job, Maker, job
from pydantic import Field

from mmace.errors import UserError
from mmace_flows.schemas.document import Document
from mmace_flows.schemas.label import LabelDocument

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GPA = 160.21766208  # GPa in an eV/Å³
LEAST_POINTS = 5  # Birch and Murnaghan's form has four constants


class EquationOfState(Document):
    """Birch and Murnaghan's form through energies of one crystal at several volumes. V volumes, per atom."""

    engine: str
    volumes: list[float] = Field(description="[V] Å³ per atom")
    energies: list[float] = Field(description="[V] free energies, eV per atom")
    moments: list[float] = Field(description="[V] total moment of the cell, μB per atom")
    volume: float = Field(description="of the lowest energy, Å³ per atom")
    energy: float = Field(description="lowest, eV per atom")
    bulk_modulus: float = Field(description="GPa")
    moment: float = Field(description="at the volume of the lowest energy, μB per atom")
    rms: float = Field(description="of the fit, eV per atom")

    def lattice_constant(self, atoms_per_cube: int) -> float:
        """Å, of the cubic cell with so many atoms (bcc 2, fcc 4)."""
        return float((atoms_per_cube * self.volume) ** (1.0 / 3.0))


def equation_of_state(documents: Sequence[LabelDocument]) -> EquationOfState:
    """Of converged labels of one crystal, others left out. Raises UserError with too few, or without a minimum."""
    from ase.eos import EquationOfState as Fit
    from ase.eos import birchmurnaghan

    good = [one for one in documents if one.free_energy is not None]
    if len(good) < LEAST_POINTS:
        raise UserError(
            f"equation of state: {len(good)} labels of {len(documents)} converged; at least {LEAST_POINTS} are needed"
        )
    volumes, energies, moments = np.array([_per_atom(one) for one in sorted(good, key=lambda one: _per_atom(one)[0])]).T
    fit = Fit(volumes, energies, eos="birchmurnaghan")
    try:
        volume, energy, modulus = fit.fit(warn=False)
    except (RuntimeError, ValueError) as error:  # scipy found no fit, or no minimum
        raise UserError(
            f"equation of state: no minimum in {volumes[0]:.2f} to {volumes[-1]:.2f} Å³ per atom"
        ) from error
    if not volumes[0] < volume < volumes[-1]:
        raise UserError(
            f"equation of state: the minimum, {volume:.2f} Å³ per atom, is not in {volumes[0]:.2f} to {volumes[-1]:.2f}"
        )
    rms = float(np.sqrt(np.mean((birchmurnaghan(volumes, *fit.eos_parameters) - energies) ** 2)))
    return EquationOfState(
        engine=good[0].engine,
        volumes=volumes.tolist(),
        energies=energies.tolist(),
        moments=moments.tolist(),
        volume=float(volume),
        energy=float(energy),
        bulk_modulus=float(modulus) * GPA,
        moment=float(np.interp(volume, volumes, moments)),
        rms=rms,
    )


def _per_atom(document: LabelDocument) -> tuple[float, float, float]:
    count = len(document.structure.symbols)
    volume = abs(float(np.linalg.det(document.structure.cell)))
    return volume / count, float(document.free_energy or 0.0) / count, abs(float(document.total_magmom or 0.0)) / count


def agreement_line(first: EquationOfState, second: EquationOfState, atoms_per_cube: int = 2) -> str:
    """How far two engines are apart."""
    a, b = (one.lattice_constant(atoms_per_cube) for one in (first, second))
    return (
        f"{second.engine} against {first.engine}: a {1000 * (b - a):+.1f} mÅ ({100 * (b - a) / a:+.2f} %), "
        f"bulk modulus {second.bulk_modulus - first.bulk_modulus:+.0f} GPa, "
        f"moment {second.moment - first.moment:+.3f} μB"
    )


def result_line(one: EquationOfState, atoms_per_cube: int = 2) -> str:
    """One engine's numbers."""
    return (
        f"{one.engine}: a {one.lattice_constant(atoms_per_cube):.4f} Å, bulk modulus {one.bulk_modulus:.0f} GPa, "
        f"moment {one.moment:.3f} μB; fit within {1000 * one.rms:.2f} meV"
    )


def equations_figure(found: Mapping[str, EquationOfState]) -> Figure:
    """Energies above the lowest with their fits, and moments, against the volume."""
    import matplotlib
    from ase.eos import EquationOfState as Fit
    from ase.eos import birchmurnaghan

    from mmace.plots.style import COLOURS, MARKERS, STYLE, new_figure

    with matplotlib.rc_context(STYLE):
        figure, (top, bottom) = new_figure(5.2, 5.4, 2, 1, sharex=True, height_ratios=[2, 1])
        for number, (name, one) in enumerate(found.items()):
            fit = Fit(one.volumes, one.energies, eos="birchmurnaghan")
            fit.fit(warn=False)
            grid = np.linspace(min(one.volumes), max(one.volumes), 200)
            colour, marker = COLOURS[number], MARKERS[number]
            top.plot(grid, 1000 * (birchmurnaghan(grid, *fit.eos_parameters) - one.energy), color=colour)
            above = 1000 * (np.array(one.energies) - one.energy)
            top.plot(one.volumes, above, marker, color=colour, markersize=5, label=name)
            bottom.plot(one.volumes, one.moments, "-", marker=marker, color=colour, markersize=5)
        top.set_ylabel("energy above the lowest (meV/atom)")
        top.legend()
        bottom.set_ylabel("moment (μB/atom)")
        bottom.set_xlabel("volume (Å³/atom)")
    return figure


@dataclass
class CompareEnginesMaker(Maker):
    """Job: the equation of state of each engine, how far it is from the first, and a figure."""

    name: str = "compare engines"
    stage: str = "compare"
    atoms_per_cube: int = 2

    def make(self, summaries: Mapping[str, Sequence[Any]], campaign: str) -> Job:
        """``summaries``: name of the engine → outputs of its label jobs. The output is name → `EquationOfState`."""
        made: Job = self.run(list(summaries), [list(one) for one in summaries.values()], campaign)
        made.name = f"{self.stage}: {', '.join(summaries)}"
        return made

    @job
    def run(self, names: list[str], summaries: list[list[dict[str, Any]]], campaign: str) -> dict[str, Any]:
        """What a worker does: read labels, fit, tell, draw."""
        from mmace.plots.training import write_figure
        from mmace_flows.execution.stores import open_stores
        from mmace_flows.learning.dataset import read_labels

        stores = open_stores()
        found = {}
        for name, rows in zip(names, summaries, strict=True):
            found[name] = equation_of_state(read_labels(stores.labels, [row["label_key"] for row in rows]))
            stores.event(campaign, self.stage, result_line(found[name], self.atoms_per_cube))
        for name in names[1:]:
            stores.event(campaign, self.stage, agreement_line(found[names[0]], found[name], self.atoms_per_cube))
        file = stores.scratch(campaign, "equation-of-state") / "equation-of-state.png"
        drawn = write_figure(partial(equations_figure, found), file)
        if drawn is not None:
            stores.event(campaign, self.stage, f"written: {drawn}")
        return {name: one.model_dump(mode="json") for name, one in found.items()}
