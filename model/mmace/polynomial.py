"""Sparse polynomials of node features: the arithmetic of the many-body product [19, 20].

    out[n,o,k] = Σ_t c[z_n,t,k] · a[n,i_t,k] · a[n,j_t,k] · a[n,l_t,k]

Each channel is a polynomial of degree three at most in the components of A. Weights and Clebsch–Gordan coefficients are
joined into c first: that leaves one product per monomial and channel, where coupling before weighting costs one per
monomial, coupling and channel.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmace.native import accumulators, kernel, library, pointer, run_parts, total


class SparsePolynomial(nn.Module):
    """Polynomials given by their monomials. ``terms[o]`` [T_o, 3]: component indices, −1 for one; increasing orders."""

    offsets: Tensor  # [O+1]
    index: Tensor  # [T,3]

    def __init__(self, terms: list[np.ndarray]) -> None:
        super().__init__()
        offsets = np.cumsum([0] + [len(part) for part in terms])
        index = np.concatenate([part.reshape(-1, 3) for part in terms]).astype(np.int64)
        self.register_buffer("offsets", torch.from_numpy(offsets.astype(np.int64)), persistent=False)
        self.register_buffer("index", torch.from_numpy(index), persistent=False)

    def forward(self, a: Tensor, c: Tensor, species: Tensor) -> Tensor:
        """``a`` [N,C,K], ``c`` [Z,T,K], ``species`` [N] → [N,O,K]. Twice differentiable in a and c."""
        if a.device.type == "cpu" and library() is not None:
            return _Forward.apply(a.contiguous(), c.contiguous(), species, self.offsets, self.index)  # type: ignore[no-untyped-call]
        return self.reference(a, c, species)

    def reference(self, a: Tensor, c: Tensor, species: Tensor) -> Tensor:
        """The same in plain torch operations, for any device."""
        nodes, components, channels = a.shape
        extended = torch.cat([a, a.new_ones(nodes, 1, channels)], dim=1)
        index = torch.where(self.index < 0, components, self.index)
        product = extended.index_select(1, index[:, 0])
        product = product * extended.index_select(1, index[:, 1]) * extended.index_select(1, index[:, 2])
        product = product * (c if c.shape[0] == 1 else c.index_select(0, species))
        parts = product.split((self.offsets[1:] - self.offsets[:-1]).tolist(), dim=1)
        return torch.stack([part.sum(1) for part in parts], dim=1)


class _Kernel:
    """Calls of one problem's kernels, nodes split among threads."""

    def __init__(self, a: Tensor, c: Tensor, species: Tensor, offsets: Tensor, index: Tensor) -> None:
        self.a, self.c, self.species, self.offsets, self.index = a, c, species, offsets, index

    def sums(self, wanted: bool) -> list[Tensor] | None:
        """One accumulator like c per thread."""
        return accumulators(self.c, self.a.shape[0]) if wanted else None

    def run(self, name: str, *arguments: tuple[str, Any]) -> None:
        """``arguments``: ("node", [N,…] tensor), ("shared", tensor) or ("sum", from `sums`); any of them None."""
        call = kernel(f"polynomial_{name}", self.a)
        nodes, components, channels = self.a.shape

        def work(part: int, low: int, high: int) -> None:
            sizes = (ctypes.c_int64 * 5)(
                high - low, components, channels, self.offsets.shape[0] - 1, self.index.shape[0]
            )
            pick = {"node": lambda x: x[low:high], "shared": lambda x: x, "sum": lambda x: x[part]}
            call(
                sizes,
                pointer(self.offsets),
                pointer(self.index),
                pointer(self.species[low:high]),
                pointer(self.a[low:high]),
                pointer(self.c),
                *[pointer(None if value is None else pick[kind](value)) for kind, value in arguments],
            )

        run_parts(work, nodes)


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, c: Tensor, species: Tensor, offsets: Tensor, index: Tensor) -> Tensor:
        out = a.new_empty(a.shape[0], offsets.shape[0] - 1, a.shape[2])
        _Kernel(a, c, species, offsets, index).run("forward", ("node", out))
        ctx.save_for_backward(a, c, species, offsets, index)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        a, c, species, offsets, index = ctx.saved_tensors
        da, dc = _Backward.apply(g.contiguous(), a, c, species, offsets, index, ctx.needs_input_grad[1])
        return da, dc, None, None, None


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, g: Tensor, a: Tensor, c: Tensor, species: Tensor, offsets: Tensor, index: Tensor, with_c: bool
    ) -> Any:
        problem = _Kernel(a, c, species, offsets, index)
        da, sums = torch.empty_like(a), problem.sums(with_c)
        problem.run("backward", ("node", g), ("node", da), ("sum", sums))
        ctx.save_for_backward(g, a, c, species, offsets, index)
        ctx.set_materialize_grads(False)
        return da, total(sums)

    @staticmethod
    def backward(ctx: Any, va: Tensor | None, vc: Tensor | None) -> Any:
        g, a, c, species, offsets, index = ctx.saved_tensors
        problem = _Kernel(a, c, species, offsets, index)
        va = torch.zeros_like(a) if va is None else va.contiguous()
        vc = None if vc is None else vc.contiguous()
        dg, da, sums = torch.empty_like(g), torch.empty_like(a), problem.sums(ctx.needs_input_grad[2])
        problem.run(
            "double_backward",
            ("node", g),
            ("node", va),
            ("shared", vc),
            ("node", dg),
            ("node", da),
            ("sum", sums),
        )
        return dg, da, total(sums), None, None, None, None
