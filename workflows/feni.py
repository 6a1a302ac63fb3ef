"""FeNi: a magnetic potential of the Bain path by active learning on DFT.

Base cells, distorted and relaxed by DFT in non-magnetic, ferro- and antiferromagnetic states, and held at total moments
between and beyond the self-consistent ones, train a first model. The model then walks at 2000 K and along its own
antiferromagnetic Bain path; DFT labels what it finds, and the next model is trained on all of it. Each model's Bain
path is held against DFT points that are never trained on.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

from jobflow import Flow
from pydantic import BaseModel, ConfigDict, Field, field_validator

from mmace_flows.labels.gpaw_makers import GPAWLabelMaker, GPAWRelaxMaker
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.labels.relaxation import RelaxSettings
from mmace_flows.learning.dataset import DataSetSettings
from mmace_flows.learning.loop import ActiveLearningMaker
from mmace_flows.learning.sampling import SamplingSettings
from mmace_flows.learning.stop_rule import StopRule
from mmace_flows.learning.train_maker import TrainMaker
from mmace_flows.properties.bain import BainPathMaker
from mmace_flows.schemas.campaign import CostEstimate, StageEstimate
from mmace_flows.schemas.needs import NeedsChange
from mmace_flows.schemas.structure import Candidate, MagneticState
from mmace_flows.structures.base_cells import FENI_VOLUME_PER_ATOM, bain_candidates, base_candidates
from mmace_flows.structures.distort import DistortSettings, distortions, perturb
from mmace_flows.structures.fixed_moment import fixed_moment_candidates
from mmace_flows.structures.metropolis import MetropolisSettings

STATES: tuple[MagneticState, ...] = ("NM", "FM", "AFM")


class FeNiSettings(BaseModel):
    """Everything that decides the campaign's numbers."""

    model_config = ConfigDict(extra="forbid")

    dft: GPAWSettings = Field(description="DFT of every label")
    volume: float = Field(default=FENI_VOLUME_PER_ATOM, gt=0.0, description="of base cells and Bain path, Å³ per atom")
    bain_ratios: list[float] = Field(description="c/a of the DFT reference points, each in every state")
    states: list[MagneticState] = Field(default=list(STATES), description="magnetic states of the whole campaign")
    distort: DistortSettings = Field(description="how the base cells are distorted")
    distortions: dict[MagneticState, int] = Field(
        description="state → distorted cells per base cell; every second one has spins flipped and moments scaled"
    )
    fixed_moments: dict[MagneticState, list[float]] = Field(
        default_factory=dict,
        description="pattern → total moments, as fractions of Σ|m|, that DFT holds in every base cell, distorted",
    )
    relaxations: dict[str, list[MagneticState]] = Field(description="base cell → states in which DFT relaxes it")
    relax_displacement: float = Field(default=0.1, gt=0.0, description="σ of the displacements it starts from, Å")
    relax: RelaxSettings = Field(description="how far relaxations go and what is kept of them")
    dataset: DataSetSettings = Field(default_factory=DataSetSettings, description="test set and what is set aside")
    potential: dict[str, Any] = Field(description="settings of mmace.PotentialConfig that differ from its defaults")
    training: dict[str, Any] = Field(description="settings of mmace.train.TrainingConfig that differ from its defaults")
    fine_tuning: dict[str, Any] = Field(description="training settings of models that start from the one before")
    start_from_previous: bool = Field(default=True, description="later models start from the one before, else anew")
    replay_weight: float | None = Field(
        default=None, gt=0.0, description="weight of labels that a later model has seen before; empty: as new ones"
    )
    committee: int = Field(default=1, ge=1, description="models per iteration; more than one gives a spread")
    validation_fraction: float = Field(default=0.0, ge=0.0, lt=1.0, description="of the training set, picks the epoch")
    sampling: SamplingSettings = Field(description="what the model proposes for labelling")
    stop_rule: StopRule = Field(default_factory=StopRule, description="tolerances and number of iterations")
    curve_points: int = Field(default=8, ge=0, description="points of each model curve between the DFT points")
    seed: int = Field(default=0, description="seed of distortions and displacements")
    seconds_per_label: float = Field(gt=0.0, description="core-seconds of one DFT calculation, for the estimate only")
    seconds_per_training: float = Field(gt=0.0, description="core-seconds of one training, for the estimate only")
    needs: dict[str, NeedsChange] = Field(
        default_factory=dict, description="stage → cores, memory_gb, category, … on a cluster; decides no number"
    )

    @field_validator("potential")
    @classmethod
    def _known_potential(cls, value: dict[str, Any]) -> dict[str, Any]:
        from mmace.config import PotentialConfig

        PotentialConfig.from_dict(value)
        return value

    @field_validator("training", "fine_tuning")
    @classmethod
    def _known_training(cls, value: dict[str, Any]) -> dict[str, Any]:
        from mmace.train.config import TrainingConfig

        TrainingConfig.from_dict(value)
        return value


def build(settings: FeNiSettings, campaign: str) -> Flow:
    """The campaign's flow: reference labels and initial data side by side, then the loop."""
    loop = ActiveLearningMaker(
        label_maker=GPAWLabelMaker(settings=settings.dft),
        dataset=settings.dataset,
        train_maker=TrainMaker(
            potential=settings.potential,
            training=settings.training,
            fine_tuning=settings.fine_tuning,
            start="previous" if settings.start_from_previous else "scratch",
            replay_weight=settings.replay_weight,
            committee=settings.committee,
            validation_fraction=settings.validation_fraction,
        ),
        bain_maker=BainPathMaker(curve_points=settings.curve_points),
        sampling=settings.sampling.model_copy(update={"volume": settings.volume}),
        stop_rule=settings.stop_rule,
    )
    relax_maker = GPAWRelaxMaker(settings=settings.dft, relax=settings.relax)
    # relaxations are the longest jobs: they come first, so that no core waits for one at the end
    relaxations = [relax_maker.make(start, campaign=campaign) for start in relax_starts(settings)]
    labels = loop.label_jobs(distorted(settings), campaign)
    held = GPAWLabelMaker(stage="label", settings=settings.dft.model_copy(update={"fix_total_magmom": True}))
    labels += [held.make(candidate, campaign=campaign) for candidate in fixed_moments(settings)]
    reference = loop.label_jobs(
        bain_candidates(settings.bain_ratios, settings.states, settings.volume), campaign, "reference"
    )
    initial = [*relaxations, *labels]
    rest = loop.make(campaign, [job.output for job in initial], [job.output for job in reference])
    return Flow([*initial, *reference, rest], output=rest.output, name=campaign)


def distorted(settings: FeNiSettings) -> list[Candidate]:
    """Base cells with random volume, positions and moments."""
    bases = base_candidates(settings.volume)
    return [
        candidate
        for number, (state, count) in enumerate(settings.distortions.items())
        for candidate in distortions(bases, count, settings.seed + number, settings.distort, [state])
    ]


def fixed_moments(settings: FeNiSettings) -> list[Candidate]:
    """Base cells whose total moment is held: lengths of the moments that no self-consistent label has."""
    bases = base_candidates(settings.volume)
    return fixed_moment_candidates(bases, settings.fixed_moments, settings.seed + len(STATES), settings.distort)


def relax_starts(settings: FeNiSettings) -> list[Candidate]:
    """Base cells with displaced atoms: in the ideal cells symmetry leaves no forces, and nothing would move."""
    starts = []
    for base, states in settings.relaxations.items():
        for number, cell in enumerate(base_candidates(settings.volume, states, [base])):
            seed = settings.seed + number
            starts.append(
                perturb(cell.structure, seed, settings.relax_displacement, (1.0, 1.0), details={"base": base})
            )
    return starts


def estimate(settings: FeNiSettings) -> CostEstimate:
    """Jobs and core-seconds per stage, if every iteration is made."""
    iterations = settings.stop_rule.max_iterations
    label, relaxations = settings.seconds_per_label, sum(len(states) for states in settings.relaxations.values())
    fresh = (settings.sampling.rattled + settings.sampling.path_points) * (iterations - 1)
    stages = [
        ("relax", relaxations, label * settings.relax.max_steps),
        ("label", len(distorted(settings)) + len(fixed_moments(settings)) + fresh, label),
        ("reference", len(settings.bain_ratios) * len(settings.states), label),
        ("data set", iterations, 1.0),
        ("train", iterations * settings.committee, settings.seconds_per_training),
        ("bain path", iterations, 20.0),
        ("evaluate", iterations, 15.0),
        ("next", iterations, 30.0),
    ]
    made = [StageEstimate(stage=stage, jobs=jobs, core_seconds_per_job=seconds) for stage, jobs, seconds in stages]
    return CostEstimate(stages=[stage for stage in made if stage.jobs])


# Energies of a few meV per atom matter here, and forces alone would decide the loss: weights that make 10 meV/atom,
# 50 meV/Å, 1 GPa and 20 meV/μB count alike, within a factor of two.
WEIGHTS = {"energy": 200.0, "forces": 10.0, "stress": 500.0, "magnetic_forces": 100.0}
PAPER_WEIGHTS = {"energy": 1.0, "forces": 10.0, "stress": 5.0, "magnetic_forces": 1.0}

# A cosine over a fixed number of epochs gives the same weights however busy the machine is. Far beyond it, max_seconds
# only keeps a training from holding up everything.
TRAINING = {
    "epochs": 100, "batch_size": 4, "learning_rate": 0.01, "schedule": "cosine", "rotate_moments": True,
    "weights": WEIGHTS, "num_threads": 2, "max_seconds": 3600.0,
}  # fmt: skip

SMALL = FeNiSettings(
    # converged states take about 30 iterations; one that wanders is better set aside than waited for
    dft=GPAWSettings.small(max_iterations=80),
    bain_ratios=[0.9, 1.0, 1.2, sqrt(2.0), 1.6],
    distort=DistortSettings(volume_scale=(0.92, 1.1)),
    distortions={"NM": 1, "FM": 2, "AFM": 2},
    fixed_moments={"FM": [0.5, 1.0, 1.6], "AFM": [0.25, 0.5]},
    relaxations={"fcc": ["FM"], "bcc": ["AFM"]},
    relax=RelaxSettings.small(max_steps=4, frames=3),
    potential={
        "elements": ["Fe", "Ni"], "symmetry": "soc", "r_max": 5.0, "num_layers": 1, "hidden": "32x0e", "l_pos": 3,
        "l_mag": 1, "correlation": 2, "radial_hidden": [32, 32], "m_max": {"Fe": 4.0, "Ni": 1.7},
    },
    training=TRAINING,
    fine_tuning={"learning_rate": 0.005},
    sampling=SamplingSettings(metropolis=MetropolisSettings(steps=100), bases=["fcc", "bcc"], rattled=6, path_points=4),
    stop_rule=StopRule(min_iterations=2, max_iterations=2),
    curve_points=22,
    seconds_per_label=20.0,
    seconds_per_training=80.0,
)  # fmt: skip

PAPER = FeNiSettings(
    dft=GPAWSettings.paper(),
    bain_ratios=[0.85 + 0.05 * step for step in range(18)],
    distort=DistortSettings(),
    distortions={"NM": 3, "FM": 6, "AFM": 6},
    fixed_moments={"FM": [0.25, 0.5, 0.75, 1.0, 1.3, 1.6], "AFM": [0.15, 0.3, 0.45, 0.6]},
    relaxations={"fcc": list(STATES), "bcc": list(STATES), "bct1.6": list(STATES)},
    relax=RelaxSettings.paper(),
    potential={
        "elements": ["Fe", "Ni"], "symmetry": "soc", "r_max": 6.0, "num_layers": 2, "hidden": "128x0e+128x1o",
        "l_pos": 3, "l_mag": 1, "correlation": 3, "m_max": {"Fe": 4.0, "Ni": 2.0},
    },
    training={"epochs": 500, "batch_size": 8, "rotate_moments": True, "weights": PAPER_WEIGHTS},
    fine_tuning={"learning_rate": 0.0005, "clip": 10.0},
    validation_fraction=0.1,
    sampling=SamplingSettings(metropolis=MetropolisSettings(steps=1000), rattled=80, path_points=29),
    stop_rule=StopRule(min_iterations=2, max_iterations=4),
    curve_points=30,
    seconds_per_label=2500.0,
    seconds_per_training=200_000.0,
)  # fmt: skip

TINY = SMALL.model_copy(
    update={
        "dft": GPAWSettings.small(
            cutoff=300.0, kpoints=(2, 2, 1), density_convergence=1e-3, eigenstates_convergence=1e-6
        ),
        "bain_ratios": [1.0, sqrt(2.0)],
        "states": ["NM", "FM"],
        "distortions": {"NM": 1, "FM": 1},
        "fixed_moments": {"FM": [0.85]},
        "relaxations": {"fcc": ["FM"]},
        "relax": RelaxSettings.small(max_steps=2, frames=2),
        "potential": {**SMALL.potential, "hidden": "8x0e", "r_max": 4.0, "l_pos": 2, "correlation": 2},
        "training": {**TRAINING, "epochs": 10, "num_threads": 1},
        "sampling": SamplingSettings(
            metropolis=MetropolisSettings(steps=20), bases=["fcc"], states=["FM"], rattled=1, path_points=1
        ),
        "curve_points": 3,
        "seconds_per_label": 8.0,
        "seconds_per_training": 5.0,
    }
)

PRESETS: dict[str, FeNiSettings] = {"small": SMALL, "paper": PAPER, "tiny": TINY}
