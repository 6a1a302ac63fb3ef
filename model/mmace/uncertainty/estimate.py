"""What every kind of uncertainty answers with, and the form in which it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mmace.config import PotentialConfig
from mmace.graph import Graph


@dataclass
class Estimate:
    """Standard deviations of predictions for S structures with N atoms in all."""

    energy_per_atom: Tensor  # [S] eV
    num_atoms: Tensor  # [S]
    atoms: Tensor | None = None  # [N] eV: of each atom's share of the energy; for choosing what to label
    forces: Tensor | None = None  # [N,3] eV/Å
    magnetic_forces: Tensor | None = None  # [N,3] eV/μB

    @property
    def energy(self) -> Tensor:
        """[S] eV, of the total energy."""
        return self.energy_per_atom * self.num_atoms.to(self.energy_per_atom.dtype)


class Uncertainty(Protocol):
    """Anything that estimates how far the predictions for a graph may be off."""

    @property
    def config(self) -> PotentialConfig:
        """Elements, cutoff and floating-point type that graphs are built with."""
        ...

    @property
    def device(self) -> torch.device:
        """Where graphs belong."""
        ...

    def estimate(self, graph: Graph) -> Estimate:
        """Standard deviations for a batch of structures."""
        ...
