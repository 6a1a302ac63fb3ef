"""One shard: labelled structures with their neighbour lists in an HDF5 file, written whole, read piece by piece.

Every data set of a shard is contiguous, so that the numbers of one structure are read from the file by their place in
it: no more memory than one structure needs, and a damaged file shows itself by a read that ends early.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from ase.data import chemical_symbols

from mmace.checkpoint import write_atomically
from mmace.errors import UserError
from mmace.fields import BRANCHES, ENERGY, FORCES, LABELS, MAGMOMS, MAGNETIC_FORCES, STRESS
from mmace.graph import build_graph
from mmace.train.configuration import Configuration

FORMAT = "mmace-shard"
VERSION = 1
LABEL_NAMES = tuple(label.name for label in LABELS)
ATOM_LABELS = (FORCES.name, MAGNETIC_FORCES.name)


@dataclass(frozen=True)
class ShardSummary:
    """What the index says about one shard; written into the shard too."""

    name: str  # file name
    count: int  # structures
    size: int  # bytes of the file
    source_hash: str  # of what it was made from and of the settings
    content_hash: str  # of what it holds
    largest_moments: dict[str, float]  # element → max |m|, μB; its keys are the elements of the shard
    heads: list[str]  # levels of theory that its structures name, in the order in which they first appear


def write_shard(
    path: Path, configurations: Sequence[Configuration], r_max: float, source_hash: str, elements: Sequence[str] | None
) -> ShardSummary:
    """Builds the neighbour lists of ``configurations`` and writes them to ``path``: whole or not at all.

    Parameters: ``r_max`` Å; ``source_hash`` of what the shard is made from; ``elements`` the allowed ones, None: all.
    Raises `UserError` for other elements, no configurations, or a file that cannot be written.
    """
    if not configurations:
        raise UserError(f"{path}: a shard needs at least one configuration; give data that is not empty")
    if elements is not None:
        from mmace.train.reading import check_elements

        check_elements(configurations, elements)
    heads = list(dict.fromkeys(c.head for c in configurations if c.head is not None))
    arrays = _arrays(configurations, r_max, heads)
    digest = hashlib.sha256(json.dumps(heads).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    attributes: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "r_max": r_max,
        "source_hash": source_hash,
        "content_hash": digest.hexdigest()[:32],
        "largest_moments": json.dumps(_largest_moments(configurations), sort_keys=True),
        "heads": json.dumps(heads),
    }
    write_hdf5(path, arrays, attributes)
    return read_summary(path)


def read_summary(path: Path) -> ShardSummary:
    """What a shard says about itself. Raises `UserError` for a file that is damaged or no shard."""
    with open_hdf5(path, FORMAT, VERSION) as file:
        return ShardSummary(
            name=path.name,
            count=len(file["weight"]),
            size=path.stat().st_size,
            source_hash=str(file.attrs["source_hash"]),
            content_hash=str(file.attrs["content_hash"]),
            largest_moments=json.loads(file.attrs["largest_moments"]),
            heads=json.loads(file.attrs["heads"]),
        )


def write_hdf5(path: Path, arrays: dict[str, np.ndarray], attributes: dict[str, Any]) -> None:
    """Writes an HDF5 file whole or not at all. Raises `UserError` when it cannot be written."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        file.attrs.update(attributes)
    write_atomically(path, buffer.getvalue())


def open_hdf5(path: Path, form: str, version: int) -> h5py.File:
    """The opened file. Raises `UserError` if it is missing, damaged, of another kind or of a newer version."""
    mend = "make the shards again with the same `mmace data shard` command"
    try:
        file = h5py.File(path, "r", locking=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {mend}") from None
    except OSError as error:
        damaged = "truncated or damaged" if path.is_file() and path.stat().st_size else "empty or no file"
        raise UserError(f"{path}: {damaged}; {mend}") from error
    try:
        if file.attrs.get("format") != form:
            raise UserError(f"{path}: HDF5, but not written by `mmace data shard`; {mend}")
        if file.attrs.get("version") != version:
            raise UserError(f"{path}: shard format {file.attrs.get('version')}, this mmace reads {version}; {mend}")
    except UserError:
        file.close()
        raise
    except Exception as error:  # damaged attributes show themselves in many kinds of exceptions
        file.close()
        raise UserError(f"{path}: truncated or damaged; {mend}") from error
    return file


def _arrays(configurations: Sequence[Configuration], r_max: float, heads: list[str]) -> dict[str, np.ndarray]:
    """The data sets of a shard: n structures, N atoms and E edges in all."""
    counts, senders, shifts, densest, edges = [], [], [], [], []
    for configuration in configurations:
        kinds = [chemical_symbols[z] for z in np.unique(configuration.numbers)]
        graph = build_graph(configuration.to_atoms(), kinds, r_max, dtype=torch.float64)
        own = graph.real.sum(dim=1).numpy()
        counts.append(own)
        senders.append(graph.senders[graph.real].numpy())
        shifts.append(graph.shifts[graph.real].numpy())
        densest.append(graph.senders.shape[1])
        edges.append(int(own.sum()))
    images = np.concatenate(shifts)
    narrow = np.int8 if np.abs(images).max(initial=0) < 128 else np.int32
    present = np.array([[getattr(c, name) is not None for name in LABEL_NAMES] for c in configurations], dtype=np.uint8)
    arrays = {
        "first_atom": _offsets([len(c) for c in configurations]),  # [n+1]
        "first_edge": _offsets(edges),  # [n+1]
        "densest": np.array(densest, dtype=np.int32),  # [n] neighbours of the densest atom
        "cell": np.array([c.cell for c in configurations]),  # [n,3,3]
        "pbc": np.array([c.pbc for c in configurations], dtype=np.uint8),  # [n,3]
        "weight": np.array([c.weight for c in configurations]),  # [n]
        "branch": np.array([BRANCHES.index(c.branch) for c in configurations], dtype=np.uint8),  # [n]
        # [n] place in the names of heads; -1: none named
        "head": np.array([-1 if c.head is None else heads.index(c.head) for c in configurations], dtype=np.int16),
        "name": np.array([c.name.encode() for c in configurations]),  # [n] bytes
        "present": present,  # [n, labels]
        "energy": np.array([0.0 if c.energy is None else c.energy for c in configurations]),  # [n]
        "numbers": np.concatenate([c.numbers for c in configurations]).astype(np.int16),  # [N]
        "positions": np.concatenate([c.positions for c in configurations]),  # [N,3]
        MAGMOMS.name: np.concatenate([c.magmoms for c in configurations]),  # [N,3]
        "neighbors": np.concatenate(counts).astype(np.int32),  # [N]
        "senders": np.concatenate(senders).astype(np.int32),  # [E] within the structure
        "shifts": images.astype(narrow),  # [E,3]
    }
    if present[:, LABEL_NAMES.index(STRESS.name)].any():  # [n,3,3]
        arrays[STRESS.name] = np.array([np.zeros((3, 3)) if c.stress is None else c.stress for c in configurations])
    for name in ATOM_LABELS:  # [N,3]
        if present[:, LABEL_NAMES.index(name)].any():
            values = [getattr(c, name) for c in configurations]
            blocks = [np.zeros((len(c), 3)) if v is None else v for c, v in zip(configurations, values, strict=True)]
            arrays[name] = np.concatenate(blocks)
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _offsets(counts: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _largest_moments(configurations: Sequence[Configuration]) -> dict[str, float]:
    numbers = np.concatenate([c.numbers for c in configurations])
    lengths = np.linalg.norm(np.concatenate([c.magmoms for c in configurations]), axis=1)
    return {chemical_symbols[z]: float(lengths[numbers == z].max()) for z in np.unique(numbers)}


class ShardFile:
    """Pieces of the data sets of one shard, read from the file by their place in it.

    Raises `UserError` if the file is damaged or not the one that the index tells of.
    """

    def __init__(self, path: Path, summary: ShardSummary) -> None:
        self.path, self.heads = path, summary.heads
        mend = "make the shards again with the same `mmace data shard` command"
        with open_hdf5(path, FORMAT, VERSION) as file:
            if str(file.attrs.get("content_hash")) != summary.content_hash or path.stat().st_size != summary.size:
                raise UserError(f"{path}: not the shard that the index of its folder tells of; {mend}")
            self.places: dict[str, tuple[int | None, np.dtype, tuple[int, ...]]] = {}
            for name, dataset in file.items():
                self.places[name] = (dataset.id.get_offset(), dataset.dtype, dataset.shape)
        self.descriptor = os.open(path, os.O_RDONLY)
        self.first_atom = self.read("first_atom", 0, summary.count + 1)
        self.first_edge = self.read("first_edge", 0, summary.count + 1)

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` of a data set."""
        offset, dtype, shape = self.places[name]
        row = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        wanted = (stop - start) * row
        if wanted == 0:
            return np.zeros((0, *shape[1:]), dtype=dtype)
        data = bytearray(wanted)
        if offset is None or os.preadv(self.descriptor, [data], offset + start * row) != wanted:
            raise UserError(f"{self.path}: ends early; make the shards again with the same `mmace data shard` command")
        return np.frombuffer(data, dtype=dtype).reshape(stop - start, *shape[1:])

    @property
    def total(self) -> int:
        """Atoms of all structures of the shard."""
        return int(self.first_atom[-1])

    def owners(self) -> np.ndarray:
        """Row of the structure that each atom belongs to, [N]."""
        return np.repeat(np.arange(len(self.first_atom) - 1), np.diff(self.first_atom))

    def configuration(self, row: int) -> Configuration:
        """The structure in row ``row`` with its labels."""
        atoms = slice(int(self.first_atom[row]), int(self.first_atom[row + 1]))
        present = dict(zip(LABEL_NAMES, self.read("present", row, row + 1)[0].astype(bool).tolist(), strict=True))
        labels: dict[str, Any] = {}
        if present[ENERGY.name]:
            labels[ENERGY.name] = float(self.read("energy", row, row + 1)[0])
        if present[STRESS.name]:
            labels[STRESS.name] = self.read(STRESS.name, row, row + 1)[0]
        for name in ATOM_LABELS:
            if present[name]:
                labels[name] = self.read(name, atoms.start, atoms.stop)
        return Configuration(
            numbers=self.read("numbers", atoms.start, atoms.stop),
            positions=self.read("positions", atoms.start, atoms.stop),
            cell=self.read("cell", row, row + 1)[0],
            pbc=self.read("pbc", row, row + 1)[0],
            magmoms=self.read(MAGMOMS.name, atoms.start, atoms.stop),
            weight=float(self.read("weight", row, row + 1)[0]),
            head=self.heads[head] if (head := int(self.read("head", row, row + 1)[0])) >= 0 else None,
            name=self.read("name", row, row + 1)[0].decode(),
            **labels,
        )

    def neighbors(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Neighbour list of the structure in row ``row``: counts [N], senders [E], shifts [E,3], by receiver."""
        atoms, edges = self.first_atom[row : row + 2], self.first_edge[row : row + 2]
        start, stop = int(edges[0]), int(edges[1])
        counts = self.read("neighbors", int(atoms[0]), int(atoms[1]))
        return counts, self.read("senders", start, stop), self.read("shifts", start, stop)

    def close(self) -> None:
        """Gives the file back."""
        os.close(self.descriptor)
