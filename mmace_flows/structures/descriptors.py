"""What structures are compared by: a cheap description of distances and moments, or the features of a potential.

Neither changes with rotations of everything, the order of atoms, the choice or size of the cell, or the reversal of all
moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from ase.neighborlist import neighbor_list
from pydantic import Field

from mmace_flows.schemas.document import Document
from mmace_flows.schemas.structure import MagneticStructure

if TYPE_CHECKING:
    from mmace import Potential


class DescriptorSettings(Document):
    """How finely the cheap description looks."""

    cutoff: float = Field(default=5.0, gt=0.0, description="Å")
    bins: int = Field(default=12, ge=2, description="Gaussians over the distances, and over the moments")
    largest_moment: float = Field(default=4.0, gt=0.0, description="that the Gaussians over moments reach to, μB")


def cheap_descriptors(
    structures: Sequence[MagneticStructure], settings: DescriptorSettings | None = None
) -> np.ndarray:
    """[S,F], per atom: neighbours by distance for each pair of elements, once counted and once weighted with m_i·m_j;
    atoms by |m| for each element. m_i·m_j is in units of μB². All structures are described with the same elements."""
    settings = settings or DescriptorSettings()
    elements = sorted({symbol for structure in structures for symbol in structure.symbols})
    return np.array([_describe(structure, elements, settings) for structure in structures])


def _describe(structure: MagneticStructure, elements: list[str], settings: DescriptorSettings) -> np.ndarray:
    kinds = np.array([elements.index(symbol) for symbol in structure.symbols])
    moments = np.asarray(structure.magmoms, dtype=float)
    count, number = len(kinds), len(elements)
    first, second, distances = neighbor_list("ijd", structure.to_atoms(), settings.cutoff)
    centres = np.linspace(1.5, settings.cutoff, settings.bins)
    width = centres[1] - centres[0]
    fading = 0.5 * (1.0 + np.cos(np.pi * distances / settings.cutoff))  # nothing jumps where a neighbour leaves
    weights = np.exp(-0.5 * ((distances[:, None] - centres) / width) ** 2) * fading[:, None]
    pairs = np.minimum(kinds[first], kinds[second]) * number + np.maximum(kinds[first], kinds[second])
    products = np.sum(moments[first] * moments[second], axis=1)
    parts = []
    for values in (weights, weights * products[:, None]):
        sums = np.zeros((number * number, settings.bins))
        np.add.at(sums, pairs, values)
        parts.append(sums / count)
    levels = np.linspace(0.0, settings.largest_moment, settings.bins)
    spread = levels[1] - levels[0]
    lengths = np.linalg.norm(moments, axis=1)
    by_length = np.zeros((number, settings.bins))
    np.add.at(by_length, kinds, np.exp(-0.5 * ((lengths[:, None] - levels) / spread) ** 2))
    parts.append(by_length / count)
    return np.concatenate([part.reshape(-1) for part in parts])


def model_descriptors(structures: Sequence[MagneticStructure], model: Potential, batch_size: int = 16) -> np.ndarray:
    """[S,F] invariant features of the potential's layers, side by side, mean over atoms.

    Raises UserError for an element that the model does not know.
    """
    import torch

    from mmace.uncertainty.features import graphs_of, structure_means

    device = next(model.parameters()).device
    atoms = [structure.to_atoms() for structure in structures]
    rows = []
    with torch.no_grad():
        for graph in graphs_of(model.config, atoms, batch_size, device):
            features = torch.cat(model.node_features(graph)[0], dim=1)
            rows.append(structure_means(features, graph).double().cpu())
    return torch.cat(rows).numpy() if rows else np.zeros((0, 0))
