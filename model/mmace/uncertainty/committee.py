"""Uncertainty from several potentials: the spread of their predictions, calibrated."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from mmace.committee import Committee
from mmace.config import PotentialConfig
from mmace.graph import Graph
from mmace.uncertainty.calibration import Calibration
from mmace.uncertainty.estimate import Estimate


@dataclass
class CommitteeUncertainty:
    """Spread of a `Committee`. ``calibration`` is fitted to energies per atom; its scale serves forces too.

    A power law is not carried to other quantities, for its constants have the unit of the energy.
    """

    committee: Committee
    calibration: Calibration = field(default_factory=Calibration)

    @property
    def config(self) -> PotentialConfig:
        """Of the first member: elements, cutoff and type are those of all."""
        return self.committee.config

    @property
    def device(self) -> torch.device:
        """Of the members."""
        return next(self.committee.models[0].parameters()).device

    def estimate(self, graph: Graph) -> Estimate:
        """Standard deviations of energies, forces and magnetic forces."""
        spread = self.committee.predict(graph)["spread"]
        scale = self.calibration.scale if self.calibration.power == 1.0 else 1.0
        return Estimate(
            energy_per_atom=self.calibration(spread["energy_per_atom"].double()),
            num_atoms=graph.num_atoms,
            forces=scale * spread["forces"],
            magnetic_forces=scale * spread["magnetic_forces"],
        )
