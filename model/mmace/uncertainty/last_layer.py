"""Uncertainty of a single potential from the covariance of its last layer's weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmace.config import PotentialConfig
from mmace.errors import UserError
from mmace.graph import Graph
from mmace.potential import Potential
from mmace.uncertainty.calibration import Calibration
from mmace.uncertainty.estimate import Estimate
from mmace.uncertainty.features import last_layer_features, number_of_features, structure_means


@dataclass
class LastLayer:
    """Predictive standard deviations σ² ∝ φᵀ(ΦᵀΦ + λ)⁻¹φ of one potential.

    φ is the gradient of the energy per atom with respect to the last readout's weights (`last_layer_features`), Φ holds
    one row per training structure. Large where a structure's features lie in directions that the training data do not
    fill. ``whitening`` W [P,R] has WWᵀ = (ΦᵀΦ + λ)⁻¹, so that σ is the length of Wᵀφ. Made by `fit_last_layer`.
    """

    model: Potential
    whitening: Tensor  # [P,R] float64, 1/eV
    calibration: Calibration = field(default_factory=Calibration)
    ridge: float = 0.0  # λ relative to the mean eigenvalue of ΦᵀΦ
    num_structures: int = 0  # that the covariance was made from

    def __post_init__(self) -> None:
        wanted = number_of_features(self.model.readouts[-1])
        if self.whitening.ndim != 2 or self.whitening.shape[0] != wanted:
            raise UserError(
                f"uncertainty: made for {self.whitening.shape[0]} weights of the last readout, the model has {wanted}; "
                f"fit it again with `mmace uncertainty fit`"
            )
        self.whitening = self.whitening.detach().double().to(self.device)

    @property
    def config(self) -> PotentialConfig:
        """Of the potential."""
        return self.model.config

    @property
    def device(self) -> torch.device:
        """Of the potential."""
        return next(self.model.parameters()).device

    def whitened(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Whitened features of structures [S,R] and of atoms [N,R]; their lengths are the raw spreads."""
        atoms = last_layer_features(self.model, graph) @ self.whitening
        return structure_means(atoms, graph), atoms

    def estimate(self, graph: Graph) -> Estimate:
        """Standard deviations of energies, and of each atom's share of the energy."""
        structures, atoms = self.whitened(graph)
        return Estimate(
            energy_per_atom=self.calibration(structures.norm(dim=1)),
            num_atoms=graph.num_atoms,
            atoms=self.calibration(atoms.norm(dim=1)),
        )
