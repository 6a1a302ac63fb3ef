"""Screening for magnetocrystalline anisotropy: from a chemical space to a ranked table.

Crystals come from a random search (relaxed and screened by a general potential), from files or from the Materials
Project; each gets its magnetic orderings. DFT with spin–orbit coupling computes a few; a committee trained on these
predicts all; the best and the most uncertain go to DFT, and so on until the top of the ranking stays as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobflow import Flow
from pydantic import BaseModel, ConfigDict, Field, field_validator

from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.labels.gpaw_spin_orbit import SpinOrbitSettings
from mmace_flows.labels.spin_orbit_maker import SpinOrbitMaker
from mmace_flows.learning.anisotropy_train_maker import AnisotropyTrainMaker
from mmace_flows.properties.anisotropy_prediction import PredictionSettings
from mmace_flows.schemas.campaign import CostEstimate, StageEstimate
from mmace_flows.screening.flow import ScreeningMaker
from mmace_flows.screening.rule import ScreeningRule
from mmace_flows.structures.enumeration import EnumerateSettings
from mmace_flows.structures.files import read_candidates
from mmace_flows.structures.makers import StructuresMaker
from mmace_flows.structures.materials_project import fetch_candidates
from mmace_flows.structures.random_crystals import ChemicalSpace
from mmace_flows.structures.random_search import SearchSettings


class ScreeningSettings(BaseModel):
    """Everything that decides the campaign's numbers."""

    model_config = ConfigDict(extra="forbid")

    search: SearchSettings | None = Field(description="random search for crystals; none: only those given below")
    structures: list[str] = Field(default=[], description="files of crystals that are looked at too")
    materials_project: list[str] = Field(default=[], description="ids, mp-…; the key is in MP_API_KEY")
    orderings: EnumerateSettings = Field(description="magnetic orderings of every crystal")
    spin_orbit: SpinOrbitSettings = Field(description="DFT: ground state, bands and directions")
    potential: dict[str, Any] = Field(default={}, description="of the model of anisotropy, what differs from defaults")
    training: dict[str, Any] = Field(default={}, description="of its training, what differs from defaults")
    committee: int = Field(default=3, ge=1, description="models per round; more than one gives a spread")
    validation_fraction: float = Field(default=0.15, ge=0.0, lt=1.0, description="of the crystals, picks the epoch")
    exchange: str | None = Field(
        default=None,
        description="hash of a stored potential that relaxes the moments and to which the anisotropy is added",
    )
    prediction: PredictionSettings = Field(default_factory=PredictionSettings, description="how models judge")
    rule: ScreeningRule = Field(description="what is ranked, what DFT computes, when it ends")
    chunk: int = Field(default=200, ge=1, description="orderings that one job predicts")
    seconds_per_attempt: float = Field(default=5.0, gt=0.0, description="core-seconds of the search, for the estimate")
    seconds_per_run: float = Field(gt=0.0, description="core-seconds of one DFT run, for the estimate only")
    seconds_per_training: float = Field(gt=0.0, description="core-seconds of one training, likewise")
    seconds_per_prediction: float = Field(default=1.0, gt=0.0, description="core-seconds of one ordering, likewise")

    @field_validator("potential")
    @classmethod
    def _known_potential(cls, value: dict[str, Any]) -> dict[str, Any]:
        from mmace_flows.learning.anisotropy_training import anisotropy_potential

        anisotropy_potential(["Fe"], value)
        return value

    @field_validator("training")
    @classmethod
    def _known_training(cls, value: dict[str, Any]) -> dict[str, Any]:
        from mmace_flows.learning.anisotropy_training import anisotropy_training

        anisotropy_training(value)
        return value


def build(settings: ScreeningSettings, campaign: str) -> Flow:
    """Crystals, their orderings, and the rounds."""
    jobs = []
    sources = []
    if settings.search is not None:
        search = StructuresMaker(settings=settings.search).make(campaign=campaign)
        orderings = StructuresMaker(settings=settings.orderings).make(search.output["candidates"], campaign)
        jobs += [search, orderings]
        sources.append(orderings.output)
    given = [one for path in settings.structures for one in read_candidates(Path(path))]
    given += fetch_candidates(settings.materials_project)
    if given:
        orderings = StructuresMaker(settings=settings.orderings).make(given, campaign)
        jobs.append(orderings)
        sources.append(orderings.output)
    screening = ScreeningMaker(
        spin_orbit_maker=SpinOrbitMaker(settings=settings.spin_orbit),
        train_maker=AnisotropyTrainMaker(
            potential=settings.potential,
            training=settings.training,
            exchange=settings.exchange,
            committee=settings.committee,
            validation_fraction=settings.validation_fraction,
        ),
        prediction=settings.prediction,
        rule=settings.rule,
        chunk=settings.chunk,
    ).make(campaign, sources)
    return Flow([*jobs, screening], output=screening.output, name=campaign)


def estimate(settings: ScreeningSettings) -> CostEstimate:
    """Jobs and core-seconds per stage, if every round is made and every crystal of the search is kept."""
    rule, rounds = settings.rule, settings.rule.max_rounds
    runs = min(rule.max_runs, rule.initial + rule.held_out + (rounds - 1) * (rule.best + rule.uncertain))
    attempts = settings.search.attempts if settings.search is not None else 0
    kept = settings.search.keep or attempts if settings.search is not None else 0
    orderings = 2 * (kept + len(settings.materials_project) + len(settings.structures))
    chunks = max(1, -(-orderings // settings.chunk))
    stages = [
        ("structures", 2, attempts * settings.seconds_per_attempt / 2.0),
        ("prospects", 1, 10.0),
        ("soc", runs, settings.seconds_per_run),
        ("train", rounds * (settings.committee + 1), settings.seconds_per_training),
        ("predict", rounds * chunks, min(orderings, settings.chunk) * settings.seconds_per_prediction),
        ("rank", rounds, 10.0),
        ("next", rounds, 5.0),
    ]
    made = [StageEstimate(stage=stage, jobs=jobs, core_seconds_per_job=seconds) for stage, jobs, seconds in stages]
    return CostEstimate(stages=[stage for stage in made if stage.jobs])


def spin_orbit(
    cutoff: float, spacing: float, width: float, directions: str, bands: int, max_iterations: int = 333
) -> SpinOrbitSettings:
    """DFT of this study. Grids contain Γ; densities are converged to 1e-5."""
    dft = GPAWSettings(
        cutoff=cutoff,
        kpoint_spacing=spacing,
        gamma=True,
        smearing_width=width,
        density_convergence=1e-5,
        max_iterations=max_iterations,
    )
    return SpinOrbitSettings(dft=dft, directions=directions, bands=bands, cuts=2)


# The paper's chemical space: at most one of the light elements, ten atoms at most.
PAPER_SPACE = ChemicalSpace(
    elements={name: 1.0 for name in ("Al", "Mn", "Fe", "Co", "Ni", "Y", "Pt", "B", "C", "Si")},
    one_of=["B", "C", "Si"],
    species=(1, 4),
    atoms=(2, 10),
)

SMALL = ScreeningSettings(
    search=SearchSettings(
        space=ChemicalSpace(elements={"Fe": 2.0, "Co": 1.0, "Pt": 1.0}, species=(2, 2), atoms=(2, 2)),
        attempts=40,
        keep=16,
    ),
    orderings=EnumerateSettings(max_cells=1, states=["FM", "AFM", "FiM"]),
    # quick settings: the order of the candidates, not their constants to the last digit; a frustrated order that
    # wanders is set aside early, for it may wander for half an hour
    spin_orbit=spin_orbit(280.0, 0.09, 0.15, "lebedev:26", 200, max_iterations=80),
    potential={"hidden": "16x0e", "r_max": 4.5, "l_pos": 2},
    training={"epochs": 150, "num_threads": 1, "max_seconds": 1200.0},
    committee=2,
    prediction=PredictionSettings(directions="lebedev:50"),
    rule=ScreeningRule(top=5, initial=6, held_out=3, best=2, uncertain=2, max_rounds=4, max_runs=22),
    seconds_per_run=60.0,
    seconds_per_training=60.0,
    seconds_per_prediction=0.3,
)

PAPER = ScreeningSettings(
    search=SearchSettings(space=PAPER_SPACE, attempts=20_000, keep=1000),
    orderings=EnumerateSettings(max_orderings=8, states=["FM", "AFM", "FiM"]),
    spin_orbit=spin_orbit(600.0, 0.035, 0.05, "lebedev:146", 300),
    potential={"hidden": "64x0e+64x1o", "num_layers": 2, "r_max": 6.0, "l_pos": 3, "l_mag": 3},
    training={"epochs": 500, "batch_size": 8},
    committee=4,
    rule=ScreeningRule(top=50, initial=150, held_out=40, best=20, uncertain=20, max_rounds=6, max_runs=400),
    seconds_per_run=20_000.0,
    seconds_per_training=50_000.0,
    seconds_per_prediction=5.0,
)

TINY = SMALL.model_copy(
    update={
        "search": SearchSettings(
            space=ChemicalSpace(
                elements={"Fe": 1.0, "Co": 1.0, "Pt": 1.0}, species=(2, 2), atoms=(2, 2), space_groups=(75, 194)
            ),
            attempts=8,
            keep=4,
            steps=30,
            force_tolerance=0.2,
        ),
        "orderings": EnumerateSettings(max_cells=1, states=["FM"]),
        "spin_orbit": spin_orbit(230.0, 0.16, 0.3, "lebedev:14", 150),
        "potential": {"hidden": "8x0e", "r_max": 3.5, "l_pos": 2, "l_mag": 1, "radial_hidden": [16]},
        "training": {"epochs": 15, "num_threads": 1},
        "prediction": PredictionSettings(directions="lebedev:26"),
        "rule": ScreeningRule(top=2, initial=2, held_out=1, best=1, uncertain=0, min_rounds=2, max_rounds=2),
        "seconds_per_run": 15.0,
        "seconds_per_training": 10.0,
    }
)

PRESETS: dict[str, ScreeningSettings] = {"small": SMALL, "paper": PAPER, "tiny": TINY}
