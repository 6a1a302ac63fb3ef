"""Real spherical and solid harmonics, by recursion with Clebsch–Gordan coefficients.

The order within a degree is e3nn's (degree 1 is x, y, z) and the norm is "component": on the unit sphere the squares of
the 2l+1 components add up to 2l+1. Solid harmonics are |v|^l Y_l(v/|v|), homogeneous polynomials of v: smooth at v = 0.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn


@cache
def wigner_3j(l1: int, l2: int, l3: int) -> np.ndarray:
    """Real Wigner 3j symbols [2l1+1, 2l2+1, 2l3+1], e3nn's convention, float64."""
    from e3nn import o3

    return o3.wigner_3j(l1, l2, l3, dtype=torch.float64).numpy()


@cache
def recursion(degree: int) -> np.ndarray:
    """Matrix [(2l-1)·3, 2l+1] that takes S_{l-1} ⊗ v to S_l."""
    coupling = wigner_3j(degree - 1, 1, degree).reshape(-1, 2 * degree + 1)
    # The norm follows from one direction: all components at z, |S_l(z)|² = 2l+1.
    lower = np.array([1.0])
    z = np.array([0.0, 0.0, 1.0])
    for step in range(1, degree):
        lower = np.outer(lower, z).reshape(-1) @ recursion(step)
    raw = np.outer(lower, z).reshape(-1) @ coupling
    scale = math.sqrt(2 * degree + 1) / np.linalg.norm(raw)
    # e3nn's wigner_3j has a free sign; fix it so that S_l agrees with e3nn's spherical harmonics (positive along y).
    y = np.array([0.0, 1.0, 0.0])
    lower_y = np.array([1.0])
    for step in range(1, degree):
        lower_y = np.outer(lower_y, y).reshape(-1) @ recursion(step)
    sign = np.sign((np.outer(lower_y, y).reshape(-1) @ coupling)[degree])
    return coupling * scale * sign


class Program:
    """Steps "x[out] += c·x[a]·x[b]" on numbered registers, for the kernels (`native/steps.h`)."""

    def __init__(self, registers: int) -> None:
        self.registers = registers
        self._steps: list[tuple[int, int, int]] = []
        self._coefficients: list[float] = []

    def add(self, a: int, b: int, out: int, c: float) -> None:
        """One step, unless ``c`` is zero."""
        if abs(c) > 1e-12:
            self._steps.append((a, b, out))
            self._coefficients.append(float(c))

    def allocate(self, count: int) -> list[int]:
        """New registers."""
        self.registers += count
        return list(range(self.registers - count, self.registers))

    def add_harmonics(self, zeroth: int, vector: int, l_max: int) -> list[int]:
        """S_l, l = 0..l_max, of the vector in the three registers from ``vector`` on, times what is in ``zeroth``.

        Returns the registers of all components; the first is ``zeroth`` itself.
        """
        below = harmonics = [zeroth]
        for degree in range(1, l_max + 1):
            here = self.allocate(2 * degree + 1)
            for (i, a, o), c in np.ndenumerate(recursion(degree).reshape(len(below), 3, len(here))):
                self.add(below[i], vector + a, here[o], c)
            harmonics, below = harmonics + here, here
        return harmonics

    @property
    def steps(self) -> Tensor:
        """[S,3] a, b, out."""
        return torch.tensor(self._steps, dtype=torch.int64).reshape(-1, 3)

    @property
    def coefficients(self) -> dict[torch.dtype, Tensor]:
        """c [S] in each floating-point type."""
        return {kind: torch.tensor(self._coefficients, dtype=kind) for kind in (torch.float32, torch.float64)}


class SolidHarmonics(nn.Module):
    """S_l(v) = |v|^l Y_l(v/|v|) for l = 0..l_max, concatenated: [..., 3] → [..., (l_max+1)²].

    Of unit vectors this gives the spherical harmonics Y_l.
    """

    def __init__(self, l_max: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.l_max = l_max
        for degree in range(1, l_max + 1):
            matrix = torch.tensor(recursion(degree), dtype=dtype)
            self.register_buffer(f"recursion_{degree}", matrix, persistent=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """``vectors`` [M, 3] → [M, (l_max+1)²]."""
        blocks = [torch.ones_like(vectors[:, :1])]
        for degree in range(1, self.l_max + 1):
            outer = (blocks[-1].unsqueeze(-1) * vectors.unsqueeze(-2)).reshape(vectors.shape[0], -1)
            blocks.append(outer @ getattr(self, f"recursion_{degree}"))
        return torch.cat(blocks, dim=-1)


def rotation_matrices(degree: int, rotations: Tensor) -> Tensor:
    """D_l with S_l(Q·v) = D_l · S_l(v): ``rotations`` Q [B,3,3] → [B, 2l+1, 2l+1]. For improper Q too."""
    if degree == 0:
        return rotations.new_ones(len(rotations), 1, 1)
    matrix = torch.as_tensor(recursion(degree), dtype=rotations.dtype, device=rotations.device)  # [(2l-1)·3, 2l+1]
    below = rotation_matrices(degree - 1, rotations)
    size = below.shape[1] * 3
    product = torch.einsum("bij,bxy->bixjy", below, rotations).reshape(-1, size, size)
    return matrix.T @ product @ matrix / (matrix * matrix).sum(0)[0]
