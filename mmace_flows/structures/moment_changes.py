"""Random changes of moments, collinear or not: rotations by an angle, cones, random directions, scales, flips."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from mmace.errors import UserError
from mmace_flows.schemas.document import Document
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.structures.moments import as_vectors, flip_spins, magnetic_state


class MomentChange(Document):
    """What happens to the moments, in this order. The defaults change nothing."""

    random_directions: bool = Field(default=False, description="every moment in a random direction; lengths are kept")
    rotation: tuple[float, float] = Field(
        default=(0.0, 0.0), description="uniform range of the angle by which a moment is turned about a random axis, °"
    )
    cone: float = Field(
        default=0.0, ge=0.0, le=180.0, description="angle that each moment makes with its old direction, exactly, °"
    )
    together: bool = Field(default=False, description="one rotation for all moments (a rigid turn), not one for each")
    scale: tuple[float, float] = Field(default=(1.0, 1.0), description="uniform range of the factor on each moment")
    flip_probability: float = Field(default=0.0, ge=0.0, le=1.0, description="chance of each moment to reverse")
    elements: list[str] = Field(default_factory=list, description="elements whose moments change; none: all")

    @property
    def nothing(self) -> bool:
        """Whether no moment would change."""
        return self.model_copy(update={"elements": [], "together": False}) == MomentChange()


def random_directions(generator: np.random.Generator, count: int) -> np.ndarray:
    """[count,3] unit vectors, uniform on the sphere."""
    vectors = generator.normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rotated(vectors: np.ndarray, axes: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """``vectors`` [N,3] turned about unit ``axes`` [N,3] by ``angles`` [N], radians (Rodrigues' formula)."""
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    along = np.sum(axes * vectors, axis=1, keepdims=True) * axes
    return vectors * cosine + np.cross(axes, vectors) * sine + along * (1.0 - cosine)


def perpendicular(directions: np.ndarray) -> np.ndarray:
    """[N,3] a unit vector perpendicular to each of ``directions`` [N,3], the same for the same direction."""
    array = np.asarray(directions, dtype=float)
    helpers = np.eye(3)[np.argmin(np.abs(array), axis=1)]
    found = np.cross(array, helpers)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return np.where(lengths > 1e-12, found / np.maximum(lengths, 1e-12), [1.0, 0.0, 0.0])


def change_moments(magmoms: Any, change: MomentChange, generator: np.random.Generator, mask: Any = None) -> np.ndarray:
    """[N,3] μB: ``magmoms`` after ``change``; only where ``mask`` [N] is true."""
    before = as_vectors(magmoms)
    moments, count = before.copy(), len(before)
    lengths = np.linalg.norm(moments, axis=1, keepdims=True)
    if change.random_directions:
        moments = lengths * random_directions(generator, count)
    if change.rotation != (0.0, 0.0):
        axes, angles = random_directions(generator, count), np.deg2rad(generator.uniform(*change.rotation, count))
        if change.together:
            axes, angles = np.tile(axes[0], (count, 1)), np.full(count, angles[0])
        moments = rotated(moments, axes, angles)
    if change.cone > 0.0:
        turns = generator.uniform(0.0, 2.0 * np.pi, count)
        units = moments / np.maximum(np.linalg.norm(moments, axis=1, keepdims=True), 1e-12)
        sideways = rotated(perpendicular(units), units, np.full(count, turns[0]) if change.together else turns)
        moments = lengths * (np.cos(np.deg2rad(change.cone)) * units + np.sin(np.deg2rad(change.cone)) * sideways)
    if change.flip_probability > 0.0:
        moments = flip_spins(moments, generator, change.flip_probability)
    if change.scale != (1.0, 1.0):
        moments = moments * generator.uniform(*change.scale, (count, 1))
    chosen = np.ones(count, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    return np.where(chosen[:, None] & (lengths > 0.0), moments, before) + 0.0


def change_candidate_moments(candidate: Candidate, change: MomentChange, seed: int) -> Candidate:
    """``candidate`` with changed moments; what was done and the seed of it are added to its details.

    Raises UserError for an element that the structure does not have.
    """
    structure = candidate.structure
    moments = change_moments(structure.magmoms, change, np.random.default_rng(seed), element_mask(structure, change))
    return candidate.model_copy(
        update={
            "structure": structure.model_copy(update={"magmoms": moments.tolist()}),
            "magnetic_state": magnetic_state(moments),
            "details": {**candidate.details, "moment_change": change.model_dump(mode="json"), "moment_seed": seed},
        }
    )


def element_mask(structure: MagneticStructure, change: MomentChange) -> np.ndarray | None:
    """[N] the atoms that ``change`` is about, or None for all. Raises UserError for an element that is not there."""
    missing = sorted(set(change.elements) - set(structure.symbols))
    if missing:
        there = ", ".join(sorted(set(structure.symbols)))
        raise UserError(f"moments: element '{missing[0]}' is not in the structure; it has {there}")
    return np.isin(structure.symbols, change.elements) if change.elements else None
