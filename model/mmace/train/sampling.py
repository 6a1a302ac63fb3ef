"""Which configurations make up each batch of an epoch, and which of them each process works on.

Everything follows from seed and epoch, so that a run that was stopped goes on as if it had not, and all processes of a
run agree without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmace.train.config import TrainingConfig

WINDOW_BATCHES = 32  # batches' worth of configurations that are sorted by neighbours together
LEAST_WINDOW = 256  # configurations


@dataclass(frozen=True)
class Sizes:
    """What n configurations cost: a batch of atoms N takes N·M places for neighbours, M those of its densest atom."""

    atoms: np.ndarray  # [n]
    densest: np.ndarray  # [n] neighbours of the densest atom

    def __len__(self) -> int:
        return len(self.atoms)

    def places(self, indices: Sequence[int] | np.ndarray) -> int:
        """Places for neighbours in a batch of these configurations."""
        return int(self.atoms[indices].sum() * self.densest[indices].max(initial=0))


def epoch_batches(sizes: Sizes, config: TrainingConfig, epoch: int) -> list[np.ndarray]:
    """Indices of the configurations in each batch of ``epoch``, in the order of the steps; every one once."""
    generator = np.random.default_rng([config.seed, epoch])
    order = generator.permutation(len(sizes))
    if config.edges_per_batch is None:
        starts = range(0, len(order), config.batch_size)
        return [order[start : start + config.batch_size] for start in starts]
    return _filled_by_edges(sizes, config.edges_per_batch, order, generator)


def _filled_by_edges(sizes: Sizes, limit: int, order: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
    """Batches of up to ``limit`` places out of configurations with similar numbers of neighbours.

    Only the configurations of a window of the random ``order`` are sorted by neighbours, and the batches are put into
    random order in the end: what comes together changes from epoch to epoch. What does not fill a batch at the end of a
    window goes on to the next. A configuration above the limit is a batch of its own.
    """
    mean = float(np.mean(sizes.atoms * sizes.densest)) if len(sizes) else 1.0
    window = max(LEAST_WINDOW, round(WINDOW_BATCHES * limit / max(mean, 1.0)))
    batches: list[np.ndarray] = []
    left = order[:0]
    for start in range(0, len(order), window):
        chosen = np.concatenate([left, order[start : start + window]])
        chosen = chosen[np.argsort(sizes.densest[chosen], kind="stable")]
        begin = atoms = 0
        for end, index in enumerate(chosen):
            atoms += int(sizes.atoms[index])
            if end > begin and atoms * int(sizes.densest[index]) > limit:
                batches.append(chosen[begin:end])
                begin, atoms = end, int(sizes.atoms[index])
        left = chosen[begin:]
    if len(left):
        batches.append(left)
    return [batches[number] for number in generator.permutation(len(batches))]


def shares(sizes: Sizes, indices: np.ndarray, processes: int) -> list[np.ndarray]:
    """Places within a batch, ascending, that each process works on: about equal numbers of neighbours for all.

    Parameters: ``indices`` of the batch's configurations. A share is empty where there are fewer than processes.
    """
    if processes == 1:
        return [np.arange(len(indices))]
    costs = sizes.atoms[indices] * np.maximum(sizes.densest[indices], 1)
    loads = np.zeros(processes)
    parts: list[list[int]] = [[] for _ in range(processes)]
    for place in np.argsort(-costs, kind="stable"):
        lightest = int(np.argmin(loads))
        loads[lightest] += costs[place]
        parts[lightest].append(int(place))
    return [np.array(sorted(part), dtype=np.int64) for part in parts]
