"""A path between two structures of the same atoms: cell, positions and moments interpolated. The ends are the ends."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from ase.geometry import minkowski_reduce
from pydantic import Field
from scipy.optimize import linear_sum_assignment

from mmace.errors import UserError
from mmace_flows.schemas.document import Document
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.structures.distort import minimum_distance
from mmace_flows.structures.moment_changes import perpendicular, rotated
from mmace_flows.structures.moments import magnetic_state


class PathSettings(Document):
    """How the way between two structures is made."""

    operation: Literal["path"] = "path"
    images: int = Field(default=9, ge=2, description="structures on the path, both ends included")
    moments: Literal["linear", "rotate"] = Field(
        default="linear",
        description="linear: components; rotate: lengths linear, directions on the great circle between the ends",
    )
    match_atoms: bool = Field(
        default=True, description="give each atom of the first structure the nearest one of its element in the last"
    )
    keep_volume: bool = Field(
        default=False, description="interpolate the volume linearly, whatever the interpolated cell vectors give"
    )
    minimum_distance: float = Field(default=1.0, ge=0.0, description="a path with closer atoms is refused, Å")


def path_between(
    first: MagneticStructure, last: MagneticStructure, settings: PathSettings | None = None, **labels: Any
) -> list[Candidate]:
    """``images`` structures from ``first`` to ``last``: cell vectors and fractional positions (the short way) linear.

    Raises UserError if the two have other atoms, one is turned or mirrored so far that the cell collapses on the way,
    or atoms come too close.
    """
    settings = settings or PathSettings()
    if sorted(first.symbols) != sorted(last.symbols):
        raise UserError(
            f"path: the ends have other atoms ({_formula(first)} and {_formula(last)}); give two cells of the same ones"
        )
    if first.pbc != last.pbc or not all(first.pbc):
        raise UserError("path: both ends must be periodic in three directions; give crystals with their cells")
    cells = [np.asarray(structure.cell, dtype=float) for structure in (first, last)]
    if np.linalg.det(cells[0]) * np.linalg.det(cells[1]) <= 0:
        raise UserError("path: one cell is left-handed and the other right-handed; exchange two vectors of one cell")
    for t in np.linspace(0.0, 1.0, 21):
        way = [abs(np.linalg.det(one)) for one in (*cells, (1.0 - t) * cells[0] + t * cells[1])]
        if way[2] < 0.2 * ((1.0 - t) * way[0] + t * way[1]):
            raise UserError(f"path: the cell collapses at {t:.2f} of the way; turn one end into the other's frame")
    places = [np.asarray(s.positions) @ np.linalg.inv(cell) for s, cell in zip((first, last), cells, strict=True)]
    order = _matched(first, last, cells, places) if settings.match_atoms else list(range(len(first.symbols)))
    if [last.symbols[atom] for atom in order] != first.symbols:
        raise UserError("path: the atoms of the ends stand in another order; set match_atoms")
    steps = places[1][order] - places[0]
    steps -= np.round(steps)
    ends = np.asarray(first.magmoms, dtype=float), np.asarray(last.magmoms, dtype=float)[order]
    made = []
    for t in np.linspace(0.0, 1.0, settings.images):
        cell = (1.0 - t) * cells[0] + t * cells[1]
        volumes = [abs(np.linalg.det(one)) for one in (*cells, cell)]
        wanted = (1.0 - t) * volumes[0] + t * volumes[1]
        if settings.keep_volume and 0.0 < t < 1.0:
            cell = cell * (wanted / volumes[2]) ** (1.0 / 3.0)
        positions = (places[0] + t * steps) @ cell
        moments = (1.0 - t) * ends[0] + t * ends[1] if settings.moments == "linear" else _turned(*ends, float(t))
        if len(positions) > 1 and minimum_distance(cell, positions) < settings.minimum_distance:
            raise UserError(
                f"path: atoms come closer than {settings.minimum_distance} Å at {t:.2f} of the way; "
                "order the atoms of both ends alike, or lower minimum_distance"
            )
        structure = first.model_copy(
            update={"cell": cell.tolist(), "positions": positions.tolist(), "magmoms": (moments + 0.0).tolist()}
        )
        made.append((float(t), structure))
    return [
        Candidate(
            structure=structure,
            operation="path",
            magnetic_state=magnetic_state(structure.magmoms),
            parent=first.hash(),
            details={"fraction": t, "towards": last.hash(), "moments": settings.moments, "atoms": order},
            **labels,
        )
        for t, structure in made
    ]


def _matched(
    first: MagneticStructure, last: MagneticStructure, cells: list[np.ndarray], places: list[np.ndarray]
) -> list[int]:
    """For each atom of ``first`` the atom of ``last``: same element, smallest sum of squares of the distances, measured
    in the mean cell. A common shift of all atoms is not taken out."""
    mean = minkowski_reduce(0.5 * (cells[0] + cells[1]))[0]
    to_mean = 0.5 * (cells[0] + cells[1]) @ np.linalg.inv(mean)
    symbols = np.array(first.symbols)
    wrong = symbols[:, None] != np.array(last.symbols)[None, :]
    differences = (places[1][None, :, :] - places[0][:, None, :]) @ to_mean
    differences -= np.round(differences)
    squares = np.sum((differences @ mean) ** 2, axis=-1)
    # ties are broken by the order of atoms, so that equal structures keep their own
    squares = squares + 1e-6 * np.abs(np.subtract.outer(np.arange(len(symbols)), np.arange(len(symbols))))
    squares[wrong] = 1e9
    return [int(atom) for atom in linear_sum_assignment(squares)[1]]


def _turned(first: np.ndarray, last: np.ndarray, t: float) -> np.ndarray:
    """Moments [N,3] a fraction ``t`` of the way: lengths linear, directions turned about the common normal.

    Opposite directions turn about a fixed perpendicular axis; a moment that is zero at one end keeps its direction.
    """
    if t in (0.0, 1.0):
        return first if t == 0.0 else last
    lengths = [np.linalg.norm(moments, axis=1) for moments in (first, last)]
    units = [m / np.maximum(n, 1e-12)[:, None] for m, n in zip((first, last), lengths, strict=True)]
    units[0] = np.where(lengths[0][:, None] > 1e-9, units[0], units[1])
    units[1] = np.where(lengths[1][:, None] > 1e-9, units[1], units[0])
    normals = np.cross(units[0], units[1])
    sines = np.linalg.norm(normals, axis=1)
    axes = np.where(sines[:, None] > 1e-9, normals / np.maximum(sines, 1e-12)[:, None], perpendicular(units[0]))
    angles = np.arctan2(sines, np.sum(units[0] * units[1], axis=1))
    return ((1.0 - t) * lengths[0] + t * lengths[1])[:, None] * rotated(units[0], axes, t * angles)


def _formula(structure: MagneticStructure) -> str:
    return str(structure.to_atoms().get_chemical_formula())
