"""The analytic engine with errors that vanish as cutoff and grid grow and smearing shrinks."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from analytic_engine import AnalyticEngine

from mmace_flows.labels.engine import EngineResult
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.schemas.structure import MagneticStructure


class ConvergingEngine(AnalyticEngine):
    """Error of the energy per atom, eV: 10 e^(−cutoff/50) plus terms in 1/grid and smearing², times the volume's
    share; the absolute energy is off by ten times as much, which cancels in differences. Forces are off by ten times
    that in eV/Å."""

    def __init__(self, settings: dict[str, Any], fails_at: float | None = None) -> None:
        super().__init__()
        self.settings = GPAWSettings.model_validate(settings)
        self.fails_at = fails_at

    def settings_dict(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json")

    def error(self, structure: MagneticStructure) -> float:
        """Error of the energy, eV per atom, apart from what cancels."""
        grid = self.settings.grid(structure.cell)
        volume = abs(np.linalg.det(structure.cell)) / len(structure.symbols) / 10.0
        terms = 10.0 * np.exp(-self.settings.cutoff / 50.0) + 0.5 / prod(grid) + self.settings.smearing_width**2
        return float(terms * volume)

    def run(
        self, structure: MagneticStructure, folder: Path, name: str = "run", start_attempt: int = 0
    ) -> EngineResult:
        if self.settings.cutoff == self.fails_at:
            return EngineResult(error="SCF not converged", attempts=["first attempt: no"])
        result = super().run(structure, folder, name, start_attempt)
        count, off = len(structure.symbols), self.error(structure)
        assert result.free_energy is not None and result.forces is not None
        result.free_energy += count * (off + 0.01 * (600.0 - self.settings.cutoff))
        result.forces = result.forces + np.array([10.0 * off, 0.0, 0.0])
        result.details = {"kpoint_grid": list(self.settings.grid(structure.cell))}
        return result
