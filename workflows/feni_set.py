"""FeNi: an open set of DFT labels of the Bain path and around it, NM, FM and AFM.

The paper's cells: ordered Fe–Ni–Fe–Ni layers, fcc, bcc and past fcc. Labelled are the path itself at several volumes,
distorted copies with moments flipped and scaled, and cells whose total moment is held between and beyond the
self-consistent ones. Jobs come in one shuffled order, so that a set that is not yet complete has everything in it.
`mmace data convert store:NAME -o feni.extxyz` writes what is labelled.
"""

from __future__ import annotations

import random

from jobflow import Flow
from pydantic import BaseModel, ConfigDict, Field

from mmace_flows.labels.gpaw_makers import GPAWLabelMaker
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.schemas.campaign import CostEstimate, StageEstimate
from mmace_flows.schemas.structure import Candidate, MagneticState
from mmace_flows.structures.base_cells import FENI_VOLUME_PER_ATOM, bain_candidates, base_candidates
from mmace_flows.structures.distort import DistortSettings, distortions
from mmace_flows.structures.fixed_moment import fixed_moment_candidates


class FeNiSetSettings(BaseModel):
    """Everything that decides the set."""

    model_config = ConfigDict(extra="forbid")

    dft: GPAWSettings = Field(description="DFT of every label")
    volume: float = Field(default=FENI_VOLUME_PER_ATOM, gt=0.0, description="of base cells and path, Å³ per atom")
    bain_ratios: list[float] = Field(description="c/a of the path's points")
    volume_factors: list[float] = Field(default=[], description="further volumes, as factors on ``volume``")
    volume_ratios: list[float] = Field(default=[], description="c/a of the path's points at further volumes")
    states: list[MagneticState] = Field(default=["NM", "FM", "AFM"], description="of every point of the path")
    distort: DistortSettings = Field(description="how far base cells are distorted")
    distortions: dict[MagneticState, int] = Field(
        description="state → distorted cells per base cell; every second one has spins flipped and moments scaled"
    )
    fixed_moments: dict[MagneticState, list[float]] = Field(
        description="pattern → total moments, as fractions of Σ|m|, that DFT holds in every base cell, distorted"
    )
    seed: int = Field(default=0, description="seed of distortions, and of the order")
    seconds_per_label: float = Field(gt=0.0, description="core-seconds of one label, for the estimate only")


def candidates(settings: FeNiSetSettings) -> tuple[list[Candidate], list[Candidate]]:
    """What is labelled self-consistently, and what with its total moment held."""
    bases = base_candidates(settings.volume)
    path = [(1.0, settings.bain_ratios), *((factor, settings.volume_ratios) for factor in settings.volume_factors)]
    free = [
        one
        for factor, ratios in path
        for one in bain_candidates(ratios, settings.states, settings.volume * factor, group="train")
    ]
    for number, (state, count) in enumerate(settings.distortions.items()):
        free += distortions(bases, count, settings.seed + number, settings.distort, [state], group="train")
    seed = settings.seed + len(settings.distortions)
    return free, fixed_moment_candidates(bases, settings.fixed_moments, seed, settings.distort)


def build(settings: FeNiSetSettings, campaign: str) -> Flow:
    """A job per label, none waiting for another."""
    free, held = candidates(settings)
    label = GPAWLabelMaker(settings=settings.dft)
    hold = GPAWLabelMaker(settings=settings.dft.model_copy(update={"fix_total_magmom": True}))
    jobs = [label.make(one, campaign=campaign) for one in free] + [hold.make(one, campaign=campaign) for one in held]
    random.Random(settings.seed).shuffle(jobs)
    return Flow(jobs, name=campaign)


def estimate(settings: FeNiSetSettings) -> CostEstimate:
    """Jobs and core-seconds."""
    count = sum(len(part) for part in candidates(settings))
    return CostEstimate(
        stages=[StageEstimate(stage="dft", jobs=count, core_seconds_per_job=settings.seconds_per_label)]
    )


SMALL = FeNiSetSettings(
    # what mmace converge recommends for 3 meV per atom between the states and ends of the path: docs/convergence.md
    dft=GPAWSettings(cutoff=400.0, kpoints=(8, 8, 4), smearing_width=0.15),
    bain_ratios=[0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.35, 2**0.5, 1.5, 1.6, 1.7],
    volume_factors=[0.85, 0.93, 1.1],
    volume_ratios=[1.0, 1.2, 2**0.5, 1.6],
    distort=DistortSettings(volume_scale=(0.85, 1.2), strain=0.02),
    distortions={"NM": 4, "FM": 16, "AFM": 16},
    fixed_moments={"FM": [0.3, 0.6, 0.85, 1.3, 1.6], "AFM": [0.15, 0.4]},
    seconds_per_label=200.0,
)

PRESETS: dict[str, FeNiSetSettings] = {
    "small": SMALL,
    "paper": SMALL.model_copy(
        update={"dft": GPAWSettings.paper(), "distort": DistortSettings(strain=0.02), "seconds_per_label": 2500.0}
    ),
    "tiny": SMALL.model_copy(
        update={
            "dft": GPAWSettings.small(
                kpoints=(2, 2, 1), density_convergence=1e-3, eigenstates_convergence=1e-6, max_iterations=80
            ),
            "bain_ratios": [1.0],
            "volume_factors": [],
            "states": ["FM"],
            "distort": DistortSettings(volume_scale=(1.0, 1.0), displacement=0.0),  # cells keep their symmetry
            "distortions": {},
            "fixed_moments": {"FM": [0.6]},
            "seconds_per_label": 8.0,
        }
    ),
}
