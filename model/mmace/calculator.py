"""ASE calculator with moments fixed or relaxed."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from mmace.checkpoint import load
from mmace.errors import UserError, unknown_key_message
from mmace.graph import build_graph, vector_moments
from mmace.heads import head_number, single_head
from mmace.potential import Potential
from mmace.spins.relax import relax_moments
from mmace.uncertainty.resolve import resolve

if TYPE_CHECKING:
    from mmace.committee import Committee
    from mmace.uncertainty.estimate import Estimate, Uncertainty

logger = logging.getLogger(__name__)


class MagneticCalculator(Calculator):
    """Energies, forces, stress, moments and magnetic forces of a potential.

    Moments are the atoms' initial magnetic moments, (N,) meaning along z, or (N,3), in μB.

    Parameters
    ----------
    model: a `Potential` or the path of a checkpoint.
    moments: ``fixed`` takes the moments as they are. ``relaxed`` minimises the energy over them first and takes the
        result as the next start (as long as the initial moments are not changed); options are those of
        `mmace.spins.relax.relax_moments`, for example ``mode="collinear"``.
    uncertainty: a `LastLayer`, `CommitteeUncertainty` or `Committee`, the file of ``mmace uncertainty fit`` or the
        folder of a committee: adds standard deviations to the results.
    head: level of theory of a model that has several; None: the first.

    Results: energy and free_energy (eV), energies (N,), forces (N,3) eV/Å, stress (6,) eV/Å³ in ASE's order and sign,
    magmoms (N,3) μB, magnetic_forces (N,3) eV/μB; with ``uncertainty`` also energy_uncertainty (eV) and, from a single
    model, energies_uncertainty (N,) eV, from a committee forces_uncertainty (N,3) and magnetic_forces_uncertainty.

    Raises UserError for an element or a head the model does not know, and for an uncertainty of another model.
    """

    implemented_properties = [  # noqa: RUF012
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
        "magmoms",
        "magnetic_forces",
    ]

    def __init__(
        self,
        model: Potential | str | Path,
        moments: str = "fixed",
        uncertainty: Uncertainty | Committee | str | Path | None = None,
        head: str | None = None,
        **relax_options: Any,
    ) -> None:
        super().__init__()
        if moments not in ("fixed", "relaxed"):
            raise UserError(unknown_key_message(moments, ("fixed", "relaxed"), "MagneticCalculator: moments"))
        if relax_options and moments == "fixed":
            raise UserError(
                f"MagneticCalculator: {', '.join(relax_options)} only mean something with moments='relaxed'"
            )
        whole = model if isinstance(model, Potential) else load(model)
        self.head = head_number(whole.config, head, "MagneticCalculator")
        self.model = single_head(whole, head)
        self.moments = moments
        self.uncertainty = None if uncertainty is None else resolve(uncertainty, whole)
        self.relax_options = relax_options
        self.last_relaxation: Any = None
        self._start: np.ndarray | None = None
        self._warned: set[str] = set()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute everything at once; called by ASE."""
        super().calculate(atoms, properties or ["energy"], system_changes)
        assert self.atoms is not None
        if "stress" in (properties or []) and not all(self.atoms.pbc):
            raise PropertyNotImplementedError("stress needs a cell that is periodic in three directions")
        config = self.model.config
        work = self.atoms.copy()
        start = vector_moments(work)
        work.arrays.pop("initial_magmoms", None)
        work.set_initial_magnetic_moments(start)
        if self.moments == "relaxed":
            if self._start is not None and np.array_equal(self._start, start) and self.last_relaxation is not None:
                work.set_initial_magnetic_moments(self.last_relaxation.magmoms)
            self._start = start
            self.last_relaxation = relax_moments(self.model, work, **self.relax_options)[0]
            if not self.last_relaxation.converged:
                logger.warning("moment relaxation %s", self.last_relaxation.message)
            work.set_initial_magnetic_moments(self.last_relaxation.magmoms)
        self._warn_beyond_range(work)
        graph = build_graph(work, config.elements, config.r_max, dtype=config.torch_dtype)
        graph = graph.to(device=next(self.model.parameters()).device)
        out = self.model(graph, stress=all(work.pbc))
        energy = float(out["energy"])
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": out["node_energy"].cpu().numpy(),
            "forces": out["forces"].cpu().numpy(),
            "magmoms": vector_moments(work),
            "magnetic_forces": out["magnetic_forces"].cpu().numpy(),
        }
        if "stress" in out:
            self.results["stress"] = full_3x3_to_voigt_6_stress(out["stress"][0].cpu().numpy())
        if self.uncertainty is not None:
            self._add_uncertainty(self.uncertainty.estimate(replace(graph, head=graph.head + self.head)))

    def _add_uncertainty(self, estimate: Estimate) -> None:
        self.results["energy_uncertainty"] = float(estimate.energy)
        for name, values in (
            ("energies_uncertainty", estimate.atoms),
            ("forces_uncertainty", estimate.forces),
            ("magnetic_forces_uncertainty", estimate.magnetic_forces),
        ):
            if values is not None:
                self.results[name] = values.cpu().numpy()

    def _warn_beyond_range(self, atoms: Atoms) -> None:
        """Say once per element when a moment is larger than anything the model was made for."""
        if not self.model.config.rules.magnetic:
            return
        lengths = np.linalg.norm(vector_moments(atoms), axis=1)
        for element in set(atoms.get_chemical_symbols()) - self._warned:
            largest = lengths[[symbol == element for symbol in atoms.get_chemical_symbols()]].max()
            limit = self.model.config.m_max_of(element)
            if largest > limit:
                self._warned.add(element)
                logger.warning(
                    "%s has a moment of %.2f μB, beyond the model's range of %.2f μB; a rising wall is added there",
                    element,
                    largest,
                    limit,
                )
