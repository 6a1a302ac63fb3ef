"""Radial features of edges and of moment lengths, and the envelopes that keep the energy smooth."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn


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


class BesselBasis(nn.Module):
    """J(|r_ji|): c · sin(nπr/r_max)/r for n = 1..num_bessel, times the envelope [11].

    c = r_max sqrt(2/3) makes the mean square over the cutoff sphere one before the envelope: the radial networks, A and
    the products of several A then all start with values below, but of the order of, one.
    """

    frequencies: Tensor

    def __init__(self, r_max: float, num_bessel: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.r_max = r_max
        frequencies = torch.arange(1, num_bessel + 1, dtype=dtype) * math.pi / r_max
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, distances: Tensor, cut: Tensor) -> Tensor:
        """``distances`` [E] in Å or transformed, ``cut`` [E] envelope of the lengths → [E, num_bessel]."""
        r = distances.unsqueeze(-1)
        waves = math.sqrt(2.0 / 3.0) * self.r_max * torch.sin(self.frequencies * r) / r
        return waves * cut.unsqueeze(-1)


class MomentRange(nn.Module):
    """Keeps moments inside [0, m_max(Z)] for the network, smoothly, and adds a wall that rises outside.

    With u = (|m|/m_max)²: inside (u ≤ 1) nothing changes. Outside, the network sees u held below 1.01 by a tanh, and
    the atom pays ``wall · (u − 1)³``. Both pieces join with two continuous derivatives: a moment beyond the range
    of the Chebyshev polynomials meets a rising curve and not an exploding polynomial.
    """

    WIDTH = 0.01  # T_8 grows to 2.6 there; at 0.1 it would be 72

    m_max: Tensor

    def __init__(self, m_max: Tensor, wall: float) -> None:
        super().__init__()
        self.register_buffer("m_max", m_max)  # [number of elements], μB
        self.wall = wall

    def forward(self, magmoms: Tensor, species: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``magmoms`` [N,3] μB → m/m_max [N,3] with |.|² ≤ 1.01, their squares u [N], wall energy [N] eV.

        Works with |m|² only, never with the norm: all derivatives exist at m = 0.
        """
        scaled = magmoms / self.m_max[species].unsqueeze(-1)
        u = (scaled * scaled).sum(-1)
        outside = u > 1.0
        safe = torch.where(outside, u, 1.0)
        excess = torch.where(outside, u - 1.0, 0.0)
        held = torch.where(outside, 1.0 + self.WIDTH * torch.tanh(excess / self.WIDTH), u)
        shrink = torch.where(outside, torch.sqrt(torch.where(outside, held, 1.0) / safe), 1.0)
        return scaled * shrink.unsqueeze(-1), held, self.wall * excess**3


def chebyshev(u: Tensor, degree: int) -> Tensor:
    """T_n(x)/n, n = 1..degree, of x = 1 − 2u, u = (|m|/m_max)² [A4, A5]: [N] → [N, degree]. No constant.

    The slope of T_n at the ends grows with n². Dividing by n leaves the span as it is and makes random weights start
    from curves of |m| that are smoother: a prior, nothing else.
    """
    x = 1.0 - 2.0 * u
    terms = [torch.ones_like(x), x]
    for _ in range(2, degree + 1):
        terms.append(2.0 * x * terms[-1] - terms[-2])
    return torch.stack([term / n for n, term in enumerate(terms[1 : degree + 1], start=1)], dim=-1)


class MLP(nn.Module):
    """Perceptron without biases, SiLU between layers, weights of unit variance scaled by 1/sqrt(inputs)."""

    GAIN = 1.6765  # makes SiLU keep a unit second moment for normal inputs

    def __init__(self, sizes: list[int], generator: torch.Generator, dtype: torch.dtype) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(a, b, generator=generator, dtype=dtype)) for a, b in itertools.pairwise(sizes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [M, inputs] → [M, outputs]."""
        for number, weight in enumerate(self.weights):
            if number:
                x = self.GAIN * nn.functional.silu(x)
            x = x @ (weight / math.sqrt(weight.shape[0]))
        return x
