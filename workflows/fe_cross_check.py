"""Bcc iron by GPAW and by Quantum ESPRESSO: equation of state and moment, and how far the two are apart.

The same cells, k-points and smearing for both. Agreement of lattice constant, bulk modulus and moment says that setups,
pseudopotentials, units and moments of the two engines are what they should be.
"""

from __future__ import annotations

from ase.build import bulk
from jobflow import Flow
from pydantic import BaseModel, ConfigDict, Field

from mmace_flows.labels.equation_of_state import CompareEnginesMaker
from mmace_flows.labels.espresso_makers import EspressoLabelMaker
from mmace_flows.labels.espresso_settings import EspressoSettings
from mmace_flows.labels.gpaw_makers import GPAWLabelMaker
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.schemas.campaign import CostEstimate, StageEstimate
from mmace_flows.schemas.structure import Candidate, MagneticStructure


class CrossCheckSettings(BaseModel):
    """Everything that decides the campaign's numbers."""

    model_config = ConfigDict(extra="forbid")

    gpaw: GPAWSettings = Field(description="DFT by GPAW")
    espresso: EspressoSettings = Field(description="DFT by pw.x")
    lattice_constants: list[float] = Field(
        default=[2.74, 2.78, 2.82, 2.86, 2.90, 2.94], min_length=5, description="of the cube with two atoms, Å"
    )
    moment: float = Field(default=2.3, gt=0.0, description="of the atom at the start, μB")
    seconds_per_label: float = Field(gt=0.0, description="core-seconds of one label, for the estimate only")


def settings(gpaw_cutoff: float, espresso_cutoff: float, grid: int, width: float, seconds: float) -> CrossCheckSettings:
    """The same grid and smearing for both engines."""
    kpoints = (grid, grid, grid)
    return CrossCheckSettings(
        gpaw=GPAWSettings(cutoff=gpaw_cutoff, kpoints=kpoints, smearing_width=width),
        espresso=EspressoSettings(cutoff=espresso_cutoff, kpoints=kpoints, smearing_width=width),
        seconds_per_label=seconds,
    )


PRESETS: dict[str, CrossCheckSettings] = {
    "small": settings(450.0, 680.0, 8, 0.1, 40.0),
    "paper": settings(800.0, 1100.0, 20, 0.1, 1500.0),
    # numbers that mean nothing, from both programs
    "tiny": settings(300.0, 410.0, 2, 0.3, 5.0),
}


def candidates(settings: CrossCheckSettings) -> list[Candidate]:
    """The primitive cell at each lattice constant."""
    found = []
    for a in settings.lattice_constants:
        atoms = bulk("Fe", "bcc", a=a)
        atoms.set_initial_magnetic_moments(None)  # ASE's own preset
        structure = MagneticStructure.from_atoms(atoms, [settings.moment])
        details = {"base": f"bcc a {a:g} Å"}
        found.append(Candidate(structure=structure, operation="volume", magnetic_state="FM", details=details))
    return found


def build(settings: CrossCheckSettings, campaign: str) -> Flow:
    """A label per engine and lattice constant, and their comparison."""
    makers = {
        "GPAW": GPAWLabelMaker(settings=settings.gpaw, stage="gpaw"),
        "Quantum ESPRESSO": EspressoLabelMaker(settings=settings.espresso, stage="espresso"),
    }
    labels = {name: [maker.make(one, campaign) for one in candidates(settings)] for name, maker in makers.items()}
    compare = CompareEnginesMaker().make(
        {name: [one.output for one in jobs] for name, jobs in labels.items()}, campaign
    )
    return Flow([*(one for jobs in labels.values() for one in jobs), compare], output=compare.output, name=campaign)


def estimate(settings: CrossCheckSettings) -> CostEstimate:
    """Jobs and core-seconds of each stage."""
    jobs = len(settings.lattice_constants)
    stages = [
        StageEstimate(stage=stage, jobs=jobs, core_seconds_per_job=settings.seconds_per_label)
        for stage in ("gpaw", "espresso")
    ]
    return CostEstimate(stages=[*stages, StageEstimate(stage="compare", jobs=1, core_seconds_per_job=2.0)])
