"""Radial features of edges, and the envelopes that keep the energy smooth."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmace.perceptron import perceptron


def envelope(lengths: Tensor, r_max: float, power: int = 5) -> Tensor:
    """Polynomial cutoff of [M] distances: 1 at 0, and 0 with two vanishing derivatives at r_max and beyond."""
    return envelope_of(lengths / r_max, power)


def envelope_of(x: Tensor, power: int = 5) -> Tensor:
    """`envelope` of distances in units of the cutoff, where every pair may have a cutoff of its own."""
    x = x.clamp(max=1.0)
    a = (power + 1.0) * (power + 2.0) / 2.0
    b = power * (power + 2.0)
    c = power * (power + 1.0) / 2.0
    return 1.0 - a * x**power + b * x ** (power + 1) - c * x ** (power + 2)


class AgnesiTransform(nn.Module):
    """Distance transform that spends resolution where atoms touch: x = 1/(1 + a·(r/r0)^q / (1 + (r/r0)^(q−p))).

    r0 is the mean of the pair's covalent radii; constants as MACE has them.
    """

    Q, P, A = 0.9183, 4.5791, 1.0805
    radii: Tensor  # [elements] Å

    def __init__(self, elements: list[str], dtype: torch.dtype) -> None:
        super().__init__()
        from ase.data import atomic_numbers, covalent_radii

        radii = [float(covalent_radii[atomic_numbers[element]]) for element in elements]
        self.register_buffer("radii", torch.tensor(radii, dtype=dtype), persistent=False)

    def forward(self, lengths: Tensor, senders: Tensor, receivers: Tensor) -> Tensor:
        """``lengths`` [E] Å, species of ``senders`` and ``receivers`` [E] → [E] in (0, 1]."""
        ratio = lengths / (0.5 * (self.radii[senders] + self.radii[receivers]))
        return 1.0 / (1.0 + self.A * ratio**self.Q / (1.0 + ratio ** (self.Q - self.P)))


def bessel(distances: Tensor, cut: Tensor, r_max: float, count: int) -> Tensor:
    """J(|r_ji|)/n: c/n · sin(nπr/r_max)/r for n = 1..count, times the envelope [11].

    c = r_max sqrt(2/3) makes the mean square of the first over the cutoff sphere one before the envelope: the radial
    networks, A and the products of several A then all start with values below, but of the order of, one. Dividing by n
    leaves the span as it is and makes random weights start from smooth functions of r: a prior, as in `chebyshev`.

    ``distances`` [E] in Å or transformed, ``cut`` [E] envelope of the lengths → [E, count].
    """
    r = distances.unsqueeze(-1)
    n = torch.arange(1, count + 1, dtype=r.dtype, device=r.device)
    return math.sqrt(2.0 / 3.0) * r_max * torch.sin(n * (math.pi / r_max) * r) / (n * r) * cut.unsqueeze(-1)


def normal(generator: torch.Generator, dtype: torch.dtype, *shape: int) -> nn.Parameter:
    """Weights of unit variance."""
    return nn.Parameter(torch.randn(*shape, generator=generator, dtype=dtype))


class MLP(nn.Module):
    """Perceptron without biases, SiLU between layers, weights of unit variance scaled by 1/sqrt(inputs)."""

    def __init__(self, sizes: list[int], generator: torch.Generator, dtype: torch.dtype) -> None:
        super().__init__()
        self.weights = nn.ParameterList(normal(generator, dtype, a, b) for a, b in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [M, inputs] → [M, outputs]."""
        return perceptron(x, list(self.weights))

    def of_kind(self, x: Tensor, kind: Tensor) -> Tensor:
        """Of ``x`` ⊕ a one-hot vector: the first layer's product with that is a row of its weights per ``kind`` [M]."""
        first, *later = self.weights
        of_x, of_kind = first.split([x.shape[1], first.shape[0] - x.shape[1]])
        return perceptron(x, [of_x, *later], of_kind, kind, inputs=first.shape[0])


class RadialFeatures(nn.Module):
    """What the radial functions of an edge are linear in: a perceptron of J_ji ⊕ T_j, without its last layer [13, 14].

    The share of T_j in the first layer belongs to the sender, and is computed once per atom.
    """

    def __init__(
        self, num_bessel: int, num_chebyshev: int, hidden: Sequence[int], generator: torch.Generator, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.split = (num_bessel, num_chebyshev)
        self.first = normal(generator, dtype, num_bessel + num_chebyshev, hidden[0])
        self.weights = nn.ParameterList(normal(generator, dtype, a, b) for a, b in itertools.pairwise(hidden))

    def forward(self, bessel: Tensor, chebyshev: Tensor | None, senders: Tensor) -> Tensor:
        """``bessel`` [E, num_bessel], ``chebyshev`` [N, num_chebyshev], flat ``senders`` [E] → [E, hidden[-1]]."""
        if chebyshev is None:
            return perceptron(bessel, [self.first, *self.weights], activated=True)
        of_edge, of_sender = self.first.split(self.split)
        share = chebyshev @ of_sender
        return perceptron(bessel, [of_edge, *self.weights], share, senders, inputs=sum(self.split), activated=True)
