"""The space group of a crystal whose atoms may carry labels, in the terms that enumeration needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmace.errors import UserError
from mmace_flows.schemas.structure import MagneticStructure

SYMMETRY_TOLERANCE = 1e-3  # Å, and a crystal read from a file with five digits still has its symmetry


@dataclass(frozen=True)
class SpaceGroup:
    """Operations x → W x + t on fractional coordinates, and where they take the atoms. G operations, N atoms."""

    rotations: np.ndarray  # [G,3,3] integers
    images: np.ndarray  # [G,N] index of the atom that atom n is taken to
    shifts: np.ndarray  # [G,N,3] integers: the lattice translation by which it lands off that atom


def site_labels(structure: MagneticStructure) -> list[int]:
    """[N] equal for atoms of one element with moments of one length (to 0.01 μB)."""
    lengths = np.round(np.linalg.norm(np.reshape(structure.magmoms, (-1, 3)), axis=1), 2)
    kinds = list(zip(structure.symbols, lengths.tolist(), strict=True))
    numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds), 1)}
    return [numbers[kind] for kind in kinds]


def space_group(structure: MagneticStructure, tolerance: float = SYMMETRY_TOLERANCE) -> SpaceGroup:
    """The space group of the cell as it is given, directions of moments aside. Raises UserError if there is none."""
    found = _spglib("get_symmetry", structure, tolerance)
    fractional = _fractional(structure)
    labels = np.array(site_labels(structure))
    images = np.zeros((len(found["rotations"]), len(labels)), dtype=int)
    shifts = np.zeros((*images.shape, 3), dtype=int)
    for number, (rotation, translation) in enumerate(zip(found["rotations"], found["translations"], strict=True)):
        moved = fractional @ rotation.T + translation
        offsets = moved[:, None, :] - fractional[None, :, :]
        whole = np.rint(offsets)
        distances = np.linalg.norm((offsets - whole) @ np.asarray(structure.cell), axis=-1)
        distances[labels[:, None] != labels[None, :]] = np.inf
        images[number] = np.argmin(distances, axis=1)
        shifts[number] = whole[np.arange(len(labels)), images[number]].astype(int)
    return SpaceGroup(np.asarray(found["rotations"], dtype=int), images, shifts)


def primitive(structure: MagneticStructure, tolerance: float = SYMMETRY_TOLERANCE) -> MagneticStructure:
    """The primitive cell of the crystal with the lengths of its moments: not turned, and lengths along +z."""
    labels = site_labels(structure)
    cell, fractional, numbers = _spglib("standardize_cell", structure, tolerance, to_primitive=True, no_idealize=True)
    first = {label: labels.index(label) for label in set(labels)}
    atoms = [first[int(number)] for number in numbers]
    lengths = np.linalg.norm(np.reshape(structure.magmoms, (-1, 3)), axis=1)
    return MagneticStructure(
        symbols=[structure.symbols[atom] for atom in atoms],
        positions=(np.asarray(fractional) @ np.asarray(cell)).tolist(),
        cell=np.asarray(cell).tolist(),
        magmoms=[[0.0, 0.0, float(lengths[atom])] for atom in atoms],
    )


def require_crystal(structure: MagneticStructure, what: str) -> None:
    """Raises UserError if ``structure`` is not periodic in three directions with a cell that has a volume."""
    cell = np.asarray(structure.cell, dtype=float)
    if not all(structure.pbc) or abs(np.linalg.det(cell)) < 1e-6:
        raise UserError(f"{what}: the structure is not periodic in three directions; give a crystal with its cell")


def _fractional(structure: MagneticStructure) -> np.ndarray:
    return np.asarray(structure.positions, dtype=float) @ np.linalg.inv(np.asarray(structure.cell, dtype=float))


def _spglib(function: str, structure: MagneticStructure, tolerance: float, **options: Any) -> Any:
    import spglib

    require_crystal(structure, "symmetry")
    cell: tuple[Sequence[Any], ...] = (structure.cell, _fractional(structure).tolist(), site_labels(structure))
    try:
        found = getattr(spglib, function)(cell, symprec=tolerance, **options)
    except Exception as error:  # newer versions of spglib raise where older ones give None
        raise UserError(f"symmetry: none is found ({error}); are two atoms at the same place?") from error
    if found is None:
        raise UserError("symmetry: none is found; are two atoms at the same place?")
    return found
