"""What an atom's own moment gives: solid harmonics, Chebyshev polynomials of its length, and a wall beyond m_max.

Works with |m|² only, never with the norm: all derivatives exist at m = 0. Native on the CPU, plain torch elsewhere.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmace.harmonics import Program, SolidHarmonics
from mmace.native import kernel, library, pointer, pointers
from mmace.native.function import Tensors, apply

VECTOR, HARMONICS = 1, 4  # registers of the kernel


class MomentBasis(nn.Module):
    """R_l(m/m_max), T_n/n and the wall.

    With u = (|m|/m_max)²: inside (u ≤ 1) nothing is changed. Outside, the moment is shrunk so that u is held below 1.01
    by a tanh, and the atom pays ``wall · (u − 1)³``. Both pieces join with two continuous derivatives: a moment beyond
    the range of the Chebyshev polynomials meets a rising curve and not an exploding polynomial.
    """

    WIDTH = 0.01  # T_8 grows to 2.6 there; at 0.1 it would be 72

    m_max: Tensor

    def __init__(self, m_max: Tensor, wall: float, l_mag: int, num_chebyshev: int) -> None:
        super().__init__()
        self.register_buffer("m_max", m_max)  # [number of elements], μB
        self.wall, self.num_chebyshev, self.num_harmonics = wall, num_chebyshev, (l_mag + 1) ** 2
        self.harmonics = SolidHarmonics(l_mag, m_max.dtype)
        program = Program(HARMONICS + 1)
        program.add_harmonics(HARMONICS, VECTOR, l_mag)
        self.steps, self.coefficients = program.steps, program.coefficients

    def forward(self, magmoms: Tensor, species: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``magmoms`` [N,3] μB → R [N,(l_mag+1)²] of m/m_max, T_n/n [N,num_chebyshev], wall [N] eV."""
        m_max = self.m_max.index_select(0, species)
        if magmoms.device.type == "cpu" and library() is not None:
            return apply(_Moments(self, m_max), magmoms)  # type: ignore[return-value]
        return self.reference(magmoms, m_max)

    def reference(self, magmoms: Tensor, m_max: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same in plain torch."""
        scaled = magmoms / m_max.unsqueeze(-1)
        u = (scaled * scaled).sum(-1)
        outside = u > 1.0
        safe = torch.where(outside, u, 1.0)
        excess = safe - 1.0
        held = torch.where(outside, 1.0 + self.WIDTH * torch.tanh(excess / self.WIDTH), u)
        shrink = torch.where(outside, torch.sqrt(torch.where(outside, held, 1.0) / safe), 1.0)
        solid = self.harmonics(scaled * shrink.unsqueeze(-1))
        return solid, chebyshev(held, self.num_chebyshev), self.wall * excess**3


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


class _Moments:
    """The native pass for the atoms of one graph."""

    parameters: tuple[int, ...] = ()

    def __init__(self, basis: MomentBasis, m_max: Tensor) -> None:
        self.basis, self.m_max = basis, m_max

    def forward(self, x: Tensors) -> tuple[Tensor, ...]:
        return self._run(x[0], outputs=True)[:3]  # type: ignore[return-value]

    def backward(self, x: Tensors, g: Tensors, wanted: Sequence[bool]) -> Tensors:
        return self._run(x[0], g=g)[3:]

    def second(self, x: Tensors, g: Tensors, v: Tensors, wanted: Sequence[bool]) -> tuple[Tensors, Tensors]:
        results = self._run(x[0], v[0], g, outputs=True)
        return results[:3], results[3:]

    def _run(
        self, m: Tensor | None, v: Tensor | None = None, g: Tensors = (None, None, None), outputs: bool = False
    ) -> tuple[Tensor | None, ...]:
        assert m is not None
        basis, nodes = self.basis, m.shape[0]
        shapes = (nodes, basis.num_harmonics), (nodes, basis.num_chebyshev), (nodes,)
        written = [m.new_empty(shape) if outputs else None for shape in shapes]
        gradient = torch.empty_like(m) if any(each is not None for each in g) else None
        real = ctypes.c_float if m.dtype == torch.float32 else ctypes.c_double
        coefficients = basis.coefficients[m.dtype]
        sizes = (ctypes.c_int64 * 4)(nodes, basis.num_harmonics, basis.num_chebyshev, len(coefficients))
        constants = (real * 2)(basis.WIDTH, basis.wall)
        problem = pointers(
            ctypes.addressof(sizes),
            ctypes.addressof(constants),
            basis.steps,
            coefficients,
            self.m_max,
        )
        kernel("moments", m)(problem, pointer(m), pointer(v), pointers(*g), pointers(*written), pointer(gradient))
        return *written, gradient
