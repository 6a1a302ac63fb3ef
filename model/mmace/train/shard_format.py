"""One shard: labelled structures with their neighbour lists in an HDF5 file, written whole, read piece by piece.

Every data set of a shard is contiguous, so that the numbers of one structure are read from the file by their place in
it: no more memory than one structure needs, and a damaged file shows itself by a read that ends early.
"""

from __future__ import annotations

import hashlib
import io
import json
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
from mmace.fields import BRANCHES, FORCES, LABELS, MAGMOMS, MAGNETIC_FORCES, STRESS
from mmace.graph import build_graph
from mmace.train.configuration import Configuration

FORMAT = "mmace-shard"
VERSION = 1
LABEL_NAMES = tuple(label.name for label in LABELS)
ATOM_LABELS = (FORCES.name, MAGNETIC_FORCES.name)
MEND = "make the shards again with the same `mmace data shard` command"


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
    attributes: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "r_max": r_max,
        "source_hash": source_hash,
        "content_hash": _content_hash(heads, arrays),
        "largest_moments": json.dumps(_largest_moments(configurations), sort_keys=True),
        "heads": json.dumps(heads),
    }
    write_hdf5(path, arrays, attributes)
    return read_summary(path)


def _content_hash(heads: list[str], arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(heads).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:32]


def is_sound(path: Path) -> bool:
    """Does a shard still hold what was written into it?"""
    try:
        with open_hdf5(path, FORMAT, VERSION) as file:
            arrays = {name: dataset[()] for name, dataset in file.items()}
            return _content_hash(json.loads(file.attrs["heads"]), arrays) == file.attrs["content_hash"]
    except (UserError, OSError, KeyError, ValueError):
        return False


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
    try:
        file = h5py.File(path, "r", locking=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {MEND}") from None
    except OSError as error:
        damaged = "truncated or damaged" if path.is_file() and path.stat().st_size else "empty or no file"
        raise UserError(f"{path}: {damaged}; {MEND}") from error
    try:
        if file.attrs.get("format") != form:
            raise UserError(f"{path}: HDF5, but not written by `mmace data shard`; {MEND}")
        if file.attrs.get("version") != version:
            raise UserError(f"{path}: shard format {file.attrs.get('version')}, this mmace reads {version}; {MEND}")
    except UserError:
        file.close()
        raise
    except Exception as error:  # damaged attributes show themselves in many kinds of exceptions
        file.close()
        raise UserError(f"{path}: truncated or damaged; {MEND}") from error
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
