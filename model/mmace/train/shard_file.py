"""Reading one shard: single structures and their graphs, by their place in the file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols

from mmace.errors import UserError
from mmace.fields import ENERGY, MAGMOMS, STRESS
from mmace.graph import Graph
from mmace.train.configuration import Configuration
from mmace.train.heads import head_index
from mmace.train.reading import check_elements
from mmace.train.shard_format import ATOM_LABELS, FORMAT, LABEL_NAMES, MEND, VERSION, ShardSummary, open_hdf5


@dataclass(eq=False)
class Record:
    """A structure as it stands in a shard: the fields of `Configuration`, not checked once more. N atoms."""

    numbers: np.ndarray  # [N]
    positions: np.ndarray  # [N,3] Å
    cell: np.ndarray  # [3,3] Å
    pbc: np.ndarray  # [3]
    magmoms: np.ndarray  # [N,3] μB
    weight: float
    head: str | None
    energy: float | None = None  # eV
    forces: np.ndarray | None = None  # [N,3] eV/Å
    stress: np.ndarray | None = None  # [3,3] eV/Å³
    magnetic_forces: np.ndarray | None = None  # [N,3] eV/μB

    def __len__(self) -> int:
        return len(self.numbers)


class ShardFile:
    """Pieces of the data sets of one shard, read from the file by their place in it.

    A few numbers per structure stay in memory. Raises `UserError` if the file is damaged or not the one that the index
    tells of.
    """

    def __init__(self, path: Path, summary: ShardSummary) -> None:
        self.path, self.heads = path, summary.heads
        self._descriptor: int | None = None
        with open_hdf5(path, FORMAT, VERSION) as file:
            if str(file.attrs.get("content_hash")) != summary.content_hash or path.stat().st_size != summary.size:
                raise UserError(f"{path}: not the shard that the index of its folder tells of; {MEND}")
            # data set → place in the file, type, shape of a row, bytes of a row
            self.places: dict[str, tuple[int | None, np.dtype, tuple[int, ...], int]] = {}
            for name, dataset in file.items():
                row = dataset.shape[1:]
                self.places[name] = (dataset.id.get_offset(), dataset.dtype, row, dataset.dtype.itemsize * prod(row))
        self.count = summary.count
        self.first_atom = self.read("first_atom", 0, self.count + 1)
        self.first_edge = self.read("first_edge", 0, self.count + 1)
        small = ("present", "energy", "pbc", "weight", "head")
        self._present, self._energy, self._pbc, self._weight, self._head = (
            self.read(name, 0, self.count) for name in small
        )

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` of a data set."""
        offset, dtype, shape, row = self.places[name]
        wanted = (stop - start) * row
        if wanted == 0:
            return np.zeros((0, *shape), dtype=dtype)
        data = bytearray(wanted)
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_RDONLY)
            whole = offset is not None and os.preadv(self._descriptor, [data], offset + start * row) == wanted
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror}); {MEND}") from error
        if not whole:
            raise UserError(f"{self.path}: ends early; {MEND}")
        return np.frombuffer(data, dtype=dtype).reshape(stop - start, *shape)

    def close(self) -> None:
        """Gives the file back; it is opened again when it is needed."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None

    @property
    def total(self) -> int:
        """Atoms of all structures of the shard."""
        return int(self.first_atom[-1])

    def owners(self) -> np.ndarray:
        """Row of the structure that each atom belongs to, [N]."""
        return np.repeat(np.arange(self.count), np.diff(self.first_atom))

    def record(self, row: int) -> Record:
        """The structure in row ``row`` with its labels."""
        start, stop = int(self.first_atom[row]), int(self.first_atom[row + 1])
        present = dict(zip(LABEL_NAMES, self._present[row].tolist(), strict=True))
        head = int(self._head[row])
        record = Record(
            numbers=self.read("numbers", start, stop),
            positions=self.read("positions", start, stop),
            cell=self.read("cell", row, row + 1)[0],
            pbc=self._pbc[row].astype(bool),
            magmoms=self.read(MAGMOMS.name, start, stop),
            weight=float(self._weight[row]),
            head=self.heads[head] if head >= 0 else None,
        )
        if present[ENERGY.name]:
            record.energy = float(self._energy[row])
        if present[STRESS.name]:
            record.stress = self.read(STRESS.name, row, row + 1)[0]
        for name in ATOM_LABELS:
            if present[name]:
                setattr(record, name, self.read(name, start, stop))
        return record

    def configuration(self, row: int) -> Configuration:
        """The structure in row ``row`` with its labels and its name."""
        return Configuration(**self.record(row).__dict__, name=self.read("name", row, row + 1)[0].decode())

    def neighbors(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Neighbour list of the structure in row ``row``: counts [N], senders [E], shifts [E,3], by receiver."""
        begin, end = int(self.first_edge[row]), int(self.first_edge[row + 1])
        counts = self.read("neighbors", int(self.first_atom[row]), int(self.first_atom[row + 1]))
        return counts, self.read("senders", begin, end), self.read("shifts", begin, end)

    def check(self, row: int, elements: Sequence[str], heads: Sequence[str]) -> None:
        """Raises `UserError` if the structure in row ``row`` has an element or a head that is not among these."""
        configuration = self.configuration(row)
        check_elements([configuration], elements)
        head_index(configuration, heads)


def joined_graph(
    places: Sequence[tuple[ShardFile, int]],
    records: Sequence[Record],
    elements: Sequence[str],
    dtype: torch.dtype,
    heads: Sequence[str],
) -> Graph:
    """One graph of several structures from their cached neighbour lists, as `build_graph` makes it: see `mmace.graph`
    for the padded layout. It is put together at once, since tensors of single structures would take longer to make
    than small structures take in the model.

    Parameters: ``places`` shard and row of each structure, ``records`` what stands there. Raises `UserError` for an
    element or a head that the model does not know.
    """
    species = _table(tuple(elements))[np.concatenate([record.numbers for record in records])]
    numbered: dict[str | None, int] = {None: 0, **{head: number for number, head in reversed(list(enumerate(heads)))}}
    if species.min() < 0 or any(record.head not in numbered for record in records):
        for shard, row in places:
            shard.check(row, elements, heads)
    lists = [shard.neighbors(row) for shard, row in places]
    sizes = np.array([len(record) for record in records])
    first = np.cumsum(sizes) - sizes
    count = int(sizes.sum())
    neighbors = np.concatenate([counts for counts, _, _ in lists])
    width = max(int(neighbors.max(initial=0)), 1)
    real = np.arange(width) < neighbors[:, None]
    senders = np.repeat(np.arange(count)[:, None], width, axis=1)
    senders[real] = np.concatenate([own + start for (_, own, _), start in zip(lists, first, strict=True)])
    shifts = np.zeros((count, width, 3), dtype=np.float32 if dtype == torch.float32 else np.float64)
    shifts[real] = np.concatenate([images for _, _, images in lists])
    cells = np.array([record.cell for record in records])
    periodic = np.array([record.pbc.all() for record in records])
    volumes = np.where(periodic, np.abs(np.linalg.det(cells)), np.nan)
    return Graph(
        positions=torch.from_numpy(np.concatenate([record.positions for record in records])).to(dtype),
        magmoms=torch.from_numpy(np.concatenate([record.magmoms for record in records])).to(dtype),
        species=torch.from_numpy(species),
        cell=torch.from_numpy(cells).to(dtype),
        structure=torch.from_numpy(np.repeat(np.arange(len(records)), sizes)),
        num_atoms=torch.from_numpy(sizes),
        senders=torch.from_numpy(senders),
        shifts=torch.from_numpy(shifts),
        real=torch.from_numpy(real),
        volume=torch.from_numpy(volumes).to(dtype),
        head=torch.tensor([numbered[record.head] for record in records]),
    )


@lru_cache
def _table(elements: tuple[str, ...]) -> np.ndarray:
    """Atomic number → place in ``elements``, −1 for others, [119]."""
    table = np.full(len(chemical_symbols), -1)
    table[[atomic_numbers[symbol] for symbol in elements]] = np.arange(len(elements))
    return table
