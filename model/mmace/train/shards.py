"""Training data larger than memory: a folder of shards as a sequence of configurations.

>>> from mmace.train.shards import open_shards
>>> configurations = open_shards("folder")  # doctest: +SKIP

takes the place of a list of configurations in `train`; only the structures of a batch are in memory.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols

from mmace.errors import UserError
from mmace.fields import BRANCHES, MAGMOMS
from mmace.graph import Graph
from mmace.train.configuration import Configuration
from mmace.train.shard_file import Record, ShardFile, joined_graph
from mmace.train.shard_format import ShardSummary, open_hdf5, read_summary, write_hdf5

INDEX = "index.h5"
FORMAT = "mmace-shards"
VERSION = 1
OPEN_FILES = 256  # shards that are held open at a time


def write_index(folder: Path, names: Sequence[str], r_max: float, settings: dict[str, Any]) -> None:
    """Writes the index of the shards ``names`` in ``folder``: the last thing that makes the folder usable.

    Raises `UserError` for a shard that is missing or damaged.
    """
    summaries = [read_summary(folder / name) for name in names]
    arrays: dict[str, list[np.ndarray]] = {
        name: [] for name in ("atoms", "edges", "densest", "energy", "branch", "head")
    }
    heads = list(dict.fromkeys(head for summary in summaries for head in summary.heads))
    for summary in summaries:
        with open_hdf5(folder / summary.name, "mmace-shard", VERSION) as file:
            arrays["atoms"].append(np.diff(file["first_atom"][:]).astype(np.int32))
            arrays["edges"].append(np.diff(file["first_edge"][:]))
            arrays["densest"].append(file["densest"][:])
            known = file["present"][:, 0].astype(bool)
            arrays["energy"].append(np.where(known, file["energy"][:], np.nan))
            arrays["branch"].append(file["branch"][:])
            numbers = np.array([*(heads.index(head) for head in summary.heads), -1], dtype=np.int16)
            arrays["head"].append(numbers[file["head"][:]])  # -1, no head, is the last of them
    digest = hashlib.sha256(json.dumps([FORMAT, VERSION, r_max]).encode())
    for summary in summaries:
        digest.update(summary.content_hash.encode())
    attributes = {
        "format": FORMAT,
        "version": VERSION,
        "r_max": r_max,
        "settings": json.dumps(settings, sort_keys=True),
        "heads": json.dumps(heads),
        "content_hash": digest.hexdigest()[:32],
    }
    shards = np.array(json.dumps([summary.__dict__ for summary in summaries]).encode())
    joined = {name: np.concatenate(parts) for name, parts in arrays.items()}
    write_hdf5(folder / INDEX, {**joined, "shards": shards}, attributes)


class ShardReader:
    """The files of a folder of shards, opened when needed; what its index says about them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / INDEX).exists():
            begun = any(folder.glob("shard-*.h5"))
            raise UserError(
                f"{folder}: the shards are not complete; run the same `mmace data shard` command again to finish them"
                if begun
                else f"{folder}: no {INDEX}, so no folder of shards; make one with `mmace data shard FILES -o FOLDER`"
            )
        with open_hdf5(folder / INDEX, FORMAT, VERSION) as file:
            self.r_max = float(file.attrs["r_max"])
            self.content_hash = str(file.attrs["content_hash"])
            self.settings: dict[str, Any] = json.loads(file.attrs["settings"])
            self.summaries = [ShardSummary(**entry) for entry in json.loads(bytes(file["shards"][()]))]
            self.atoms, self.edges, self.densest = file["atoms"][:], file["edges"][:], file["densest"][:]
            self.energy, self.branch, self.head = file["energy"][:], file["branch"][:], file["head"][:]
            self.heads: list[str] = json.loads(file.attrs["heads"])
        self.first = np.concatenate([[0], np.cumsum([summary.count for summary in self.summaries])])
        self._shards: dict[int, ShardFile] = {}
        self._open: OrderedDict[int, None] = OrderedDict()  # those whose files are held open

    def shard(self, number: int) -> ShardFile:
        """Shard ``number``; of the files held open the one that was used longest ago is closed for it."""
        if number not in self._shards:
            summary = self.summaries[number]
            self._shards[number] = ShardFile(self.folder / summary.name, summary)
        self._open[number] = None
        self._open.move_to_end(number)
        if len(self._open) > OPEN_FILES:
            self._shards[self._open.popitem(last=False)[0]].close()
        return self._shards[number]

    def place(self, index: int) -> tuple[ShardFile, int]:
        """The shard of structure ``index`` and its row there."""
        number = int(np.searchsorted(self.first, index, side="right")) - 1
        return self.shard(number), index - int(self.first[number])


class ShardedConfigurations(Sequence[Configuration]):
    """The configurations of a folder of shards, or some of them: read when asked for, by index.

    ``atoms``, ``edges``, ``densest`` (neighbours of the densest atom), ``energies`` (eV; NaN where unknown): [n],
    from the index alone.
    """

    def __init__(self, reader: ShardReader, indices: np.ndarray | None = None) -> None:
        self.reader = reader
        self.indices = np.arange(len(reader.atoms)) if indices is None else np.asarray(indices, dtype=np.int64)
        self._whole = indices is None
        self.atoms, self.edges = reader.atoms[self.indices], reader.edges[self.indices]
        self.densest, self.energies = reader.densest[self.indices], reader.energy[self.indices]
        self._largest: dict[str, float] | None = None

    @property
    def r_max(self) -> float:
        """Cutoff radius of the neighbour lists, Å."""
        return self.reader.r_max

    @property
    def content_hash(self) -> str:
        """Hash of what the configurations are, in their order."""
        if self._whole:
            return self.reader.content_hash
        return hashlib.sha256(self.reader.content_hash.encode() + self.indices.tobytes()).hexdigest()[:32]

    @property
    def branches(self) -> dict[str, int]:
        """Configurations per magnetic branch."""
        counts = np.bincount(self.reader.branch[self.indices], minlength=len(BRANCHES))
        return dict(zip(BRANCHES, counts.tolist(), strict=True))

    @property
    def elements(self) -> list[str]:
        """Chemical symbols in the data, by atomic number."""
        return sorted(self.largest_moments, key=lambda symbol: atomic_numbers[symbol])

    @property
    def largest_moments(self) -> dict[str, float]:
        """Element → largest |m|, μB."""
        if not self._whole:
            if self._largest is None:
                self._largest = self._largest_of_part()
            return self._largest
        largest: dict[str, float] = {}
        for summary in self.reader.summaries:
            for symbol, length in summary.largest_moments.items():
                largest[symbol] = max(length, largest.get(symbol, 0.0))
        return largest

    @property
    def heads(self) -> list[str | None]:
        """Levels of theory that the configurations name, in the order in which they first appear; None: none named."""
        numbers, first = np.unique(self.reader.head[self.indices], return_index=True)
        return [self.reader.heads[number] if number >= 0 else None for number in numbers[np.argsort(first)]]

    def of_heads(self, heads: Sequence[str | None]) -> ShardedConfigurations:
        """Those that name one of ``heads``; None: that name none."""
        numbers = [-1 if head is None else self.reader.heads.index(head) for head in heads]
        return self.subset(np.flatnonzero(np.isin(self.reader.head[self.indices], numbers)))

    def compositions(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Shard by shard: atoms of each atomic number 0 … 118 [n,119], and energies [n] in eV, NaN where unknown.
        The order within a shard is that of the file."""
        for shard, rows, energies in self._pieces():
            counts = np.zeros((len(shard.first_atom) - 1, len(chemical_symbols)))
            np.add.at(counts, (shard.owners(), shard.read("numbers", 0, shard.total)), 1.0)
            yield counts[rows], energies

    def subset(self, indices: Sequence[int] | np.ndarray) -> ShardedConfigurations:
        """Some of the configurations, by their place among these."""
        return ShardedConfigurations(self.reader, self.indices[np.asarray(indices, dtype=np.int64)])

    def with_graph(
        self,
        indices: Sequence[int] | np.ndarray,
        elements: Sequence[str],
        dtype: torch.dtype,
        heads: Sequence[str] = ("default",),
    ) -> tuple[list[Record], Graph]:
        """What is known of some of the configurations, and one graph of them from the cached neighbour lists, as
        `mmace.build_graph` makes it. Raises `UserError` for an element or a head that the model does not know."""
        places = [self.reader.place(int(self.indices[index])) for index in indices]
        records = [shard.record(row) for shard, row in places]
        return records, joined_graph(places, records, elements, dtype, heads)

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Configuration: ...
    @overload
    def __getitem__(self, index: slice) -> ShardedConfigurations: ...
    def __getitem__(self, index: int | slice) -> Configuration | ShardedConfigurations:
        if isinstance(index, slice):
            return ShardedConfigurations(self.reader, self.indices[index])
        shard, row = self.reader.place(int(self.indices[index]))
        return shard.configuration(row)

    def __iter__(self) -> Iterator[Configuration]:
        for index in range(len(self)):
            yield self[index]

    def _pieces(self) -> Iterator[tuple[ShardFile, np.ndarray, np.ndarray]]:
        """Every shard with the rows and the energies of the configurations that are among these."""
        shards = np.searchsorted(self.reader.first, self.indices, side="right") - 1
        for number in np.unique(shards):
            chosen = self.indices[shards == number]
            yield self.reader.shard(int(number)), chosen - self.reader.first[number], self.reader.energy[chosen]

    def _largest_of_part(self) -> dict[str, float]:
        """Largest moments of some of the configurations, with one shard in memory at a time."""
        largest = np.full(len(chemical_symbols), -1.0)
        for shard, rows, _ in self._pieces():
            chosen = np.isin(shard.owners(), rows)
            lengths = np.linalg.norm(shard.read(MAGMOMS.name, 0, shard.total), axis=1)
            np.maximum.at(largest, shard.read("numbers", 0, shard.total)[chosen], lengths[chosen])
        return {chemical_symbols[z]: float(largest[z]) for z in np.flatnonzero(largest >= 0)}


def open_shards(folder: str | Path) -> ShardedConfigurations:
    """The configurations of a folder that `mmace data shard` made.

    Raises `UserError`, one line, for a folder without index, or with shards that are missing, truncated or foreign.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; make one with `mmace data shard FILES -o FOLDER`")
    configurations = ShardedConfigurations(ShardReader(folder))
    for summary in configurations.reader.summaries:
        path = folder / summary.name
        if not path.exists() or path.stat().st_size != summary.size:
            what = "truncated or replaced" if path.exists() else "missing"
            raise UserError(f"{path}: {what}; run the same `mmace data shard` command again")
    return configurations


def is_shard_folder(path: Path) -> bool:
    """Does ``path`` look like a folder of shards, finished or not?"""
    return path.is_dir() and ((path / INDEX).exists() or any(path.glob("shard-*.h5")))


def check_cutoff(configurations: Sequence[Configuration], r_max: float) -> None:
    """Raises `UserError` if ``configurations`` are shards whose neighbour lists are for another cutoff radius."""
    if isinstance(configurations, ShardedConfigurations) and configurations.r_max != r_max:
        folder = configurations.reader.folder
        raise UserError(
            f"{folder}: its neighbour lists are for r_max {configurations.r_max:g} Å, the model asks for {r_max:g} Å; "
            f"set r_max to {configurations.r_max:g} or make shards with --r-max {r_max:g}"
        )
