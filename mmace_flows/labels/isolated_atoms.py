"""Isolated atoms at fixed total moment: the data of E0_mag(|m|) [25, A1]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from mmace.errors import UserError
from mmace.train import Configuration
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.schemas.label import LabelDocument
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.structures.moments import magnetic_state

SIDES = (1.0, 1.03, 1.06)  # of the box: no symmetry that an open shell would have to break


def atom_settings(cutoff: float = 340.0, max_iterations: int = 250) -> GPAWSettings:
    """GPAW for one atom in a box that is not periodic, its total moment held; ``cutoff`` eV, that of the crystals."""
    return GPAWSettings(
        cutoff=cutoff,
        kpoints=(1, 1, 1),
        symmetry=False,
        smearing_width=0.05,
        fix_total_magmom=True,
        max_iterations=max_iterations,
    )


def atom_candidates(element: str, moments: Sequence[float], box: float = 8.0) -> list[Candidate]:
    """One atom with each of the total ``moments`` (μB) in a box of about ``box`` Å. UserError for unknown elements."""
    from ase.data import atomic_numbers

    if element not in atomic_numbers or element == "X":
        raise UserError(f"atom curve: '{element}' is not a chemical symbol")
    candidates = []
    for moment in moments:
        atoms = Atoms(element, cell=[box * side for side in SIDES], pbc=False)
        atoms.center()
        structure = MagneticStructure.from_atoms(atoms, [moment])
        candidates.append(
            Candidate(
                structure=structure,
                operation="isolated atom",
                magnetic_state=magnetic_state(structure.magmoms),
                group="atom",
                details={"base": element, "total_magmom": float(moment)},
            )
        )
    return candidates


def atom_configuration(label: LabelDocument) -> Configuration:
    """The configuration that E0_mag is fitted to: free energy, and the total moment for |m|.

    The moment within the atom's sphere is no measure of an atom whose outer shells reach beyond it.
    """
    from mmace_flows.learning.dataset import label_configuration

    made = label_configuration(label)
    made.magmoms = np.array([[0.0, 0.0, float(label.total_magmom or 0.0)]])
    made.forces = made.magnetic_forces = None
    return made
