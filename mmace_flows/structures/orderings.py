"""All ± decorations of the magnetic sites of a crystal's supercells, each once: exact, for up to about 16 sites.

Every sublattice up to a number of cells (Hermite normal forms), once per class under the point group; on each, all 2^m
signs of its m magnetic sites, as bits of whole numbers. Two decorations are the same if an operation of the space group
(translations of the parent lattice included) takes one into the other or into its reverse: the energy without a field
does not know the global sign. Decorations that a smaller cell already has are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mmace.errors import UserError
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.lattices import hermite_normal_form, reduced, sublattices, translations
from mmace_flows.structures.symmetry import SpaceGroup, space_group

MAX_SITES = 20  # 2^20 decorations of one supercell are held at once
MAX_DECORATIONS = 5e5  # of all supercells together, before symmetry: about a minute
CHUNK = 10  # bits that one table look-up moves


@dataclass(frozen=True)
class Ordering:
    """One decoration. m magnetic sites: cell by cell of the supercell, in the parent's order."""

    form: np.ndarray  # [3,3] Hermite normal form of the supercell in terms of the parent cell
    signs: np.ndarray  # [m] +1 or −1; the first is +1
    operations: int  # of the magnetic group: those that keep it, with or without reversal, modulo the supercell

    @property
    def cells(self) -> int:
        """Parent cells in the supercell."""
        return int(np.prod(np.diag(self.form)))


def distinct_sublattices(group: SpaceGroup, index: int) -> list[np.ndarray]:
    """One Hermite normal form [3,3] for each class of sublattices of ``index`` under the point group."""
    seen: set[bytes] = set()
    found = []
    rotations = np.unique(group.rotations, axis=0)
    for form in sublattices(index):
        if form.tobytes() not in seen:
            found.append(form)
            seen.update(hermite_normal_form(form @ rotation.T).tobytes() for rotation in rotations)
    return found


def site_permutations(group: SpaceGroup, form: np.ndarray, sites: Sequence[int]) -> tuple[np.ndarray, int]:
    """How the space group moves the magnetic sites of a supercell.

    Parameters: ``sites`` indices of the magnetic atoms of the parent cell, M of them; m = M × cells.
    Returns [G·cells, m] (the site that each site goes to), pure lattice translations first, and their number.
    """
    cells = translations(form)
    place = np.array([form[1, 1] * form[2, 2], form[2, 2], 1])  # cell → its number in the order of `translations`
    number_of = {site: number for number, site in enumerate(sites)}
    chosen = list(sites)
    identity = np.arange(group.images.shape[1])

    def is_identity(g: int) -> bool:
        same_atoms = np.array_equal(group.images[g], identity) and not group.shifts[g].any()
        return bool(same_atoms and np.array_equal(group.rotations[g], np.eye(3)))

    kept = [g for g, w in enumerate(group.rotations) if np.array_equal(hermite_normal_form(form @ w.T), form)]
    rows = []
    for g in sorted(kept, key=lambda g: not is_identity(g)):
        landed = cells[:, None, :] @ group.rotations[g].T + group.shifts[g][chosen][None, :, :]  # [cells,M,3]
        new = reduced(landed[None] + cells[:, None, None, :], form)  # [shift,cell,M,3]
        images = np.array([number_of[int(image)] for image in group.images[g][chosen]])
        rows.append((new @ place * len(chosen) + images).reshape(len(cells), -1))
    return np.concatenate(rows), len(cells)


def orderings_on(group: SpaceGroup, form: np.ndarray, sites: Sequence[int]) -> Iterator[Ordering]:
    """Every distinct decoration of this supercell that no smaller cell has, the all-up one first."""
    permutations, num_translations = site_permutations(group, form, sites)
    count = permutations.shape[1]
    everything = (1 << count) - 1
    codes = np.arange(1 << count, dtype=np.int64)
    codes = codes[: 1 << (count - 1)]  # site 0 is the highest bit: these have it up; the others are their reverses
    least, stabiliser = codes.copy(), np.zeros(len(codes), dtype=np.int64)
    repeats = np.zeros(len(codes), dtype=bool)
    for number, permutation in enumerate(permutations):
        images = _moved(codes, permutation)
        reversed_images = everything ^ images
        same = images == codes
        stabiliser += same
        stabiliser += reversed_images == codes
        if 0 < number < num_translations:
            repeats |= same
        np.minimum(least, images, out=least)
        np.minimum(least, reversed_images, out=least)
    for code in codes[(least == codes) & ~repeats]:
        bits = (int(code) >> np.arange(count - 1, -1, -1)) & 1
        yield Ordering(form, 1 - 2 * bits, int(stabiliser[code]))


def orderings(structure: MagneticStructure, sites: Sequence[int], max_cells: int) -> list[Ordering]:
    """Every distinct decoration of ``sites`` in supercells of up to ``max_cells`` cells of ``structure``.

    Atoms are told apart by element and by the length of their moment. Raises UserError for too many.
    """
    group = space_group(structure)
    lattices = [distinct_sublattices(group, index) for index in range(1, min(max_cells, MAX_SITES) + 1)]
    looked_at = np.cumsum([len(forms) * 2.0 ** (n * len(sites) - 1) for n, forms in enumerate(lattices, 1)])
    within = int(np.sum(looked_at <= MAX_DECORATIONS))
    if within < max_cells or max_cells * len(sites) > MAX_SITES:
        possible = min(within, MAX_SITES // len(sites))
        mend = f"lower max_cells to {possible}" if possible else "set moments of induced elements to 0"
        raise UserError(
            f"enumerate: {max_cells} cells of {len(sites)} magnetic sites are too many: at most {MAX_SITES} sites and "
            f"{MAX_DECORATIONS:,.0f} decorations are looked at; {mend}"
        )
    return [ordering for forms in lattices for form in forms for ordering in orderings_on(group, form, sites)]


def _moved(codes: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    """The codes after every site's sign has gone to ``permutation[site]``; site i is bit count−1−i."""
    count = len(permutation)
    target = np.empty(count, dtype=np.int64)  # bit → value of the bit it goes to
    target[count - 1 - np.arange(count)] = 1 << (count - 1 - permutation)
    moved = np.zeros_like(codes)
    for low in range(0, count, CHUNK):
        width = min(CHUNK, count - low)
        numbers = np.arange(1 << width)
        table = ((numbers[:, None] >> np.arange(width)) & 1) @ target[low : low + width]
        moved |= table[(codes >> low) & ((1 << width) - 1)]
    return moved
