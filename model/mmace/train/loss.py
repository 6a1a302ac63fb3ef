"""The loss: weighted squared (or Huber) errors of energy, forces, stress and magnetic forces, and of the anisotropy."""

from __future__ import annotations

import torch
from torch import Tensor

from mmace.fields import ENERGY, FORCES, LABELS, MAGNETIC_FORCES, STRESS
from mmace.potential import Potential
from mmace.train.batches import Batch
from mmace.train.config import TrainingConfig
from mmace.train.directions import ANISOTROPY, ISOTROPIC, direction_terms, turned_energies


def wanted_derivatives(batch: Batch, weights: dict[str, float]) -> dict[str, bool]:
    """Which derivatives of the energy the loss of ``batch`` needs, as arguments of `Potential.forward`."""
    return {
        label.name: batch.present[label.name] and weights[label.name] > 0 for label in LABELS if label is not ENERGY
    }


def loss_terms(output: dict[str, Tensor], batch: Batch, huber_delta: float | None = None) -> dict[str, Tensor]:
    """Sums over a batch of the loss of each label, before the label's weight.

    Energy: error per atom, one number per structure. Forces, stress, magnetic forces: mean over the three (nine)
    components; forces and magnetic forces summed over atoms. Unknown labels add nothing.

    Energies of directions: see `direction_terms`.

    Parameters: ``output`` of `answers`, ``batch``, ``huber_delta`` in the label's unit. Returns name → scalar, for what
    ``output`` has.
    """
    atoms = batch.graph.structure
    terms = {}
    if ANISOTROPY in output and batch.directions is not None:
        terms.update(direction_terms(output[ANISOTROPY], batch.directions, batch.graph.num_atoms))
    if ENERGY.name in output:
        error = output[ENERGY.name] - batch.labels[ENERGY.name]
        error = error / batch.graph.num_atoms.to(error.dtype)
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
    """Loss from the sums of `loss_terms`: forces and magnetic forces per atom, all others per structure.

    All structures and atoms count in the denominators, with and without labels, so that a label has the same pull in
    whatever company it comes.
    """
    of_atoms = (FORCES.name, MAGNETIC_FORCES.name)
    loss = torch.zeros((), dtype=next(iter(terms.values())).dtype)
    for name, term in terms.items():
        loss = loss + weights[name] / (atoms if name in of_atoms else structures) * term
    return loss


def batch_loss(
    model: Potential, batch: Batch, config: TrainingConfig, weights: dict[str, float] | None = None
) -> Tensor:
    """Loss of one batch, ready for `backward`: derivatives are part of the graph.

    Parameters: ``weights`` of the labels, where they are not those of ``config``.
    """
    weights = weights or config.weights
    output = answers(model, batch, weights, create_graph=True)
    terms = loss_terms(output, batch, config.huber_delta)
    if batch.directions is not None:
        weights = term_weights(model, config, weights)
    return total_loss(terms, *batch.counts, weights)


def answers(model: Potential, batch: Batch, weights: dict[str, float], create_graph: bool = False) -> dict[str, Tensor]:
    """What the model says of whatever ``batch`` has labels for: as `Potential.forward`, and anisotropy [R], eV."""
    output: dict[str, Tensor] = {}
    if batch.directions is not None:
        with torch.set_grad_enabled(create_graph):
            output[ANISOTROPY] = turned_energies(model, batch.graph, batch.directions)
    if batch.directions is None or any(batch.present.values()):
        output.update(model(batch.graph, **wanted_derivatives(batch, weights), create_graph=create_graph))
    return output


def term_weights(model: Potential, config: TrainingConfig, weights: dict[str, float]) -> dict[str, float]:
    """Weights of all terms. The mean over directions counts where it has no business: in an anisotropy part, and in a
    model of anisotropy alone."""
    misplaced = model.anisotropy is not None or not model.knows_energies
    return {
        **weights,
        ANISOTROPY: config.anisotropy_weight,
        ISOTROPIC: config.isotropic_weight if misplaced else 0.0,
    }


def _penalty(error: Tensor, huber_delta: float | None) -> Tensor:
    """error², from ``huber_delta`` on continued by a straight line with the same slope."""
    if huber_delta is None:
        return error.square()
    size = error.abs()
    return torch.where(size <= huber_delta, error.square(), huber_delta * (2.0 * size - huber_delta))
