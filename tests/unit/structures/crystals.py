"""Crystals that several tests of structures use."""

from __future__ import annotations

from ase import Atoms
from ase.build import bulk

from mmace_flows.schemas.structure import MagneticStructure


def plain(atoms: Atoms) -> MagneticStructure:
    """Without moments, whatever ASE presets."""
    return MagneticStructure.from_atoms(atoms, [[0.0, 0.0, 0.0]] * len(atoms))


BCC_FE = plain(bulk("Fe"))
BCC_FE_CUBE = plain(bulk("Fe", cubic=True))
L10_FENI = plain(Atoms("FeNi", cell=[2.5, 2.5, 3.57], scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], pbc=True))
MN3PT = plain(
    Atoms(
        "Mn3Pt",
        cell=[3.83] * 3,
        scaled_positions=[[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0], [0, 0, 0]],
        pbc=True,
    )
)
