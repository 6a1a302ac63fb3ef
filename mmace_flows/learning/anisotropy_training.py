"""Training on anisotropy, the same for a command, a job and a benchmark: settings, the run, what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from mmace.errors import UserError
from mmace_flows.learning.anisotropy_data import configuration_of
from mmace_flows.properties.anisotropy import fit_surface
from mmace_flows.schemas.document import Document
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument
from mmace_flows.screening.scores import recall, spearman

if TYPE_CHECKING:
    from mmace import Potential, PotentialConfig
    from mmace.train import TrainingConfig

FLOOR = 1e-6  # eV per atom: regularises relative errors
# What differs from a potential of energies. The neighbours of a cubic site have no part of degree below 4: with a
# smaller l_pos a cubic crystal would have no anisotropy. Products of two suffice, at a sixth of the cost of three. With
# l_mag 3 few directions are fitted by harmonics of high degree, which nature does not use, with 1 not at all.
POTENTIAL: dict[str, Any] = {
    "symmetry": "soc",
    "hidden": "32x0e",
    "l_pos": 4,
    "l_mag": 2,
    "correlation": 2,
    "radial_hidden": [32, 32],
}
TRAINING: dict[str, Any] = {"epochs": 300, "batch_size": 4, "schedule": "cosine", "learning_rate": 0.005, "clip": 10.0}


class AnisotropyScores(Document):
    """How well surfaces of crystals are predicted. ΔE_A are those of the fitted surfaces."""

    runs: int = Field(description="force-theorem runs that were compared")
    relative_error: float = Field(
        description="mean over runs of ⟨|E_A error|⟩/(⟨|E_A|⟩ + 1 µeV per atom), averages over directions"
    )
    mean_error: float = Field(description="mean of |E_A error| over directions and runs, eV per atom")
    mean_size: float = Field(description="mean of |E_A| over directions and runs, eV per atom")
    spearman: float | None = Field(description="rank correlation of ΔE_A per atom; None for fewer than three runs")
    recall: float | None = Field(description="share of the best fifth by ΔE_A per atom that the model finds there")
    strengths: list[tuple[str, float, float]] = Field(
        default=[], description="formula, ΔE_A computed and predicted, meV per atom"
    )


def anisotropy_potential(
    elements: Sequence[str], settings: dict[str, Any] | None = None, where: str = "model"
) -> PotentialConfig:
    """Settings of a model of anisotropy alone. Raises UserError, beginning with ``where``, for what makes no sense."""
    from mmace import PotentialConfig

    return PotentialConfig.from_dict({"elements": list(elements), **POTENTIAL, **(settings or {})}, where)


def anisotropy_training(
    settings: dict[str, Any] | None = None, unified: bool = False, where: str = "training"
) -> TrainingConfig:
    """Settings of the training; ``unified``: of the anisotropy part of a model that else stays as it is. Raises
    UserError, beginning with ``where``, for what makes no sense."""
    from mmace.train import TrainingConfig

    chosen = {**TRAINING, **({"trainable": "anisotropy"} if unified else {}), **(settings or {})}
    return TrainingConfig.from_dict(chosen, where)


def with_part(exchange: Potential, settings: dict[str, Any] | None = None) -> Potential:
    """``exchange`` with an anisotropy part to train, or as it is where it has one already."""
    from mmace.unified import with_anisotropy

    if exchange.anisotropy is not None:
        return exchange
    return with_anisotropy(exchange, part_settings(settings))


def part_settings(settings: dict[str, Any] | None) -> dict[str, Any]:
    """Of an anisotropy part: ``settings`` over the defaults, without the cutoff, which comes from the whole model."""
    return {name: value for name, value in {**POTENTIAL, **(settings or {})}.items() if name != "r_max"}


def elements_of_runs(documents: Sequence[SpinOrbitDocument]) -> list[str]:
    """Chemical symbols by atomic number."""
    from ase.data import atomic_numbers

    return sorted({symbol for one in documents for symbol in one.structure.symbols}, key=atomic_numbers.__getitem__)


def scores_of(models: Potential | Sequence[Potential], documents: Sequence[SpinOrbitDocument]) -> AnisotropyScores:
    """The model, or the mean of several, against runs, on their own directions and moments. Raises UserError without
    runs."""
    from mmace.anisotropy import direction_energies

    if not documents:
        raise UserError("anisotropy: no runs to compare the model with")
    committee = list(models) if isinstance(models, Sequence) else [models]
    errors, sizes, relative = [], [], []
    strengths: list[tuple[str, float, float]] = []
    for one in documents:
        known = configuration_of(one)
        assert known.directions is not None and known.anisotropy is not None
        atoms = known.to_atoms()
        predicted = np.mean([direction_energies(model, atoms, known.directions) for model in committee], axis=0)
        error = np.abs(predicted - predicted.mean() - known.anisotropy) / len(known)
        size = np.abs(known.anisotropy) / len(known)
        errors.append(error.mean())
        sizes.append(size.mean())
        relative.append(error.mean() / (size.mean() + FLOOR))
        ends = [fit_surface(known.directions, values).ends()[2] for values in (known.anisotropy, predicted)]
        formula = atoms.get_chemical_formula(empirical=True)
        strengths.append((formula, *(1000.0 * end / len(known) for end in ends)))  # type: ignore[arg-type]
    computed, found = [row[1] for row in strengths], [row[2] for row in strengths]
    return AnisotropyScores(
        runs=len(documents),
        relative_error=float(np.mean(relative)),
        mean_error=float(np.mean(errors)),
        mean_size=float(np.mean(sizes)),
        spearman=spearman(found, computed),
        recall=recall(found, computed),
        strengths=strengths,
    )
