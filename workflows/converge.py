"""FeNi: cutoff, k-points and smearing of GPAW for a stated tolerance, in differences that matter for a potential.

Ordered FeNi cells of four atoms in several magnetic states, and a compressed, displaced copy of the first one. The job
`decide: …` of each scan tells what it chose; the last one recommends settings.
"""

from __future__ import annotations

from math import prod

from jobflow import Flow
from pydantic import BaseModel, ConfigDict, Field

from mmace_flows.labels.convergence import probes, spin_orbit_probes
from mmace_flows.labels.convergence_maker import ConvergenceMaker
from mmace_flows.labels.convergence_run import expected_costs
from mmace_flows.labels.convergence_settings import PARAMETERS, ConvergenceSettings, tolerances_from
from mmace_flows.labels.convergence_text import value_text
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.schemas.campaign import CostEstimate, StageEstimate
from mmace_flows.schemas.structure import Candidate, MagneticState
from mmace_flows.structures.base_cells import FENI_VOLUME_PER_ATOM, base_candidates


class FeNiConvergence(BaseModel):
    """Everything that decides the study's numbers."""

    model_config = ConfigDict(extra="forbid")

    study: ConvergenceSettings = Field(description="what is scanned, and the tolerances")
    bases: list[str] = Field(default=["fcc"], description="base cells: fcc, bcc, bct1.6")
    states: list[MagneticState] = Field(default=["FM", "AFM", "NM"], description="states that every base starts in")
    volume: float = Field(default=FENI_VOLUME_PER_ATOM, gt=0.0, description="Å³ per atom")
    compression: float = Field(default=0.94, gt=0.0, description="factor on the volume of the distorted copy")
    displacement: float = Field(default=0.05, ge=0.0, description="σ of its displacements, Å")
    seconds: float = Field(
        gt=0.0, description="core-seconds of a magnetic label at 400 eV, 4×4×2, for the estimate only"
    )


PRESETS: dict[str, FeNiConvergence] = {
    "small": FeNiConvergence(
        study=ConvergenceSettings(
            cutoffs=[300, 350, 400, 500],
            kpoints=[(4, 4, 2), (4, 4, 4), (6, 6, 4), (8, 8, 6)],
            smearings=[0.2, 0.1, 0.05],
            tolerances=tolerances_from("5meV", ["energy", "forces"]),
        ),
        seconds=40.0,
    ),
    "paper": FeNiConvergence(
        study=ConvergenceSettings(
            cutoffs=[400, 500, 600, 700, 800],
            kpoints=[0.06, 0.045, 0.035, 0.03, 0.025],
            smearings=[0.2, 0.1, 0.05],
            quantities=["energy", "forces", "stress", "moments"],
            tolerances=tolerances_from("1meV", ["energy"]),
        ),
        bases=["fcc", "bcc", "bct1.6"],
        seconds=40.0,
    ),
    "tiny": FeNiConvergence(
        study=ConvergenceSettings(
            dft=GPAWSettings(kpoints=(2, 2, 1), density_convergence=1e-3, eigenstates_convergence=1e-6).model_dump(),
            cutoffs=[250, 300],
            kpoints=[(2, 2, 1)],
            smearings=[0.2],
            tolerances=tolerances_from("50meV", ["energy", "forces"]),
        ),
        states=["NM"],
        seconds=20.0,
    ),
}


def structures(settings: FeNiConvergence) -> list[Candidate]:
    """The structures whose differences are followed."""
    starts = base_candidates(settings.volume, settings.states, settings.bases)
    return probes(starts, settings.compression, settings.displacement)


def build(settings: FeNiConvergence, campaign: str) -> Flow:
    """The scans, one after the other."""
    return ConvergenceMaker(settings=settings.study).make(structures(settings), campaign)


def estimate(settings: FeNiConvergence) -> CostEstimate:
    """Jobs and core-seconds per setting, as if each scan began where the study begins."""
    study, candidates = settings.study, structures(settings)
    costs = iter(expected_costs(study, candidates))
    each = (len(candidates) if study.labels else 0) + (len(spin_orbit_probes(candidates)) if study.anisotropy else 0)
    unit = settings.seconds / (400.0**1.5 * prod((4, 4, 2)) * 2.0)
    stages = []
    for parameter in PARAMETERS:
        values = study.values(parameter)
        for value in values if len(values) > 1 else ():
            seconds = unit * sum(next(costs) for _ in range(each)) / each
            stage = f"{parameter} {value_text(parameter, value)}"
            stages.append(StageEstimate(stage=stage, jobs=each, core_seconds_per_job=seconds))
        if len(values) > 1:
            stages.append(StageEstimate(stage=f"decide: {parameter}", jobs=1, core_seconds_per_job=1.0))
    return CostEstimate(stages=stages)
