"""Sparse polynomials of node features: the arithmetic of the many-body product [19, 20].

    out[n,o,k] = Σ_t c[z_n,t,k] · a[i_t,n,k] · a[j_t,n,k] · a[l_t,n,k]

Each channel is a polynomial of degree three at most in the components of A. Weights and Clebsch–Gordan coefficients are
joined into c first: that leaves one product per monomial and channel, where coupling before weighting costs one per
monomial, coupling and channel.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn

from mmace.native import accumulators, kernel, library, pointers, run_parts, total
from mmace.native.function import Tensors, apply

Term = tuple[int, int, int]


class SparsePolynomial(nn.Module):
    """Polynomials given by their monomials: ``terms[o]`` lists component indices, −1 for one, each list sorted.

    Sorted means that terms with the same first, and then the same second index stand together.
    """

    offsets: Tensor  # [O+1]
    index: Tensor  # [T,3]

    def __init__(self, terms: list[list[Term]]) -> None:
        super().__init__()
        offsets = np.cumsum([0] + [len(part) for part in terms])
        index = np.array([term for part in terms for term in part], dtype=np.int64).reshape(-1, 3)
        self.register_buffer("offsets", torch.from_numpy(offsets.astype(np.int64)), persistent=False)
        self.register_buffer("index", torch.from_numpy(index), persistent=False)
        self.sizes = [len(part) for part in terms]
        self.nested = _nested(terms)

    def forward(self, a: Tensor, c: Tensor, species: Tensor) -> Tensor:
        """``a`` [C,N,K], ``c`` [Z,T,K], ``species`` [N] → [N,O,K]. Twice differentiable in a and c."""
        if a.device.type == "cpu" and library() is not None:
            return apply(_Polynomial(self, species), a, c)[0]
        return self.reference(a, c, species)

    def reference(self, a: Tensor, c: Tensor, species: Tensor) -> Tensor:
        """The same in plain torch operations, for any device."""
        components, nodes, channels = a.shape
        extended = torch.cat([a, a.new_ones(1, nodes, channels)]).transpose(0, 1)
        index = torch.where(self.index < 0, components, self.index)
        product = extended.index_select(1, index[:, 0])
        product = product * extended.index_select(1, index[:, 1]) * extended.index_select(1, index[:, 2])
        product = product * (c if c.shape[0] == 1 else c.index_select(0, species))
        parts = product.split(self.sizes, dim=1)
        return torch.stack([part.sum(1) for part in parts], dim=1)


def _nested(terms: list[list[Term]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The kernel's loops: outputs [O+1], outer groups [·,4], inner groups [·,4], last components."""
    outputs = [0]
    outer: list[tuple[int, int, int, int]] = []
    inner: list[tuple[int, int, int, int]] = []
    last: list[int] = []
    for part in terms:
        if part != sorted(part):
            raise ValueError("terms of a polynomial must be sorted")
        for i, same_first in groupby(part, key=lambda term: term[0]):
            own, begin = 0, len(inner)
            for j, same_second in groupby(same_first, key=lambda term: term[1]):
                thirds = [term[2] for term in same_second]
                if j < 0:
                    own = 1
                    continue
                start = len(last)
                last += [third for third in thirds if third >= 0]
                inner.append((j, int(thirds[0] < 0), start, len(last)))
            outer.append((i, own, begin, len(inner)))
        outputs.append(len(outer))
    return (
        torch.tensor(outputs),
        torch.tensor(outer, dtype=torch.int64).reshape(-1, 4),
        torch.tensor(inner, dtype=torch.int64).reshape(-1, 4),
        torch.tensor(last, dtype=torch.int64),
    )


class _Polynomial:
    """The native pass for the atoms of one graph: inputs a and c."""

    parameters: tuple[int, ...] = (1,)

    def __init__(self, polynomial: SparsePolynomial, species: Tensor) -> None:
        self.polynomial, self.species = polynomial, species
        self.outputs = polynomial.offsets.shape[0] - 1

    def forward(self, x: Tensors) -> tuple[Tensor, ...]:
        out = self._new_output(x)
        self._run(0, x, [None] * 3, out, None, None)
        return (out,)

    def backward(self, x: Tensors, g: Tensors, wanted: Sequence[bool]) -> Tensors:
        da, dc = self._new_gradients(x, wanted)
        self._run(1, x, [g[0], None, None], None, da, dc)
        return da, total(dc)

    def second(self, x: Tensors, g: Tensors, v: Tensors, wanted: Sequence[bool]) -> tuple[Tensors, Tensors]:
        out, (da, dc) = self._new_output(x), self._new_gradients(x, wanted)
        self._run(2, x, [g[0], *v], out, da, dc)
        return (out,), (da, total(dc))

    def _new_output(self, x: Tensors) -> Tensor:
        a = x[0]
        assert a is not None
        return a.new_empty(a.shape[1], self.outputs, a.shape[2])

    def _new_gradients(self, x: Tensors, wanted: Sequence[bool]) -> tuple[Tensor, list[Tensor] | None]:
        a, c = x
        assert a is not None and c is not None
        return torch.empty_like(a), accumulators(c, a.shape[1]) if wanted[1] else None

    def _run(
        self, mode: int, x: Tensors, given: Tensors, out: Tensor | None, da: Tensor | None, dc: list[Tensor] | None
    ) -> None:
        a, c = x
        g, va, vc = given
        assert a is not None
        call = kernel("polynomial", a)
        components, nodes, channels = a.shape

        def work(part: int, low: int, high: int) -> None:
            sizes = (ctypes.c_int64 * 6)(
                high - low, components, channels, self.outputs, self.polynomial.index.shape[0], nodes
            )
            # a and its like begin at this part's first node, in each component; the rest has nodes first
            problem = pointers(ctypes.addressof(sizes), *self.polynomial.nested, self.species[low:], a[:, low:], c)
            derivatives = pointers(
                None if g is None else g[low:],
                None if va is None else va[:, low:],
                vc,
                None if out is None else out[low:],
                None if da is None else da[:, low:],
                None if dc is None else dc[part],
            )
            call(ctypes.c_int64(mode), problem, derivatives)

        run_parts(work, nodes)
