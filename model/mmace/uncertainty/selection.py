"""What to label next: the structures that a potential is least sure of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from ase import Atoms

from mmace.errors import UserError, unknown_key_message
from mmace.graph import Graph
from mmace.uncertainty.estimate import Estimate, Uncertainty
from mmace.uncertainty.features import graphs_of
from mmace.uncertainty.last_layer import LastLayer

MEASURES = ("energy_per_atom", "atoms", "forces")
NOISE = 1.0  # what one label adds to the covariance, in units of the whitened features


def uncertainties(structures: Sequence[Atoms], uncertainty: Uncertainty, batch_size: int = 16) -> list[Estimate]:
    """One estimate per batch of ``batch_size`` structures, in order."""
    return [uncertainty.estimate(graph) for graph in _graphs(structures, uncertainty, batch_size)]


def scores(
    structures: Sequence[Atoms], uncertainty: Uncertainty, measure: str = "energy_per_atom", batch_size: int = 16
) -> np.ndarray:
    """One number per structure: the uncertainty of its energy per atom (eV), of its least certain atom's energy
    (``atoms``, eV) or force (``forces``, eV/Å).

    Raises UserError for a measure that this kind of uncertainty does not have.
    """
    if measure not in MEASURES:
        raise UserError(unknown_key_message(measure, MEASURES, "uncertainty: measure"))
    found: list[float] = []
    for estimate in uncertainties(structures, uncertainty, batch_size):
        values = getattr(estimate, measure)
        if values is None:
            raise UserError(
                f"uncertainty: {type(uncertainty).__name__} has no '{measure}'; "
                f"{'a committee has forces' if measure == 'forces' else 'a single model has atoms'}"
            )
        if measure == "energy_per_atom":
            found += values.tolist()
        else:
            lengths = values.norm(dim=1) if values.ndim == 2 else values
            found += [float(part.max()) for part in lengths.split(estimate.num_atoms.tolist())]
    return np.array(found)


def select_most_uncertain(
    structures: Sequence[Atoms],
    uncertainty: Uncertainty,
    count: int,
    measure: Literal["energy_per_atom", "atoms", "forces"] = "energy_per_atom",
    distinct: bool = True,
    batch_size: int = 16,
) -> list[int]:
    """Indices of ``count`` structures to label, the least certain first.

    ``distinct`` (single models, energies): after each choice the covariance is updated as if its label were known, so
    that ten near copies of one uncertain structure are not chosen ten times. Structures carry their moments as initial
    magnetic moments. Raises UserError for a negative count or a measure that is not there.
    """
    if count < 0:
        raise UserError(f"selection: count is {count}; give 0 or more")
    count = min(count, len(structures))
    if count == 0:
        return []
    if distinct and isinstance(uncertainty, LastLayer) and measure == "energy_per_atom":
        rows = [uncertainty.whitened(graph)[0] for graph in _graphs(structures, uncertainty, batch_size)]
        return _greedy(torch.cat(rows), count)
    order = np.argsort(-scores(structures, uncertainty, measure, batch_size), kind="stable")
    return [int(index) for index in order[:count]]


def _greedy(features: torch.Tensor, count: int) -> list[int]:
    """Rows [n,R] of largest remaining variance, each conditioned on those before: a pivoted Cholesky factorisation of
    the covariance between structures, with the noise of a label."""
    variance = features.square().sum(1)
    factors = features.new_zeros(count, features.shape[0])
    chosen: list[int] = []
    free = torch.ones_like(variance, dtype=torch.bool)
    for step in range(count):
        pick = int(torch.where(free, variance, -1.0).argmax())
        covariance = features @ features[pick] - factors[:step].T @ factors[:step, pick]
        factors[step] = covariance / torch.sqrt(variance[pick].clamp(min=0.0) + NOISE)
        variance = (variance - factors[step].square()).clamp(min=0.0)
        free[pick] = False
        chosen.append(pick)
    return chosen


def _graphs(structures: Sequence[Atoms], uncertainty: Uncertainty, batch_size: int) -> Iterator[Graph]:
    return graphs_of(uncertainty.config, structures, batch_size, uncertainty.device)
