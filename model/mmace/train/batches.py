"""Graphs and labels as tensors: built once per configuration, put together per step, turned by random rotations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mmace.fields import ENERGY, FORCES, LABELS, MAGNETIC_FORCES, STRESS
from mmace.graph import Graph, build_graph, collate
from mmace.train.config import TrainingConfig
from mmace.train.configuration import Configuration
from mmace.train.heads import head_index

LABEL_NAMES = tuple(label.name for label in LABELS)


@dataclass
class Batch:
    """S structures with N atoms and their labels. Where a label is unknown it is 0 and so is its weight."""

    graph: Graph
    labels: dict[str, Tensor]  # energy [S], forces [N,3], stress [S,3,3], magnetic_forces [N,3]
    weights: dict[str, Tensor]  # label name → [S]: the configuration's weight where the label is known, else 0
    present: dict[str, bool]  # label name → known for any of the structures

    @property
    def num_structures(self) -> int:
        """S."""
        return self.graph.num_structures

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
        return replace(self, graph=self.graph.rotated(position_rotations, moment_rotations), labels=labels)


def prepare(
    configurations: Sequence[Configuration],
    elements: Sequence[str],
    r_max: float,
    dtype: torch.dtype,
    heads: Sequence[str] = ("default",),
) -> list[Batch]:
    """One batch of one structure per configuration. Raises `UserError` for unknown elements and heads."""
    return [_single(configuration, elements, r_max, dtype, heads) for configuration in configurations]


def _single(
    configuration: Configuration, elements: Sequence[str], r_max: float, dtype: torch.dtype, heads: Sequence[str]
) -> Batch:
    head = head_index(configuration, heads)
    graph = build_graph(configuration.to_atoms(), elements, r_max, dtype=dtype, head=head)
    # Without a volume the stress has no meaning and no label; NaN would still poison the gradient of the others.
    graph = replace(graph, volume=torch.nan_to_num(graph.volume, nan=1.0))
    shapes = {ENERGY.name: (1,), FORCES.name: (-1, 3), STRESS.name: (1, 3, 3), MAGNETIC_FORCES.name: (-1, 3)}
    empty = {
        ENERGY.name: np.zeros(1),
        FORCES.name: np.zeros((len(configuration), 3)),
        STRESS.name: np.zeros((1, 3, 3)),
        MAGNETIC_FORCES.name: np.zeros((len(configuration), 3)),
    }
    labels, weights, present = {}, {}, {}
    for name in LABEL_NAMES:
        value = getattr(configuration, name)
        present[name] = value is not None
        labels[name] = torch.as_tensor(empty[name] if value is None else value, dtype=dtype).reshape(shapes[name])
        weights[name] = torch.tensor([configuration.weight if present[name] else 0.0], dtype=dtype)
    return Batch(graph, labels, weights, present)


def join(batches: Sequence[Batch]) -> Batch:
    """One batch out of several."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        graph=collate([batch.graph for batch in batches]),
        labels={name: torch.cat([batch.labels[name] for batch in batches]) for name in LABEL_NAMES},
        weights={name: torch.cat([batch.weights[name] for batch in batches]) for name in LABEL_NAMES},
        present={name: any(batch.present[name] for batch in batches) for name in LABEL_NAMES},
    )


def training_batches(singles: Sequence[Batch], config: TrainingConfig, epoch: int, start: int = 0) -> Iterator[Batch]:
    """The batches of one epoch from step ``start`` on, in random order and, if asked for, at random orientations.

    Order and rotations depend on seed, epoch and step alone, so that a run that was stopped goes on as if it had not.
    """
    order = np.random.default_rng([config.seed, epoch]).permutation(len(singles))
    for step in range(start, number_of_steps(len(singles), config.batch_size)):
        chosen = order[step * config.batch_size : (step + 1) * config.batch_size]
        batch = join([singles[index] for index in chosen])
        if config.rotate_jointly or config.rotate_moments:
            batch = batch.rotated(*_rotations(batch, config, epoch, step))
        yield batch


def number_of_steps(configurations: int, batch_size: int) -> int:
    """Optimiser steps per epoch."""
    return -(-configurations // batch_size)


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


def _rotations(batch: Batch, config: TrainingConfig, epoch: int, step: int) -> tuple[Tensor, Tensor]:
    """Rotations [S,3,3] of positions and of moments."""
    generator = np.random.default_rng([config.seed, epoch, step, 1])
    count = batch.num_structures
    identity = np.broadcast_to(np.eye(3), (count, 3, 3))
    joint = random_rotations(generator, count) if config.rotate_jointly else identity
    own = random_rotations(generator, count) if config.rotate_moments else identity
    dtype = batch.graph.positions.dtype
    return torch.tensor(joint, dtype=dtype), torch.tensor(own @ joint, dtype=dtype)
