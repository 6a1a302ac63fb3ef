"""Energies of many structures from one model, a few at a time so that memory stays small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ase import Atoms

if TYPE_CHECKING:
    from mmace import Potential

BATCH = 16  # structures at once


def model_energies(model: Potential, atoms_list: Sequence[Atoms]) -> list[float]:
    """Model's energies, eV per atom, at the atoms' own (initial) moments."""
    import torch

    from mmace import build_graph

    energies: list[float] = []
    config = model.config
    for start in range(0, len(atoms_list), BATCH):
        batch = list(atoms_list[start : start + BATCH])
        graph = build_graph(batch, config.elements, config.r_max, dtype=config.torch_dtype)
        with torch.no_grad():
            totals = model(graph, forces=False, stress=False, magnetic_forces=False)["energy"]
        energies += [float(total) / len(atoms) for total, atoms in zip(totals, batch, strict=True)]
    return energies
