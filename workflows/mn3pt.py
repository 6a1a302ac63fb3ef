"""Mn3Pt: the triangular order of the frustrated kagome planes against collinear orders, by Quantum ESPRESSO.

Self-consistent, without spin–orbit coupling, from three starts: Mn moments 120° apart in the (111) plane, all parallel,
and one Mn against two. Pseudopotentials for Mn are not Debian's: `python3 scripts/pseudopotentials.py FOLDER`, then
MMACE_PSEUDO_DIR=FOLDER.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from jobflow import Flow
from pydantic import BaseModel, ConfigDict, Field

from mmace_flows.labels.espresso_makers import EspressoLabelMaker
from mmace_flows.labels.espresso_settings import EspressoSettings
from mmace_flows.properties.orderings import CompareOrdersMaker
from mmace_flows.schemas.campaign import CostEstimate, StageEstimate
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.structures.moments import magnetic_state
from mmace_flows.structures.triangular import triangular_moments

ORDERS = ("triangular", "ferromagnetic", "two against one")


class Mn3PtSettings(BaseModel):
    """Everything that decides the campaign's numbers."""

    model_config = ConfigDict(extra="forbid")

    dft: EspressoSettings = Field(description="DFT of every label")
    lattice_constant: float = Field(default=3.833, gt=0.0, description="of the cubic cell of four atoms, Å (measured)")
    moment: float = Field(default=3.0, gt=0.0, description="of Mn at the start, μB; Pt starts from zero")
    seconds_per_label: float = Field(gt=0.0, description="core-seconds of one label, for the estimate only")


PRESETS: dict[str, Mn3PtSettings] = {
    # the paper's cutoff on a coarse grid: shows the order of the states, not their distances
    "small": Mn3PtSettings(
        dft=EspressoSettings(cutoff=816.0, kpoints=(2, 2, 2), smearing_width=0.2, energy_convergence=1e-6),
        seconds_per_label=300.0,
    ),
    "paper": Mn3PtSettings(dft=EspressoSettings.paper(), seconds_per_label=8000.0),
}


def candidates(settings: Mn3PtSettings) -> dict[str, Candidate]:
    """One structure per order."""
    sites = [[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5], [0.0, 0.0, 0.0]]
    atoms = Atoms("Mn3Pt", scaled_positions=sites, cell=[settings.lattice_constant] * 3, pbc=True)
    up = np.array([[0.0, 0.0, settings.moment]] * 3 + [[0.0, 0.0, 0.0]])
    parallel = MagneticStructure.from_atoms(atoms, up)
    starts = {
        "triangular": triangular_moments(parallel),
        "ferromagnetic": up,
        "two against one": up * np.array([[1.0], [-1.0], [1.0], [1.0]]),
    }
    return {
        order: Candidate(
            structure=parallel.model_copy(update={"magmoms": starts[order].tolist()}),
            operation="order",
            magnetic_state=magnetic_state(starts[order]),
            details={"base": order},
        )
        for order in ORDERS
    }


def build(settings: Mn3PtSettings, campaign: str) -> Flow:
    """A label per order, and their comparison."""
    maker = EspressoLabelMaker(settings=settings.dft)
    labels = {order: maker.make(one, campaign) for order, one in candidates(settings).items()}
    compare = CompareOrdersMaker().make({order: label.output for order, label in labels.items()}, campaign)
    return Flow([*labels.values(), compare], output=compare.output, name=campaign)


def estimate(settings: Mn3PtSettings) -> CostEstimate:
    """Jobs and core-seconds of each stage."""
    labels = StageEstimate(stage="dft", jobs=len(ORDERS), core_seconds_per_job=settings.seconds_per_label)
    return CostEstimate(stages=[labels, StageEstimate(stage="compare", jobs=1, core_seconds_per_job=1.0)])
