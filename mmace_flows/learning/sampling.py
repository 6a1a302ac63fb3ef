"""What to label next: Metropolis walks with the model, and the model's own perturbed antiferromagnetic path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from mmace_flows.learning.selection import most_uncertain
from mmace_flows.schemas.document import Document, content_hash
from mmace_flows.schemas.structure import Candidate, MagneticState, MagneticStructure
from mmace_flows.structures.base_cells import BASE_RATIOS, FENI_VOLUME_PER_ATOM, bain_structure
from mmace_flows.structures.distort import perturb, spawn_seeds
from mmace_flows.structures.metropolis import MetropolisSettings, Progress, metropolis_candidates
from mmace_flows.structures.moments import magnetic_state

if TYPE_CHECKING:
    from mmace import Potential
    from mmace.uncertainty import Uncertainty


class SamplingSettings(Document):
    """How each iteration after the first finds its structures."""

    metropolis: MetropolisSettings = Field(default_factory=MetropolisSettings, description="moves and guards of a walk")
    states: list[MagneticState] = Field(default=["NM", "FM", "AFM"], description="states that walks start in")
    bases: list[str] = Field(default=list(BASE_RATIOS), description="base cells that walks start from")
    rattled: int = Field(default=6, ge=0, description="structures kept from the walks, spread over c/a and volume")
    selection: Literal["spread", "uncertainty"] = Field(
        default="spread",
        description="which of the walks' structures are kept: spread over c/a, volume and moments, or the ones that "
        "the committee (the last layer of a single model) is least sure of",
    )
    pool: int = Field(default=5, ge=1, description="with selection by uncertainty: structures looked at per kept one")
    path_points: int = Field(default=4, ge=0, description="points of the model's own antiferromagnetic path, perturbed")
    path_range: tuple[float, float] = Field(default=(0.95, 1.55), description="c/a of that path")
    path_displacement: float = Field(default=0.05, ge=0.0, description="σ of its displacements, Å")
    path_moment_scale: tuple[float, float] = Field(default=(0.7, 1.1), description="range of its factors on moments")
    volume: float = Field(default=FENI_VOLUME_PER_ATOM, gt=0.0, description="of starts and path, Å³ per atom")
    seed: int = Field(default=0, description="seed of walks and perturbations")


def propose(
    model: Potential,
    settings: SamplingSettings,
    iteration: int,
    progress: Progress | None = None,
    uncertainty: Uncertainty | None = None,
) -> tuple[list[Candidate], dict[str, Any]]:
    """Candidates for ``iteration`` and what is worth knowing about how they were found. ``uncertainty`` is needed for
    selection by uncertainty; without it the spread decides.

    The same model, settings and iteration propose the same candidates, so a job that was killed starts over to the
    same labels.
    """
    from mmace import MagneticCalculator

    by_uncertainty = settings.selection == "uncertainty" and uncertainty is not None
    rattled: list[Candidate] = []
    details: dict[str, Any] = {}
    if settings.rattled:
        starts = [
            relaxed_start(model, bain_structure(settings.volume, BASE_RATIOS[base], state))
            for base, state in _pairs(settings.bases, settings.states)
        ]
        rattled, statistics = metropolis_candidates(
            starts,
            MagneticCalculator(model, moments="fixed"),
            settings.rattled * (settings.pool if by_uncertainty else 1),
            _seed(settings.seed, iteration, "walk"),
            settings.metropolis,
            iteration=iteration,
            progress=progress,
        )
        details["walks"] = [statistic.model_dump() for statistic in statistics]
        if by_uncertainty and uncertainty is not None:
            rattled = most_uncertain(rattled, uncertainty, settings.rattled)
    path = perturbed_path(model, settings, iteration)
    details["path_states_lost"] = sum(bool(candidate.details["state_lost"]) for candidate in path)
    return [*rattled, *path], details


def _pairs(bases: Sequence[str], states: Sequence[MagneticState]) -> list[tuple[str, MagneticState]]:
    """One walk per base and state."""
    return [(base, state) for base in bases for state in states]


def relaxed_start(model: Potential, structure: MagneticStructure) -> MagneticStructure:
    """``structure`` with the model's moments; with its own where they do not relax or leave the magnetic state."""
    from mmace.spins.relax import relax_moments

    asked = magnetic_state(structure.magmoms)
    if asked == "NM":
        return structure
    result = relax_moments(model, structure.to_atoms(), mode="collinear")[0]
    if not result.converged or magnetic_state(result.magmoms) != asked:
        return structure
    return structure.model_copy(update={"magmoms": np.asarray(result.magmoms, dtype=float).tolist()})


def perturbed_path(model: Potential, settings: SamplingSettings, iteration: int) -> list[Candidate]:
    """The model's antiferromagnetic Bain path, positions and moments perturbed, so that no point of it is a point of
    the reference path. Where the model loses the state, DFT starts from the pattern."""
    if not settings.path_points:
        return []
    low, high = settings.path_range
    width = (high - low) / settings.path_points
    ratios = [low + (index + 0.5) * width for index in range(settings.path_points)]
    seeds = spawn_seeds(_seed(settings.seed, iteration, "path"), settings.path_points)
    candidates = []
    for ratio, seed in zip(ratios, seeds, strict=True):
        pattern = bain_structure(settings.volume, ratio, "AFM")
        structure = relaxed_start(model, pattern)
        lost = structure is pattern
        candidates.append(
            perturb(
                structure,
                seed,
                displacement=settings.path_displacement,
                moment_scale=settings.path_moment_scale,
                iteration=iteration,
                details={"c_over_a": ratio, "state_lost": lost},
            )
        )
    return candidates


def _seed(seed: int, iteration: int, purpose: str) -> int:
    """A seed of its own for every iteration and purpose."""
    return int(content_hash([seed, iteration, purpose])[:8], 16)
