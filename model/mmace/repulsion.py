"""Screened nuclear repulsion between close atoms: a wall that data rarely cover (Ziegler, Biersack, Littmark)."""

from __future__ import annotations

import torch
from ase.data import atomic_numbers, covalent_radii
from torch import Tensor, nn

from mmace.graph import Graph
from mmace.radial import envelope_of

COULOMB = 14.399645  # e²/4πε0, eV Å
BOHR = 0.529177210903  # Å
WEIGHTS = (0.18175, 0.50986, 0.28022, 0.02817)
EXPONENTS = (3.1998, 0.94229, 0.4029, 0.20162)


class PairRepulsion(nn.Module):
    """½ Σ Z_i Z_j e²/r φ(r/a) f(r), with a smooth end f at the sum of the covalent radii."""

    charges: Tensor  # [elements]
    radii: Tensor  # [elements] Å

    def __init__(self, elements: list[str], dtype: torch.dtype) -> None:
        super().__init__()
        numbers = [atomic_numbers[element] for element in elements]
        self.register_buffer("charges", torch.tensor([float(z) for z in numbers], dtype=dtype), persistent=False)
        self.register_buffer(
            "radii", torch.tensor([float(covalent_radii[z]) for z in numbers], dtype=dtype), persistent=False
        )

    def forward(self, lengths: Tensor, graph: Graph) -> Tensor:
        """``lengths`` of the graph's edges [E] Å → [N] eV."""
        width = graph.senders.shape[1]
        senders = graph.species.index_select(0, graph.senders.reshape(-1))
        receivers = graph.species.repeat_interleave(width)
        zi, zj = self.charges[receivers], self.charges[senders]
        a = 0.8854 * BOHR / (zi**0.23 + zj**0.23)
        x = lengths / a
        screening = sum(w * torch.exp(-k * x) for w, k in zip(WEIGHTS, EXPONENTS, strict=True))
        end = envelope_of(lengths / (self.radii[senders] + self.radii[receivers]))
        energy = 0.5 * COULOMB * zi * zj / lengths * screening * end
        # padding lies at r_max, which may be inside the sum of two large radii
        return (energy.reshape(-1, width) * graph.real).sum(1)
