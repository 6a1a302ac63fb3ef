"""The loss: weighted squared (or Huber) errors of energy, forces, stress and magnetic forces."""

from __future__ import annotations

import torch
from torch import Tensor

from mmace.fields import ENERGY, FORCES, LABELS, MAGNETIC_FORCES, STRESS
from mmace.potential import Potential
from mmace.train.batches import Batch
from mmace.train.config import TrainingConfig


def wanted_derivatives(batch: Batch, weights: dict[str, float]) -> dict[str, bool]:
    """Which derivatives of the energy the loss of ``batch`` needs, as arguments of `Potential.forward`."""
    return {
        label.name: batch.present[label.name] and weights[label.name] > 0 for label in LABELS if label is not ENERGY
    }


def loss_terms(output: dict[str, Tensor], batch: Batch, huber_delta: float | None = None) -> dict[str, Tensor]:
    """Sums over a batch of the loss of each label, before the label's weight.

    Energy: error per atom, one number per structure. Forces, stress, magnetic forces: mean over the three (nine)
    components; forces and magnetic forces summed over atoms. Unknown labels add nothing.

    Parameters: ``output`` of the potential, ``batch``, ``huber_delta`` in the label's
    unit. Returns label name → scalar, for the labels that ``output`` has.
    """
    atoms = batch.graph.structure
    terms = {}
    error = (output[ENERGY.name] - batch.labels[ENERGY.name]) / batch.graph.num_atoms.to(output[ENERGY.name].dtype)
    terms[ENERGY.name] = (_penalty(error, huber_delta) * batch.weights[ENERGY.name]).sum()
    for label in (FORCES, MAGNETIC_FORCES):
        predicted = output.get(label.name)
        if predicted is not None:
            penalty = _penalty(predicted - batch.labels[label.name], huber_delta).mean(dim=1)
            terms[label.name] = (penalty * batch.weights[label.name][atoms]).sum()
    if STRESS.name in output:
        penalty = _penalty(output[STRESS.name] - batch.labels[STRESS.name], huber_delta).mean(dim=(1, 2))
        terms[STRESS.name] = (penalty * batch.weights[STRESS.name]).sum()
    return terms


def total_loss(terms: dict[str, Tensor], structures: int, atoms: int, weights: dict[str, float]) -> Tensor:
    """Loss from the sums of `loss_terms`: energy and stress per structure, forces and magnetic forces per atom.

    All structures and atoms count in the denominators, with and without labels, so that a label has the same pull in
    whatever company it comes.
    """
    counts = {ENERGY.name: structures, STRESS.name: structures, FORCES.name: atoms, MAGNETIC_FORCES.name: atoms}
    loss = torch.zeros((), dtype=next(iter(terms.values())).dtype)
    for name, term in terms.items():
        loss = loss + weights[name] / counts[name] * term
    return loss


def batch_loss(
    model: Potential, batch: Batch, config: TrainingConfig, weights: dict[str, float] | None = None
) -> Tensor:
    """Loss of one batch, ready for `backward`: derivatives are part of the graph.

    Parameters: ``weights`` of the labels, where they are not those of ``config``.
    """
    weights = weights or config.weights
    output = model(batch.graph, **wanted_derivatives(batch, weights), create_graph=True)
    terms = loss_terms(output, batch, config.huber_delta)
    return total_loss(terms, *batch.counts, weights)


def _penalty(error: Tensor, huber_delta: float | None) -> Tensor:
    """error², from ``huber_delta`` on continued by a straight line with the same slope."""
    if huber_delta is None:
        return error.square()
    size = error.abs()
    return torch.where(size <= huber_delta, error.square(), huber_delta * (2.0 * size - huber_delta))
