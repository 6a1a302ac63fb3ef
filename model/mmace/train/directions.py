"""Energies of many directions of one structure's moments as labels: the anisotropy, which is differences only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mmace.anisotropy import collinear_axis, turns_to
from mmace.graph import Graph
from mmace.potential import Potential
from mmace.train.configuration import Configuration

ANISOTROPY = "anisotropy"  # name of the label in outputs, errors and losses
ISOTROPIC = "isotropic"  # name of the loss of what is the same for all directions
LEAST_SIZE = 1e-6  # eV per atom: relative errors of smaller anisotropies count as if these were so large


@dataclass
class DirectionLabels:
    """E_A of S structures for R rotations in all. A structure without them has none of the rotations."""

    rotations: Tensor  # [R,3,3] of all moments of the structure, from where they are
    structure: Tensor  # [R] the structure that is turned, ascending
    energies: Tensor  # [R] eV per cell; only differences within a structure mean anything
    weight: Tensor  # [S] of the structure; 0 without directions
    size: Tensor  # [S] RMS of E_A about its mean, eV per atom, at least 1 µeV

    def to(self, device: torch.device) -> DirectionLabels:
        """The labels on ``device``."""
        return DirectionLabels(**{name: tensor.to(device) for name, tensor in self.__dict__.items()})

    def sampled(self, count: int, generator: np.random.Generator) -> DirectionLabels:
        """At most ``count`` of the rotations of each structure, drawn anew at each call."""
        order = generator.permutation(len(self.structure))
        owners = self.structure.numpy()[order]
        by_owner = np.argsort(owners, kind="stable")
        first = np.searchsorted(owners[by_owner], owners[by_owner])  # where the owner's begin
        chosen = torch.from_numpy(np.sort(order[by_owner[np.arange(len(order)) - first < count]]))
        return replace(
            self,
            rotations=self.rotations[chosen],
            structure=self.structure[chosen],
            energies=self.energies[chosen],
        )

    def turned(self, position_rotations: Tensor, moment_rotations: Tensor) -> DirectionLabels:
        """Those of the same structures with positions turned by the first and moments by the second [S,3,3]."""
        of_positions, of_moments = position_rotations[self.structure], moment_rotations[self.structure]
        return replace(self, rotations=of_positions @ self.rotations @ of_moments.transpose(1, 2))

    def means(self, values: Tensor) -> Tensor:
        """[S] mean of [R] values over the rotations of each structure; 0 without any."""
        sums = values.new_zeros(len(self.weight)).index_add(0, self.structure, values)
        return sums / self.counts.to(values.dtype).clamp(min=1.0)

    @property
    def counts(self) -> Tensor:
        """[S] rotations of each structure."""
        return torch.bincount(self.structure, minlength=len(self.weight))

    def relative(self, values: Tensor) -> Tensor:
        """[R] values minus their mean over the structure's rotations."""
        return values - self.means(values)[self.structure]


def labels_of(configuration: Configuration, dtype: torch.dtype) -> DirectionLabels | None:
    """Labels of one configuration, or None where it has no directions. Raises `UserError` for moments that are not
    collinear."""
    if configuration.directions is None or configuration.anisotropy is None:
        return None
    # which way along the axis positive moments point decides nothing, since E(−n) = E(n)
    axis = collinear_axis(configuration.magmoms, configuration.name)
    energies = configuration.anisotropy - configuration.anisotropy.mean()
    size = max(float(np.sqrt(np.mean(energies**2))) / len(configuration), LEAST_SIZE)
    return DirectionLabels(
        rotations=torch.tensor(turns_to(axis, configuration.directions), dtype=dtype),
        structure=torch.zeros(len(energies), dtype=torch.int64),
        energies=torch.tensor(energies, dtype=dtype),
        weight=torch.tensor([configuration.weight], dtype=dtype),
        size=torch.tensor([size], dtype=dtype),
    )


def joined_labels(parts: Sequence[DirectionLabels | None], dtype: torch.dtype) -> DirectionLabels | None:
    """One batch out of those of single structures; None where none of them has directions."""
    if all(part is None for part in parts):
        return None
    nothing = DirectionLabels(
        rotations=torch.zeros(0, 3, 3, dtype=dtype),
        structure=torch.zeros(0, dtype=torch.int64),
        energies=torch.zeros(0, dtype=dtype),
        weight=torch.zeros(1, dtype=dtype),
        size=torch.ones(1, dtype=dtype),
    )
    filled = [part if part is not None else nothing for part in parts]
    starts = np.concatenate([[0], np.cumsum([len(part.weight) for part in filled])[:-1]])
    return DirectionLabels(
        rotations=torch.cat([part.rotations for part in filled]),
        structure=torch.cat([part.structure + int(start) for part, start in zip(filled, starts, strict=True)]),
        energies=torch.cat([part.energies for part in filled]),
        weight=torch.cat([part.weight for part in filled]),
        size=torch.cat([part.size for part in filled]),
    )


def turned_energies(model: Potential, graph: Graph, labels: DirectionLabels) -> Tensor:
    """Energies [R], eV, of ``graph`` with all moments of its structures turned by the rotations of ``labels``.

    Those of the anisotropy part alone, where the model has one: what else it has does not depend on rotations.
    """
    part = model.anisotropy if model.anisotropy is not None else model
    copies = graph.repeated(labels.structure)
    stay = torch.eye(3, dtype=labels.rotations.dtype, device=labels.rotations.device).expand_as(labels.rotations)
    nodes = part.node_energies(copies.rotated(stay, labels.rotations))
    return nodes.new_zeros(copies.num_structures).index_add(0, copies.structure, nodes)


def direction_terms(energies: Tensor, labels: DirectionLabels, atoms: Tensor) -> dict[str, Tensor]:
    """Sums over structures of the loss of E_A: {"anisotropy": …, "isotropic": …}.

    The first is the squared error relative to the size of E_A, a mean over the rotations of each structure: a soft
    magnet counts as much as a hard one. The second is the squared mean of ``energies`` over directions, likewise.
    Parameters: ``energies`` [R] of `turned_energies`, ``atoms`` [S] of each structure.
    """
    scale = (labels.size * atoms.to(energies.dtype)).square()
    error = labels.relative(energies) - labels.relative(labels.energies)
    return {
        ANISOTROPY: (labels.weight * labels.means(error.square()) / scale).sum(),
        ISOTROPIC: (labels.weight * labels.means(energies).square() / scale).sum(),
    }


def anisotropy_scale(part: Potential, singles: Sequence[DirectionLabels], graphs: Sequence[Graph]) -> float | None:
    """Energy scale, eV, at which E_A of the new ``part`` is as large as the labels: the median ratio of their sizes;
    None where there is nothing to compare."""
    part.set_energy_scale(1.0)
    ratios = []
    with torch.no_grad():
        for labels, graph in zip(singles, graphs, strict=True):
            own = float(labels.relative(turned_energies(part, graph, labels)).square().mean().sqrt())
            wanted = float(labels.energies.square().mean().sqrt())
            if own > 0 and wanted > 0:
                ratios.append(wanted / own)
    return float(np.median(ratios)) if ratios else None
