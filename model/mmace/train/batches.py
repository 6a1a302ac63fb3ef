"""Graphs and labels as tensors: built once per configuration, put together per step, turned by random rotations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
import torch
from torch import Tensor

from mmace.fields import FORCES, LABELS, MAGNETIC_FORCES, STRESS
from mmace.graph import Graph, build_graph, collate
from mmace.train.config import TrainingConfig
from mmace.train.configuration import Configuration
from mmace.train.directions import DirectionLabels, joined_labels, labels_of
from mmace.train.heads import head_index
from mmace.train.sampling import Sizes, epoch_batches, shares
from mmace.train.shard_file import Record
from mmace.train.shard_format import ATOM_LABELS
from mmace.train.shards import ShardedConfigurations, check_cutoff

LABEL_NAMES = tuple(label.name for label in LABELS)


@dataclass
class Batch:
    """S structures with N atoms and their labels. Where a label is unknown it is 0 and so is its weight."""

    graph: Graph
    labels: dict[str, Tensor]  # energy [S], forces [N,3], stress [S,3,3], magnetic_forces [N,3]
    weights: dict[str, Tensor]  # label name → [S]: the configuration's weight where the label is known, else 0
    present: dict[str, bool]  # label name → known for any of the structures
    directions: DirectionLabels | None = None  # energies of rigid rotations of all moments, where any are known
    whole: tuple[int, int] | None = None  # structures and atoms of the batch that this is one process's share of

    @property
    def num_structures(self) -> int:
        """S."""
        return self.graph.num_structures

    @property
    def counts(self) -> tuple[int, int]:
        """Structures and atoms that the loss is divided by: those of the whole batch, also in a share of it."""
        return self.whole or (self.num_structures, len(self.graph.structure))

    def to(self, device: torch.device) -> Batch:
        """The batch on ``device``; itself if it is there."""
        if self.graph.positions.device == device:
            return self
        return replace(
            self,
            graph=self.graph.to(device=device),
            labels={name: tensor.to(device) for name, tensor in self.labels.items()},
            weights={name: tensor.to(device) for name, tensor in self.weights.items()},
            directions=None if self.directions is None else self.directions.to(device),
        )

    def rotated(self, position_rotations: Tensor, moment_rotations: Tensor) -> Batch:
        """Copy with inputs and labels turned: positions, cells, forces and stress by the first rotations [S,3,3],
        moments and magnetic forces by the second [S,3,3]: F → QF, σ → QσQᵀ, B → RB."""
        atoms = self.graph.structure
        labels = dict(self.labels)
        labels[FORCES.name] = torch.einsum("nab,nb->na", position_rotations[atoms], self.labels[FORCES.name])
        labels[STRESS.name] = position_rotations @ self.labels[STRESS.name] @ position_rotations.transpose(1, 2)
        labels[MAGNETIC_FORCES.name] = torch.einsum(
            "nab,nb->na", moment_rotations[atoms], self.labels[MAGNETIC_FORCES.name]
        )
        directions = self.directions
        if directions is not None:
            directions = directions.turned(position_rotations, moment_rotations)
        graph = self.graph.rotated(position_rotations, moment_rotations)
        return replace(self, graph=graph, labels=labels, directions=directions)


def prepare(
    configurations: Sequence[Configuration],
    elements: Sequence[str],
    r_max: float,
    dtype: torch.dtype,
    heads: Sequence[str] = ("default",),
) -> Sequence[Batch]:
    """One batch of one structure per configuration: built at once, or when asked for where the data are shards.

    Raises `UserError` for unknown elements and heads, and for shards with neighbour lists of another cutoff radius.
    """
    if isinstance(configurations, ShardedConfigurations):
        check_cutoff(configurations, r_max)
        return ShardSingles(configurations, elements, dtype, heads)
    return [_single(configuration, elements, r_max, dtype, heads) for configuration in configurations]


class ShardSingles(Sequence[Batch]):
    """One batch of one structure per configuration of a folder of shards; read and built each time it is asked for."""

    def __init__(
        self,
        configurations: ShardedConfigurations,
        elements: Sequence[str],
        dtype: torch.dtype,
        heads: Sequence[str],
    ) -> None:
        self.configurations, self.elements, self.dtype, self.heads = configurations, elements, dtype, heads

    def __len__(self) -> int:
        return len(self.configurations)

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Batch]: ...
    def __getitem__(self, index: int | slice) -> Batch | list[Batch]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self.joined([index])

    def joined(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """One batch of several structures."""
        records, graph = self.configurations.with_graph(indices, self.elements, self.dtype, self.heads)
        return _labelled(records, graph, self.dtype)


def sizes_of(singles: Sequence[Batch]) -> Sizes:
    """Atoms and neighbours of the densest atom of every structure."""
    if isinstance(singles, ShardSingles):
        # a structure without neighbours still takes one place per atom
        return Sizes(singles.configurations.atoms, np.maximum(singles.configurations.densest, 1))
    shapes = [single.graph.senders.shape for single in singles]
    return Sizes(np.array([shape[0] for shape in shapes]), np.array([shape[1] for shape in shapes]))


def average_neighbors(singles: Sequence[Batch]) -> float:
    """Mean number of neighbours per atom of all structures."""
    sizes = sizes_of(singles)
    if isinstance(singles, ShardSingles):
        return float(singles.configurations.edges.sum()) / int(sizes.atoms.sum())
    return sum(float(single.graph.real.sum()) for single in singles) / int(sizes.atoms.sum())


def _single(
    configuration: Configuration, elements: Sequence[str], r_max: float, dtype: torch.dtype, heads: Sequence[str]
) -> Batch:
    head = head_index(configuration, heads)
    graph = build_graph(configuration.to_atoms(), elements, r_max, dtype=dtype, head=head)
    return replace(_labelled([configuration], graph, dtype), directions=labels_of(configuration, dtype))


def _labelled(configurations: Sequence[Configuration | Record], graph: Graph, dtype: torch.dtype) -> Batch:
    # Without a volume the stress has no meaning and no label; NaN would still poison the gradient of the others.
    graph = replace(graph, volume=torch.nan_to_num(graph.volume, nan=1.0))
    labels, weights, present = {}, {}, {}
    for name in LABEL_NAMES:
        values = [getattr(configuration, name) for configuration in configurations]
        known = np.array([value is not None for value in values])
        filled = [
            _nothing(name, configuration) if value is None else np.asarray(value, dtype=float)
            for configuration, value in zip(configurations, values, strict=True)
        ]
        joined = np.concatenate(filled) if name in ATOM_LABELS else np.array(filled)
        own = np.array([configuration.weight for configuration in configurations])
        labels[name] = torch.from_numpy(joined).to(dtype)
        weights[name] = torch.from_numpy(np.where(known, own, 0.0)).to(dtype)
        present[name] = bool(known.any())
    return Batch(graph, labels, weights, present)


def _nothing(name: str, configuration: Configuration | Record) -> np.ndarray:
    """Zeros in the place of a label that is not known."""
    if name in ATOM_LABELS:
        return np.zeros((len(configuration), 3))
    return np.zeros((3, 3)) if name == STRESS.name else np.zeros(())


def joined(singles: Sequence[Batch], indices: Sequence[int] | np.ndarray) -> Batch:
    """One batch of the structures at ``indices``."""
    if isinstance(singles, ShardSingles):
        return singles.joined(indices)
    return join([singles[int(index)] for index in indices])


def join(batches: Sequence[Batch]) -> Batch:
    """One batch out of several."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        graph=collate([batch.graph for batch in batches]),
        labels={name: torch.cat([batch.labels[name] for batch in batches]) for name in LABEL_NAMES},
        weights={name: torch.cat([batch.weights[name] for batch in batches]) for name in LABEL_NAMES},
        present={name: any(batch.present[name] for batch in batches) for name in LABEL_NAMES},
        directions=joined_labels([batch.directions for batch in batches], batches[0].graph.positions.dtype),
    )


def training_batches(
    singles: Sequence[Batch],
    config: TrainingConfig,
    epoch: int,
    start: int = 0,
    *,
    plan: Sequence[np.ndarray] | None = None,
    rank: int = 0,
    processes: int = 1,
) -> Iterator[Batch]:
    """The batches of one epoch from step ``start`` on, in random order and, if asked for, at random orientations.

    Order and rotations depend on seed, epoch and step alone, so that a run that was stopped goes on as if it had not.
    Of several ``processes`` the one numbered ``rank`` gets its share of each batch; the shares together are the batch
    of a single process. ``plan`` is what `epoch_batches` gives for the epoch, where that is known already.
    """
    sizes = sizes_of(singles)
    plan = epoch_batches(sizes, config, epoch) if plan is None else plan
    for step in range(start, len(plan)):
        own = shares(sizes, plan[step], processes)[rank]
        # with nothing to do, a process works on what counts for nothing: all take the same path through the program
        idle = len(own) == 0
        own = np.zeros(1, dtype=np.int64) if idle else own
        batch = joined(singles, plan[step][own])
        if batch.directions is not None and config.directions_per_step is not None:
            generator = np.random.default_rng([config.seed, epoch, step, 2, rank])
            batch = replace(batch, directions=batch.directions.sampled(config.directions_per_step, generator))
        if config.rotate_jointly or config.rotate_moments:
            batch = batch.rotated(*_rotations(batch, config, epoch, step, len(plan[step]), own))
        if idle:
            directions = batch.directions
            if directions is not None:
                directions = replace(directions, weight=torch.zeros_like(directions.weight))
            nothing = {name: torch.zeros_like(w) for name, w in batch.weights.items()}
            batch = replace(batch, weights=nothing, directions=directions)
        if processes > 1:
            batch = replace(batch, whole=(len(plan[step]), int(sizes.atoms[plan[step]].sum())))
        yield batch


def random_rotations(generator: np.random.Generator, count: int) -> np.ndarray:
    """Uniformly distributed proper rotations [count,3,3], from unit quaternions."""
    w, x, y, z = np.moveaxis(_unit(generator.normal(size=(count, 4))), 1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _rotations(
    batch: Batch, config: TrainingConfig, epoch: int, step: int, count: int, own: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Rotations [S,3,3] of positions and of moments: those of the places ``own`` [S] in a batch of ``count``."""
    generator = np.random.default_rng([config.seed, epoch, step, 1])
    identity = np.broadcast_to(np.eye(3), (count, 3, 3))
    joint = random_rotations(generator, count) if config.rotate_jointly else identity
    turn = random_rotations(generator, count) if config.rotate_moments else identity
    dtype = batch.graph.positions.dtype
    return torch.tensor(joint[own], dtype=dtype), torch.tensor((turn @ joint)[own], dtype=dtype)
