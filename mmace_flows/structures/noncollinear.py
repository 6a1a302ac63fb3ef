"""Non-collinear starts: spirals commensurate with a supercell, cones, triangular order, random directions."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from pydantic import Field

from mmace.errors import UserError
from mmace_flows.schemas.document import Document
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.structures.distort import spawn_seeds
from mmace_flows.structures.enumeration import unit_vector
from mmace_flows.structures.lattices import commensurate_sublattice, supercell, translations
from mmace_flows.structures.moment_changes import MomentChange, change_moments, perpendicular
from mmace_flows.structures.moments import NONMAGNETIC_BELOW, magnetic_state
from mmace_flows.structures.starting_moments import with_lengths
from mmace_flows.structures.symmetry import require_crystal
from mmace_flows.structures.triangular import triangular_moments

KINDS = ("triangular", "spiral", "cone", "random")
LARGEST_DENOMINATOR = 12  # of a wave vector's components: 0.333 is 1/3, 0.3334 is a typing error or incommensurate


class NonCollinearSettings(Document):
    """Which non-collinear starts are made."""

    operation: Literal["noncollinear"] = "noncollinear"
    kind: Literal["triangular", "spiral", "cone", "random"] = Field(
        default="triangular",
        description="triangular: 120° on triangles of neighbours; spiral; cone: a spiral with moments at cone_angle to "
        "the axis; random: random directions",
    )
    moments: dict[str, float] = Field(default_factory=dict, description="element → length, μB; else as enumerate")
    wave_vectors: list[tuple[str, str, str]] = Field(
        default=[("0", "0", "1/2")],
        description="of spirals and cones: fractions of the reciprocal vectors of the cell as it is given",
    )
    axis: tuple[float, float, float] = Field(
        default=(0.0, 0.0, 1.0), description="of spirals and cones: the moments turn about it"
    )
    cone_angle: float = Field(default=45.0, gt=0.0, lt=180.0, description="of cones: angle to the axis, °")
    chirality: list[Literal[1, -1]] = Field(default=[1, -1], description="of triangular order: sense of rotation")
    turn: list[float] = Field(
        default=[0.0, 90.0],
        description="of triangular order: angle of the first moment to the line from the triangle's centre, ° "
        "(0: towards and away from the centre, 90: around it)",
    )
    count: int = Field(default=1, ge=1, description="of random directions: structures per parent")
    seed: int = Field(default=0, ge=0, description="of random directions")


def noncollinear(
    parent: MagneticStructure, settings: NonCollinearSettings | None = None, **labels: Any
) -> list[Candidate]:
    """Non-collinear starts of ``parent``; lengths of moments as in `moment_lengths`, at least 0.1 μB to be turned.

    Raises UserError if nothing is magnetic, there are no triangles, or a wave vector is not a fraction.
    """
    settings = settings or NonCollinearSettings()
    require_crystal(parent, "noncollinear")
    start = with_lengths(parent, settings.moments)
    made: list[tuple[MagneticStructure, dict[str, Any], int | None]] = []
    if settings.kind == "triangular":
        for turn in settings.turn:
            for chirality in settings.chirality:
                moments = triangular_moments(start, turn, chirality)
                made.append((_with(start, moments), {"turn": turn, "chirality": chirality}, None))
    elif settings.kind in ("spiral", "cone"):
        angle = 90.0 if settings.kind == "spiral" else settings.cone_angle
        for vector in settings.wave_vectors:
            wave = wave_vector(vector)
            details = {"wave_vector": [str(part) for part in wave], "axis": list(settings.axis), "cone_angle": angle}
            made.append((spiral(start, wave, settings.axis, angle), details, None))
    else:
        for seed in spawn_seeds(settings.seed, settings.count):
            moments = change_moments(start.magmoms, MomentChange(random_directions=True), np.random.default_rng(seed))
            made.append((_with(start, moments), {}, seed))
    return [
        Candidate(
            structure=structure,
            operation="noncollinear",
            magnetic_state=magnetic_state(structure.magmoms),
            parent=parent.hash(),
            seed=seed,
            details={"kind": settings.kind, **details},
            **labels,
        )
        for structure, details, seed in made
    ]


def wave_vector(parts: Sequence[Any]) -> tuple[Fraction, Fraction, Fraction]:
    """Three fractions from "1/3", "0.5", 0.25 …, with denominators up to 12. Raises UserError otherwise."""
    found = []
    for part in parts:
        try:
            value = Fraction(str(part).strip())
        except (ValueError, ZeroDivisionError):
            raise UserError(f"wave vector: '{part}' is not a number; write for example 1/3") from None
        near = value.limit_denominator(LARGEST_DENOMINATOR)
        if abs(value - near) > 5e-4 or (abs(value - near) > 0 and "/" in str(part)):
            raise UserError(
                f"wave vector: {part} is no fraction with a denominator up to {LARGEST_DENOMINATOR}; its supercell "
                f"would be too large; nearest: {near}"
            )
        found.append(near)
    if len(found) != 3:
        raise UserError(f"wave vector: {len(found)} components; give three, for example 0,0,1/3")
    return found[0], found[1], found[2]


def spiral(
    structure: MagneticStructure,
    wave: Sequence[Fraction],
    axis: Sequence[float] = (0.0, 0.0, 1.0),
    cone_angle: float = 90.0,
) -> MagneticStructure:
    """A spin spiral in the smallest supercell that it is periodic in.

    m = |m| (cos θ n + sin θ (e1 cos φ + e2 sin φ)), φ = 2π q·x, with x the atom's position and q = ``wave`` in terms of
    the cell of ``structure``: in the supercell every moment is the one a cell further, turned by 2π q·T.

    Parameters: ``axis`` n, ``cone_angle`` θ in degrees (90: a flat spiral).
    """
    normal = unit_vector(axis, "spiral: axis")
    first = perpendicular(normal[None, :])[0]
    second = np.cross(normal, first)
    form = commensurate_sublattice(wave)
    cells = translations(form)
    fractional = np.asarray(structure.positions) @ np.linalg.inv(np.asarray(structure.cell))
    places = (cells[:, None, :] + fractional[None, :, :]).reshape(-1, 3)
    phases = 2.0 * np.pi * places @ np.array([float(part) for part in wave])
    lengths = np.tile(np.linalg.norm(np.asarray(structure.magmoms), axis=1), len(cells))
    theta = np.deg2rad(cone_angle)
    directions = np.cos(theta) * normal + np.sin(theta) * (
        np.outer(np.cos(phases), first) + np.outer(np.sin(phases), second)
    )
    # small moments stay along the axis: they are not spins of their own
    directions[lengths < NONMAGNETIC_BELOW] = normal
    return _with(supercell(structure, form), lengths[:, None] * directions)


def _with(structure: MagneticStructure, moments: np.ndarray) -> MagneticStructure:
    return structure.model_copy(update={"magmoms": (np.asarray(moments) + 0.0).tolist()})
