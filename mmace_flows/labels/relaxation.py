"""Relaxation with an engine in which every step is a label of its own, so that it goes on where it was killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from pydantic import Field

from mmace_flows.labels.engine import Engine
from mmace_flows.labels.labelling import LabelStore, find_or_compute
from mmace_flows.schemas.document import Document
from mmace_flows.schemas.label import LabelDocument
from mmace_flows.schemas.structure import Candidate, MagneticStructure

OnLabel = Callable[[LabelDocument, bool], None]


class RelaxSettings(Document):
    """How far a relaxation goes, and what is kept of its path."""

    force_max: float = Field(
        default=0.05, gt=0.0, description="largest force at the end, eV/Å (and stress with a cell)"
    )
    max_steps: int = Field(default=50, gt=0, description="calculations at most")
    relax_cell: bool = Field(default=False, description="cell too; the paper keeps it fixed")
    frames: int = Field(default=6, gt=0, description="frames kept, spread evenly over the path with both ends")
    max_step_length: float = Field(default=0.1, gt=0.0, description="largest move of an atom per step, Å")

    @classmethod
    def small(cls, **changes: Any) -> RelaxSettings:
        """A few steps from a displaced start."""
        return cls(**{"force_max": 0.05, "max_steps": 5, "frames": 4, **changes})

    @classmethod
    def paper(cls, **changes: Any) -> RelaxSettings:
        """Forces below 1e-4 eV/Å at fixed cell."""
        return cls(**{"force_max": 1e-4, "max_steps": 200, "frames": 10, **changes})


class Relaxation(Document):
    """What a relaxation gave."""

    frames: list[LabelDocument] = Field(description="kept frames along the path, converged labels only")
    steps: int = Field(description="calculations along the path, stored ones included")
    computed: int = Field(description="calculations done now")
    converged: bool = Field(description="forces below the limit")
    error: str | None = Field(default=None, description="why it stopped early, one line")


class LabelFailedError(RuntimeError):
    """A step of a relaxation did not converge."""


class StoredLabelCalculator(Calculator):
    """An ASE calculator that looks each geometry up among the labels before it asks the engine.

    Every geometry starts from the same initial moments, those of the start: a label depends on nothing but its own
    document, and a relaxation that is run again walks exactly the same path.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress", "magmoms"]  # noqa: RUF012 (ASE's own form)

    def __init__(
        self,
        start: Candidate,
        engine: Engine,
        labels: LabelStore,
        folder: Path,
        campaign: str | None = None,
        on_label: OnLabel | None = None,
    ) -> None:
        super().__init__()
        self.start, self.engine, self.labels, self.folder = start, engine, labels, folder
        self.campaign, self.on_label = campaign, on_label
        self.path: list[LabelDocument] = []
        self.computed = 0

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Energy, forces, stress, moments of ``atoms``. Raises LabelFailedError if the engine did not converge."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        structure = MagneticStructure.from_atoms(self.atoms, self.start.structure.magmoms)
        candidate = self.start.model_copy(
            update={
                "structure": structure,
                "operation": "relax",
                "parent": self.start.structure.hash(),
                "details": {**self.start.details, "step": len(self.path), "start": self.start.operation},
            }
        )
        label, computed = find_or_compute(candidate, self.engine, self.labels, self.folder, self.campaign)
        self.computed += int(computed)
        if self.on_label is not None:
            self.on_label(label, computed)
        if label.status != "converged":
            raise LabelFailedError(label.error or "not converged")
        self.path.append(label)
        self.results = {
            # the energy that the forces are derivatives of, so that optimisers with a line search work too
            "energy": label.free_energy,
            "free_energy": label.free_energy,
            "forces": np.asarray(label.forces),
            "magmoms": np.asarray(label.magmoms),
        }
        if label.stress is not None:  # an isolated cluster has none
            self.results["stress"] = np.asarray(label.stress)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def relax(
    start: Candidate,
    engine: Engine,
    settings: RelaxSettings,
    labels: LabelStore,
    folder: Path,
    campaign: str | None = None,
    on_label: OnLabel | None = None,
) -> Relaxation:
    """Relax positions (and the cell if asked) from ``start``; ``on_label`` is called for every step.

    Steps that are in the store are not computed again. A step that does not converge ends the relaxation; the frames
    before it remain good labels.
    """
    atoms = start.structure.to_atoms()
    calculator = StoredLabelCalculator(start, engine, labels, folder, campaign, on_label)
    # initial moments would otherwise count as a change of the system between steps
    atoms.set_initial_magnetic_moments(None)
    atoms.calc = calculator
    target: Any = FrechetCellFilter(atoms) if settings.relax_cell else atoms
    optimizer = BFGS(target, logfile=None, maxstep=settings.max_step_length)
    converged, error = False, None
    try:
        converged = bool(optimizer.run(fmax=settings.force_max, steps=settings.max_steps - 1))
    except LabelFailedError as failure:
        error = str(failure)
    return Relaxation(
        frames=spread_frames(calculator.path, settings.frames),
        steps=len(calculator.path),
        computed=calculator.computed,
        converged=converged,
        error=error,
    )


def spread_frames(path: list[LabelDocument], count: int) -> list[LabelDocument]:
    """At most ``count`` labels spread evenly over the path, first and last included."""
    if len(path) <= count:
        return list(path)
    indices = np.unique(np.round(np.linspace(0, len(path) - 1, count)).astype(int))
    return [path[index] for index in indices]
