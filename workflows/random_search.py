"""Random crystals of manganese and aluminium, from generation to labels of their magnetic orderings by GPAW.

pyxtal makes crystals, CHGNet relaxes them and gives first moments, the best are screened and kept; the orderings of
each are enumerated and labelled by DFT. Two elements of the space of the paper's random structures; set `search.space`
for others.
"""

from __future__ import annotations

from jobflow import Flow
from pydantic import BaseModel, ConfigDict, Field

from mmace_flows.labels.gpaw_makers import GPAWLabelMaker
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.labels.orderings_maker import LabelOrderingsMaker
from mmace_flows.schemas.campaign import CostEstimate, StageEstimate
from mmace_flows.structures.enumeration import EnumerateSettings
from mmace_flows.structures.makers import StructuresMaker
from mmace_flows.structures.random_crystals import ChemicalSpace
from mmace_flows.structures.random_search import SearchSettings
from mmace_flows.structures.screening import Screen


class RandomSearchSettings(BaseModel):
    """Everything that decides the campaign's numbers."""

    model_config = ConfigDict(extra="forbid")

    search: SearchSettings = Field(description="crystals: space, attempts, relaxation, screening")
    enumerate: EnumerateSettings = Field(description="magnetic orderings of each")
    dft: GPAWSettings = Field(description="DFT of every ordering")
    max_atoms: int = Field(default=12, gt=0, description="larger orderings are left out")
    seconds_per_attempt: float = Field(gt=0.0, description="core-seconds of one crystal, for the estimate only")
    seconds_per_label: float = Field(gt=0.0, description="core-seconds of one label, for the estimate only")


MN_AL = {"Mn": 1.0, "Al": 1.0}

PRESETS: dict[str, RandomSearchSettings] = {
    "small": RandomSearchSettings(
        search=SearchSettings(
            space=ChemicalSpace(elements=MN_AL, species=(2, 2), atoms=(2, 4)), attempts=20, keep=3, steps=100
        ),
        enumerate=EnumerateSettings(max_cells=2, max_orderings=4, engine="exact"),
        dft=GPAWSettings(cutoff=340.0, kpoint_spacing=0.08, smearing_width=0.1, max_iterations=100),
        max_atoms=8,
        seconds_per_attempt=15.0,
        seconds_per_label=90.0,
    ),
    "paper": RandomSearchSettings(
        search=SearchSettings(
            space=ChemicalSpace(
                elements={"Al": 1, "Mn": 1, "Fe": 1, "Co": 1, "Ni": 1, "Pt": 1, "Y": 1, "B": 0.5, "C": 0.5, "Si": 0.5},
                one_of=["B", "C", "Si"],
                atoms=(2, 10),
            ),
            attempts=5000,
            keep=1000,
        ),
        enumerate=EnumerateSettings(max_orderings=4),
        dft=GPAWSettings.paper(),
        max_atoms=20,
        seconds_per_attempt=30.0,
        seconds_per_label=3000.0,
    ),
    # numbers that mean nothing, from every program
    "tiny": RandomSearchSettings(
        search=SearchSettings(
            space=ChemicalSpace(elements=MN_AL, species=(2, 2), atoms=(2, 2), space_groups=(75, 230)),
            attempts=4,
            keep=1,
            steps=10,
            screen=Screen(energy_above_lowest=10.0, max_force=50.0, max_pressure=500.0),
        ),
        enumerate=EnumerateSettings(max_cells=1, max_orderings=2, engine="exact"),
        dft=GPAWSettings(
            cutoff=250.0,
            kpoint_spacing=0.25,
            smearing_width=0.3,
            density_convergence=1e-3,
            eigenstates_convergence=1e-6,
        ),
        max_atoms=4,
        seconds_per_attempt=5.0,
        seconds_per_label=10.0,
    ),
}


def build(settings: RandomSearchSettings, campaign: str) -> Flow:
    """The search, then the orderings of what it kept and their labels."""
    search = StructuresMaker(settings=settings.search).make(campaign=campaign)
    orderings = LabelOrderingsMaker(
        enumerate=settings.enumerate, label_maker=GPAWLabelMaker(settings=settings.dft), max_atoms=settings.max_atoms
    ).make(search.output, campaign)
    return Flow([search, orderings], output=orderings.output, name=campaign)


def estimate(settings: RandomSearchSettings) -> CostEstimate:
    """Jobs and core-seconds of each stage, if every crystal has as many orderings as are allowed."""
    crystals = settings.search.keep or settings.search.attempts
    seconds = settings.search.attempts * settings.seconds_per_attempt
    labels = crystals * settings.enumerate.max_orderings
    return CostEstimate(
        stages=[
            StageEstimate(stage="structures", jobs=1, core_seconds_per_job=seconds),
            StageEstimate(stage="orderings", jobs=2, core_seconds_per_job=3.0),
            StageEstimate(stage="label", jobs=labels, core_seconds_per_job=settings.seconds_per_label),
        ]
    )
