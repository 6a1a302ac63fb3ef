"""Validation: the batches, shared among processes, and the sums that become errors and a loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from mmace.fields import LABELS
from mmace.potential import Potential
from mmace.train.batches import Batch, ShardSingles, joined, sizes_of
from mmace.train.config import TrainingConfig
from mmace.train.directions import ANISOTROPY, ISOTROPIC
from mmace.train.distributed import Processes
from mmace.train.evaluate import ErrorSums, batch_errors
from mmace.train.loss import answers, loss_terms, term_weights, total_loss

LEAST_BATCH = 16  # structures


class ValidationBatches:
    """Batches of structures with similar numbers of neighbours, kept for all epochs or, from shards, read anew.

    Of several processes each has every n-th batch.
    """

    def __init__(self, singles: Sequence[Batch], config: TrainingConfig, processes: Processes) -> None:
        self.singles = singles
        groups = _groups(singles, config)
        self.groups = groups[processes.rank :: processes.count]
        self.kept = None if isinstance(singles, ShardSingles) else [self._batch(group) for group in self.groups]

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.kept) if self.kept is not None else (self._batch(group) for group in self.groups)

    def _batch(self, group: np.ndarray) -> Batch:
        return joined(self.singles, group)


def _groups(singles: Sequence[Batch], config: TrainingConfig) -> list[np.ndarray]:
    # similar numbers of neighbours together: the smaller ones are padded to the largest
    sizes = sizes_of(singles)
    order = np.argsort(sizes.densest, kind="stable")
    count = max(LEAST_BATCH, config.batch_size)
    if config.edges_per_batch is None:
        return [order[start : start + count] for start in range(0, len(order), count)]
    groups: list[list[int]] = []
    for index in order.tolist():
        if groups and sizes.places([*groups[-1], index]) <= config.edges_per_batch:
            groups[-1].append(index)
        else:
            groups.append([index])
    return [np.array(group) for group in groups]


def validation_errors(
    model: Potential,
    batches: ValidationBatches,
    config: TrainingConfig,
    weights: dict[str, float],
    processes: Processes,
) -> tuple[float, ErrorSums]:
    """Loss and errors of ``model`` over all batches of all processes.

    Errors are of all labels that are there, also of those with weight 0.
    """
    sums, totals = ErrorSums(), dict.fromkeys([*(label.name for label in LABELS), ANISOTROPY, ISOTROPIC], 0.0)
    atoms = 0
    for batch in batches:
        batch = batch.to(processes.device)
        output = answers(model, batch, dict.fromkeys(weights, 1.0))
        batch_errors(output, batch, sums)
        atoms += len(batch.graph.structure)
        for name, term in loss_terms(output, batch, config.huber_delta).items():
            totals[name] += float(term)
    names = list(totals)
    everything = np.concatenate([[sums.count, atoms], [totals[name] for name in names], *sums.sums.values()])
    everything = processes.sum(everything)
    sums.count, atoms = int(everything[0]), int(everything[1])
    rows = everything[2 + len(names) :].reshape(-1, 3)
    sums.sums = dict(zip(sums.sums, rows, strict=True))
    terms = {
        name: torch.tensor(total, dtype=torch.float64)
        for name, total in zip(names, everything[2 : 2 + len(names)].tolist(), strict=True)
    }
    return float(total_loss(terms, sums.count, atoms, term_weights(model, config, weights))), sums
