"""A structure with its moments, and a candidate for labelling with where it comes from."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from mmace_flows.schemas.document import Document, content_hash

MagneticState = Literal["NM", "FM", "AFM", "FiM", "non-collinear"]


class MagneticStructure(Document):
    """Atoms in a cell with vector moments. N atoms."""

    symbols: list[str] = Field(description="[N] chemical symbols")
    positions: list[list[float]] = Field(description="[N,3] Cartesian positions, Å")
    cell: list[list[float]] = Field(description="[3,3] cell vectors as rows, Å")
    pbc: list[bool] = Field(default=[True, True, True], description="periodic along each cell vector")
    magmoms: list[list[float]] = Field(description="[N,3] moments in the lab frame, μB")

    @classmethod
    def from_atoms(cls, atoms: Atoms, magmoms: Any = None) -> MagneticStructure:
        """From ASE atoms; ``magmoms`` (N,), (N,3) or None for the atoms' initial moments. (N,) means along z."""
        moments = np.asarray(atoms.get_initial_magnetic_moments() if magmoms is None else magmoms, dtype=float)
        if moments.ndim == 1:
            moments = np.column_stack([np.zeros((len(moments), 2)), moments])
        if moments.shape != (len(atoms), 3):
            raise ValueError(f"magmoms of shape {moments.shape} for {len(atoms)} atoms; expected (N,) or (N, 3)")
        return cls(
            symbols=list(atoms.get_chemical_symbols()),
            positions=atoms.get_positions().tolist(),
            cell=np.asarray(atoms.cell).tolist(),
            pbc=[bool(p) for p in atoms.pbc],
            magmoms=moments.tolist(),
        )

    def to_atoms(self) -> Atoms:
        """ASE atoms with (N,3) initial magnetic moments."""
        atoms = Atoms(self.symbols, positions=self.positions, cell=self.cell, pbc=self.pbc)
        atoms.set_initial_magnetic_moments(np.asarray(self.magmoms).reshape(-1, 3))
        return atoms

    def hash(self) -> str:
        """Hash of the content: positions and cell rounded to 1e-6 Å, moments to 1e-4 μB."""
        # `+ 0.0` turns -0.0 into 0.0, so that equal structures hash equally
        return content_hash(
            [
                self.symbols,
                (np.round(self.positions, 6) + 0.0).tolist(),
                (np.round(self.cell, 6) + 0.0).tolist(),
                self.pbc,
                (np.round(self.magmoms, 4) + 0.0).tolist(),
            ]
        )

    def parent_hash(self) -> str:
        """As `hash`, without moments: what the magnetic orderings of one crystal, their labels and runs share."""
        return self.model_copy(update={"magmoms": [[0.0, 0.0, 0.0]] * len(self.symbols)}).hash()


class Candidate(Document):
    """A structure proposed for labelling, and how it was made."""

    structure: MagneticStructure
    operation: str = Field(description="what made it: base, distort, relax, bain, metropolis, perturb, …")
    magnetic_state: MagneticState = Field(description="magnetic state asked for")
    parent: str | None = Field(default=None, description="structure hash of the parent")
    seed: int | None = Field(default=None, description="seed of the random operation")
    group: str = Field(default="train", description="what the label is for: train, test, bain (never trained on)")
    iteration: int = Field(default=0, description="active-learning iteration that proposed it")
    details: dict[str, Any] = Field(default_factory=dict, description="parameters of the operation, JSON-able")
