"""Triangular (120°) order: three sublattices on the triangles that nearest magnetic neighbours make.

In the kagome planes of Mn3Pt (Mn at the faces of the cube) the sublattices are the three Mn of the cell. A cell in
which an atom is the neighbour of its own image (one atom per triangular layer) needs a supercell first, or a spiral
with wave vector (1/3, 1/3, 0).
"""

from __future__ import annotations

import numpy as np
from ase.neighborlist import neighbor_list

from mmace.errors import UserError
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.moments import NONMAGNETIC_BELOW

SHELL = 1.05  # neighbours up to this times the shortest distance count as nearest


def triangular_moments(structure: MagneticStructure, turn: float = 0.0, chirality: int = 1) -> np.ndarray:
    """[N,3] μB: moments of the lengths that ``structure`` has, 120° apart, in the plane of a triangle.

    Parameters: ``turn`` angle of the first sublattice's moment to the line from the triangle's centre to its atom, °;
    ``chirality`` +1: moments turn as the atoms do around the triangle, −1: the other way.
    Raises UserError without triangles of magnetic neighbours, or if three sublattices do not fit the cell.
    """
    lengths = np.linalg.norm(np.asarray(structure.magmoms, dtype=float), axis=1)
    atoms = structure.to_atoms()
    magnetic = np.flatnonzero(lengths >= NONMAGNETIC_BELOW)
    sites = atoms[magnetic]
    shortest = _shortest(sites)
    first, second, vectors = neighbor_list("ijD", sites, SHELL * shortest)
    if np.any(first == second):
        raise UserError(
            "triangular: a magnetic atom is the neighbour of its own image; make a supercell first, or a spiral with "
            "wave vector 1/3,1/3,0"
        )
    sublattice = _three_colours(len(magnetic), first, second)
    corner, u, v = _triangle(first, second, vectors, sublattice)
    places = {corner[0]: np.zeros(3), corner[1]: u, corner[2]: v}  # relative to the first corner
    centre = (u + v) / 3.0
    normal = np.cross(u, v) / np.linalg.norm(np.cross(u, v))
    normal = normal * np.sign(normal[np.argmax(np.abs(normal) > 1e-6)])  # first component that is not zero: positive
    outwards = -centre / np.linalg.norm(centre)
    sideways = np.cross(normal, outwards)
    # sublattice → angle of its atom around the triangle, 0, 120 or 240°
    around = {
        sublattice[site]: np.arctan2((places[site] - centre) @ sideways, (places[site] - centre) @ outwards)
        for site in corner
    }
    moments = np.asarray(structure.magmoms, dtype=float).copy()
    for number, atom in enumerate(magnetic):
        steps = round(np.rad2deg(around[sublattice[number]]) / 120.0)
        angle = np.deg2rad(turn + chirality * 120.0 * steps)
        moments[atom] = lengths[atom] * (np.cos(angle) * outwards + np.sin(angle) * sideways)
    return moments


def _shortest(sites: object) -> float:
    for cutoff in (4.0, 8.0, 16.0):
        distances = neighbor_list("d", sites, cutoff)
        if len(distances):
            return float(distances.min())
    raise UserError("triangular: the magnetic atoms are more than 16 Å apart; there are no triangles")


def _three_colours(count: int, first: np.ndarray, second: np.ndarray) -> list[int]:
    """[count] sublattice 0, 1, 2 of each site, neighbours always on different ones. UserError if there is no way."""
    neighbours: list[set[int]] = [set() for _ in range(count)]
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        neighbours[one].add(other)
    colours: list[int] = [-1] * count
    order: list[int] = []
    while len(order) < count:  # breadth first, so that a contradiction shows early
        queue = [next(site for site in range(count) if site not in order)]
        while queue:
            site = queue.pop(0)
            if site not in order:
                order.append(site)
                queue += sorted(neighbours[site])
    place, tries = 0, 0
    while 0 <= place < count:
        tries += 1
        if tries > 100_000:
            break
        site = order[place]
        taken = {colours[other] for other in neighbours[site]}
        colours[site] = next((c for c in range(colours[site] + 1, 3) if c not in taken), -1)
        place += 1 if colours[site] >= 0 else -1
    if place != count:
        raise UserError(
            "triangular: the magnetic atoms of this cell cannot be divided into three sublattices with neighbours on "
            "different ones; use a supercell, a spiral, or random directions"
        )
    return colours


def _triangle(
    first: np.ndarray, second: np.ndarray, vectors: np.ndarray, sublattice: list[int]
) -> tuple[tuple[int, int, int], np.ndarray, np.ndarray]:
    """One triangle of neighbours: its sites, the first on sublattice 0, and the vectors from it to the other two, Å.

    Of all triangles the one whose plane is closest to (111), the first of several: the same for the same crystal.
    """
    best: tuple[float, tuple[int, int, int], np.ndarray, np.ndarray] | None = None
    for site in np.flatnonzero(np.array(sublattice) == 0):
        bonds = np.flatnonzero(first == site)
        for a in bonds:
            for b in bonds[bonds > a]:
                corner = (int(site), int(second[a]), int(second[b]))
                longest = max(np.linalg.norm(vectors[a]), np.linalg.norm(vectors[b]))
                if len(set(corner)) < 3 or np.linalg.norm(vectors[b] - vectors[a]) > SHELL * longest:
                    continue
                normal = np.cross(vectors[a], vectors[b])
                closeness = round(abs(float(normal.sum())) / float(np.linalg.norm(normal)), 6)
                if best is None or closeness > best[0]:
                    best = closeness, corner, vectors[a], vectors[b]
    if best is None:
        raise UserError(
            "triangular: the nearest magnetic neighbours make no triangles; use a spiral or random directions"
        )
    return best[1:]
