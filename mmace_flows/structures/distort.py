"""Random distortions of a parent: volume, strain, displacements, moments. The same seed gives the same structures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from ase.geometry import minkowski_reduce
from pydantic import Field

from mmace.errors import UserError
from mmace_flows.schemas.document import Document
from mmace_flows.schemas.structure import Candidate, MagneticState, MagneticStructure
from mmace_flows.structures.moments import as_vectors, flip_spins, magnetic_state, pattern_moments, scale_moments

MAX_TRIES = 200  # draws until one keeps the minimum distance


class DistortSettings(Document):
    """How far a distortion goes. The defaults are the paper's."""

    volume_scale: tuple[float, float] = Field(
        default=(0.6, 1.4), description="uniform range of the factor on the volume; same shape"
    )
    displacement: float = Field(default=0.05, ge=0.0, description="σ of the Gaussian on every coordinate, Å")
    strain: float = Field(default=0.0, ge=0.0, description="σ of the Gaussian on every component of a symmetric strain")
    flip_probability: float = Field(default=0.0, ge=0.0, le=1.0, description="chance of each atom's moment to reverse")
    moment_scale: tuple[float, float] = Field(
        default=(1.0, 1.0), description="uniform range of the factor on each atom's moment; the paper: 0 to 1 in part"
    )
    minimum_distance: float = Field(default=1.6, ge=0.0, description="draws with closer atoms are drawn again, Å")


def distort(
    parent: MagneticStructure,
    seed: int,
    settings: DistortSettings | None = None,
    state: MagneticState | None = None,
    operation: str = "distort",
    group: str = "train",
    iteration: int = 0,
    details: dict[str, Any] | None = None,
) -> Candidate:
    """One random distortion of ``parent``.

    First the volume (shape kept), then a strain if asked for, then displacements, then moments: the pattern of
    ``state`` (the parent's own moments without one), flips, scales. The candidate's magnetic state is that of the
    moments that come out; the pattern asked for stands in ``details["pattern"]``.
    Raises UserError if no draw keeps the minimum distance.
    """
    settings = settings or DistortSettings()
    generator = np.random.default_rng(seed)
    moments = as_vectors(parent.magmoms) if state is None else pattern_moments(state, len(parent.symbols))
    for _ in range(MAX_TRIES):
        cell, positions, volume_scale = _distorted_geometry(parent, generator, settings)
        if minimum_distance(cell, positions) >= settings.minimum_distance:
            break
    else:
        raise UserError(
            f"distort: {MAX_TRIES} draws all put atoms closer than {settings.minimum_distance} Å; "
            "raise volume_scale or lower minimum_distance"
        )
    moments = flip_spins(moments, generator, settings.flip_probability)
    moments = scale_moments(moments, generator, *settings.moment_scale)
    structure = parent.model_copy(
        update={"cell": cell.tolist(), "positions": positions.tolist(), "magmoms": moments.tolist()}
    )
    return Candidate(
        structure=structure,
        operation=operation,
        magnetic_state=magnetic_state(moments),
        parent=parent.hash(),
        seed=seed,
        group=group,
        iteration=iteration,
        details={
            **(details or {}),
            **settings.model_dump(mode="json"),
            "volume_factor": volume_scale,
            "pattern": state or magnetic_state(parent.magmoms),
        },
    )


def distortions(
    parents: Sequence[Candidate],
    per_parent: int,
    seed: int,
    settings: DistortSettings | None = None,
    states: Iterable[MagneticState] = ("FM", "AFM"),
    scaled_every: int = 2,
    group: str = "train",
    iteration: int = 0,
) -> list[Candidate]:
    """``per_parent`` distortions of every parent, through ``states`` in turn, each with a seed of its own.

    Every ``scaled_every``-th one also has its spins flipped at random and each moment scaled by U[0,1], as the paper
    does to part of its data (0: none). NM starts stay at zero moments.
    """
    settings = settings or DistortSettings()
    varied = settings.model_copy(update={"flip_probability": 0.5, "moment_scale": (0.0, 1.0)})
    states = tuple(states)
    seeds = spawn_seeds(seed, len(parents) * per_parent)
    candidates = []
    for number, one_seed in enumerate(seeds):
        parent = parents[number // per_parent]
        chosen = varied if scaled_every and number % scaled_every == scaled_every - 1 else settings
        # the state moves on by one more per parent, so that each parent meets each state plain and varied
        state = states[(number // max(scaled_every, 1) + number // per_parent) % len(states)]
        candidates.append(
            distort(
                parent.structure,
                one_seed,
                chosen,
                state=state,
                group=group,
                iteration=iteration,
                details={name: parent.details[name] for name in ("base",) if name in parent.details},
            )
        )
    return candidates


def perturb(
    structure: MagneticStructure,
    seed: int,
    displacement: float = 0.05,
    moment_scale: tuple[float, float] = (0.7, 1.1),
    flip_probability: float = 0.0,
    strain: float = 0.0,
    group: str = "train",
    iteration: int = 0,
    details: dict[str, Any] | None = None,
) -> Candidate:
    """A small change of positions (σ ``displacement`` Å), strain and moments at the same volume: for the points of the
    model's own antiferromagnetic path, whose relaxed moments ``structure`` carries."""
    settings = DistortSettings(
        volume_scale=(1.0, 1.0),
        displacement=displacement,
        strain=strain,
        moment_scale=moment_scale,
        flip_probability=flip_probability,
    )
    return distort(structure, seed, settings, operation="perturb", group=group, iteration=iteration, details=details)


def spawn_seeds(seed: int, count: int) -> list[int]:
    """``count`` independent seeds from one; the first ones do not change when more are asked for."""
    return [int(child.generate_state(1)[0]) for child in np.random.SeedSequence(seed).spawn(count)]


def minimum_distance(cell: np.ndarray, positions: np.ndarray) -> float:
    """Shortest distance between two atoms, periodic images included, Å. ``cell`` [3,3], ``positions`` [N,3]."""
    # in a Minkowski-reduced cell the images within one cell of the nearest one are enough
    reduced = minkowski_reduce(np.asarray(cell, dtype=float))[0]
    fractional = np.asarray(positions, dtype=float) @ np.linalg.inv(reduced)
    differences = fractional[:, None, :] - fractional[None, :, :]
    differences -= np.round(differences)
    images = np.array(np.meshgrid(*[[-1, 0, 1]] * 3)).reshape(3, -1).T
    distances = np.linalg.norm((differences[:, :, None, :] + images) @ reduced, axis=-1)
    return float(distances[distances > 1e-8].min())


def _distorted_geometry(
    parent: MagneticStructure, generator: np.random.Generator, settings: DistortSettings
) -> tuple[np.ndarray, np.ndarray, float]:
    cell, positions = np.asarray(parent.cell, dtype=float), np.asarray(parent.positions, dtype=float)
    volume_scale = float(generator.uniform(*settings.volume_scale))
    strain = symmetric_strain(generator, settings.strain)
    deformation = volume_scale ** (1.0 / 3.0) * (np.eye(3) + strain)
    displacements = generator.normal(0.0, 1.0, positions.shape) * settings.displacement
    return cell @ deformation, positions @ deformation + displacements, volume_scale


def symmetric_strain(generator: np.random.Generator, sigma: float) -> np.ndarray:
    """[3,3] symmetric, every independent component Gaussian with ``sigma``."""
    components = generator.normal(0.0, 1.0, (3, 3)) * sigma
    return np.triu(components) + np.triu(components, 1).T
