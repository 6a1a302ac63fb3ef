"""From atoms to a batch: neighbour lists in a padded [atoms, neighbours] layout.

Edges are sorted by receiver and padded to the same number of neighbours per atom, so that the sum over neighbours is a
batched matrix product and not a scatter. A padding edge has a length of exactly r_max, where the envelope and its
derivatives vanish: it adds nothing to messages or to any gradient, and they need no mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from torch import Tensor
from vesin import NeighborList

from mmace.errors import UserError


@dataclass
class ElementSlots:
    """The elements of each structure, numbered apart as its slots: neighbours can be summed by element."""

    kinds: Tensor  # [Z] elements of the batch, as `species`
    slot: Tensor  # [N,M] of the neighbour's element; −1 for padding
    element: Tensor  # [N,slots] which of ``kinds``; −1 where a structure has fewer elements


@dataclass
class Graph:
    """A batch of S structures with N atoms in all and up to M neighbours per atom."""

    positions: Tensor  # [N,3] Å
    magmoms: Tensor  # [N,3] μB
    species: Tensor  # [N] index into the model's elements
    cell: Tensor  # [S,3,3] rows are cell vectors, Å; zero where not periodic
    structure: Tensor  # [N] index of the structure an atom belongs to
    num_atoms: Tensor  # [S]
    senders: Tensor  # [N,M] index of the neighbour
    shifts: Tensor  # [N,M,3] periodic image of the neighbour, in cell vectors
    real: Tensor  # [N,M] False for padding
    volume: Tensor  # [S] Å³; nan where the cell is not periodic in three directions
    head: Tensor  # [S] which head of the model: one per level of theory

    @property
    def num_structures(self) -> int:
        """S."""
        return int(self.cell.shape[0])

    @property
    def average_neighbors(self) -> float:
        """Mean number of real neighbours per atom."""
        return float(self.real.sum()) / max(self.real.shape[0], 1)

    def element_slots(self, elements: int) -> ElementSlots:
        """Who of the neighbours is of which of the structure's elements. ``elements``: how many the model knows."""
        kinds, kind = self.species[:1], self.species
        if elements > 1:
            kinds, kind = torch.unique(self.species, return_inverse=True)
        if len(kinds) == 1:
            return ElementSlots(kinds, self.real.long() - 1, kind.unsqueeze(1))
        present = torch.zeros(self.num_structures, len(kinds), dtype=torch.bool, device=kinds.device)
        present[self.structure, kind] = True
        counts = present.sum(1, keepdim=True)
        slot = (present.cumsum(1) - 1)[self.structure.unsqueeze(1), kind[self.senders]]
        order = present.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, : int(counts.max())]
        element = torch.where(torch.arange(order.shape[1], device=kinds.device) < counts, order, -1)
        return ElementSlots(kinds, torch.where(self.real, slot, -1), element[self.structure])

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Graph:
        """Copy with floating-point tensors in ``dtype``, all on ``device``."""
        moved = {}
        for name, tensor in self.__dict__.items():
            wanted = dtype if tensor.is_floating_point() else None
            moved[name] = tensor.to(dtype=wanted or tensor.dtype, device=device or tensor.device)
        return Graph(**moved)

    def with_magmoms(self, magmoms: Tensor) -> Graph:
        """Copy with other moments [N,3] μB."""
        return replace(self, magmoms=magmoms)

    def repeated(self, structure: Tensor) -> Graph:
        """The batch of R structures whose number r is a copy of the one numbered ``structure[r]`` here."""
        starts = self.num_atoms.cumsum(0) - self.num_atoms
        sizes = self.num_atoms[structure]
        owner = torch.repeat_interleave(torch.arange(len(structure), device=sizes.device), sizes)
        shift = (sizes.cumsum(0) - sizes - starts[structure])[owner]  # of an atom's number
        atoms = torch.arange(len(owner), device=sizes.device) - shift
        return Graph(
            positions=self.positions[atoms],
            magmoms=self.magmoms[atoms],
            species=self.species[atoms],
            cell=self.cell[structure],
            structure=owner,
            num_atoms=sizes,
            senders=self.senders[atoms] + shift.unsqueeze(1),
            shifts=self.shifts[atoms],
            real=self.real[atoms],
            volume=self.volume[structure],
            head=self.head[structure],
        )

    def rotated(self, position_rotations: Tensor, moment_rotations: Tensor) -> Graph:
        """Copy with positions and cells turned by [S,3,3] and moments by [S,3,3] (Q·v for each vector v)."""
        turn = position_rotations[self.structure]
        return replace(
            self,
            positions=torch.einsum("nab,nb->na", turn, self.positions),
            cell=torch.einsum("sab,sib->sia", position_rotations, self.cell),
            magmoms=torch.einsum("nab,nb->na", moment_rotations[self.structure], self.magmoms),
        )


def species_index(numbers: Sequence[int] | np.ndarray, elements: Sequence[str]) -> np.ndarray:
    """Indices into ``elements`` [N] of atomic numbers. Raises UserError for an element the model does not know."""
    from ase.data import atomic_numbers, chemical_symbols

    table = {atomic_numbers[element]: index for index, element in enumerate(elements)}
    unknown = sorted({chemical_symbols[int(z)] for z in numbers if int(z) not in table})
    if unknown:
        raise UserError(
            f"the model does not know the element{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}; "
            f"it knows {', '.join(elements)}: train or load a model with {', '.join(unknown)}"
        )
    return np.array([table[int(z)] for z in numbers], dtype=np.int64)


def build_graph(
    structures: Atoms | Sequence[Atoms],
    elements: Sequence[str],
    r_max: float,
    dtype: torch.dtype = torch.float64,
    head: int = 0,
) -> Graph:
    """Batch of ASE atoms. Moments are their initial magnetic moments, (N,) meaning along z, or (N,3).

    Raises UserError for unknown elements, moments of a wrong shape, or numbers that are not finite.
    """
    if isinstance(structures, Atoms):
        structures = [structures]
    return collate([_single(atoms, elements, r_max, dtype, head) for atoms in structures])


def vector_moments(atoms: Atoms) -> np.ndarray:
    """Initial magnetic moments as (N,3) μB; one number per atom means along z."""
    moments = np.asarray(atoms.get_initial_magnetic_moments(), dtype=float)
    if moments.ndim == 1:
        moments = np.column_stack([np.zeros((len(moments), 2)), moments])
    return moments


def _single(atoms: Atoms, elements: Sequence[str], r_max: float, dtype: torch.dtype, head: int) -> Graph:
    count = len(atoms)
    moments = vector_moments(atoms)
    cell = np.asarray(atoms.cell, dtype=float)
    if not (np.isfinite(moments).all() and np.isfinite(atoms.positions).all() and np.isfinite(cell).all()):
        raise UserError(f"{atoms.get_chemical_formula()}: positions, cell and moments must be finite numbers")
    pairs = NeighborList(cutoff=r_max, full_list=True).compute(
        points=atoms.positions, box=cell, periodic=[bool(p) for p in atoms.pbc], quantities="ijS"
    )
    receivers, senders, shifts = (np.asarray(part) for part in pairs)
    order = np.argsort(receivers, kind="stable")
    receivers, senders, shifts = receivers[order].astype(np.int64), senders[order].astype(np.int64), shifts[order]
    counts = np.bincount(receivers, minlength=count)
    width = max(int(counts.max(initial=0)), 1)
    slots = np.arange(len(receivers)) - np.repeat(np.cumsum(counts) - counts, counts)
    padded_senders = np.repeat(np.arange(count)[:, None], width, axis=1)
    padded_shifts = np.zeros((count, width, 3))
    real = np.zeros((count, width), dtype=bool)
    padded_senders[receivers, slots] = senders
    padded_shifts[receivers, slots] = shifts
    real[receivers, slots] = True
    volume = abs(float(np.linalg.det(cell))) if all(atoms.pbc) else float("nan")
    return Graph(
        positions=torch.tensor(atoms.positions, dtype=dtype),
        magmoms=torch.tensor(moments, dtype=dtype),
        species=torch.from_numpy(species_index(atoms.numbers, elements)),
        cell=torch.tensor(cell, dtype=dtype).unsqueeze(0),
        structure=torch.zeros(count, dtype=torch.int64),
        num_atoms=torch.tensor([count]),
        senders=torch.from_numpy(padded_senders),
        shifts=torch.tensor(padded_shifts, dtype=dtype),
        real=torch.from_numpy(real),
        volume=torch.tensor([volume], dtype=dtype),
        head=torch.tensor([head]),
    )


def collate(graphs: Sequence[Graph]) -> Graph:
    """One batch out of several. Neighbours are padded to the largest number among them."""
    if len(graphs) == 1:
        return graphs[0]
    width = max(graph.senders.shape[1] for graph in graphs)
    sizes = [graph.positions.shape[0] for graph in graphs]
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    structure_offsets = np.concatenate([[0], np.cumsum([graph.num_structures for graph in graphs])[:-1]])
    senders, shifts, real = [], [], []
    for graph, offset, size in zip(graphs, offsets, sizes, strict=True):
        missing = width - graph.senders.shape[1]
        own = torch.arange(size, device=graph.senders.device).unsqueeze(1)
        senders.append(torch.cat([graph.senders, own.expand(size, missing)], dim=1) + int(offset))
        shifts.append(torch.cat([graph.shifts, graph.shifts.new_zeros(size, missing, 3)], dim=1))
        real.append(torch.cat([graph.real, graph.real.new_zeros(size, missing)], dim=1))
    return Graph(
        positions=torch.cat([graph.positions for graph in graphs]),
        magmoms=torch.cat([graph.magmoms for graph in graphs]),
        species=torch.cat([graph.species for graph in graphs]),
        cell=torch.cat([graph.cell for graph in graphs]),
        structure=torch.cat([g.structure + int(o) for g, o in zip(graphs, structure_offsets, strict=True)]),
        num_atoms=torch.cat([graph.num_atoms for graph in graphs]),
        senders=torch.cat(senders),
        shifts=torch.cat(shifts),
        real=torch.cat(real),
        volume=torch.cat([graph.volume for graph in graphs]),
        head=torch.cat([graph.head for graph in graphs]),
    )
