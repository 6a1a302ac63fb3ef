"""An engine with an analytic energy: everything around an engine is tested with it in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase.calculators.lj import LennardJones

from mmace_flows.labels.engine import EngineResult
from mmace_flows.schemas.structure import MagneticStructure


@dataclass
class AnalyticEngine:
    """Lennard-Jones atoms whose moments shrink to 0.9 of their start. Fails where told to; records what it computed."""

    epsilon: float = 0.1
    fail_after: int = 10**9
    name: str = "analytic"
    computed: list[MagneticStructure] = field(default_factory=list)
    attempts_started: list[int] = field(default_factory=list)

    def version(self) -> str:
        return "1"

    def settings_dict(self) -> dict[str, Any]:
        return {"epsilon": self.epsilon}

    def check(self, structure: MagneticStructure) -> None:
        """Every structure will do."""

    def run(
        self, structure: MagneticStructure, folder: Path, name: str = "run", start_attempt: int = 0
    ) -> EngineResult:
        self.computed.append(structure)
        self.attempts_started.append(start_attempt)
        if len(self.computed) > self.fail_after:
            return EngineResult(error="SCF not converged", attempts=["first attempt: no", "safer mixing: no"])
        atoms = structure.to_atoms()
        atoms.calc = LennardJones(epsilon=self.epsilon, sigma=2.2, rc=6.0, smooth=True)
        energy = atoms.get_potential_energy()
        return EngineResult(
            converged=True,
            attempts=["first attempt: converged in 1 iterations"],
            energy=energy + 0.01,
            free_energy=energy,
            forces=atoms.get_forces(),
            stress=atoms.get_stress(voigt=False),
            magmoms=0.9 * np.asarray(structure.magmoms),
            total_magmom=float(0.9 * np.asarray(structure.magmoms)[:, 2].sum()),
            scf_iterations=1,
            wall_seconds=0.5,
        )
