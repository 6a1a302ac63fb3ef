"""The edge message summed over neighbours [15–18]: the arithmetic, native on the CPU and in plain torch elsewhere.

    A[M,n,k] = Σ_e Σ_paths Σ_s G[e,path,s,M] · P[e,p,k] · Q[e,q,k] · H[sender(e),s,k]

The sum is linear in each of G, P, Q and H; kernels exist for the sum, its first and its second derivatives.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmace.native import accumulators, cut, kernel, library, pointers, run_parts, total
from mmace.native.function import Tensors, apply


@dataclass(frozen=True)
class MessagePath:
    """Which rows meet: P's and Q's functions, the source's and the target's components, the place in G."""

    position: int
    moment: int
    source: int
    source_dim: int
    target: int
    target_dim: int
    geometry: int  # start of the [source_dim, target_dim] entries in a row of G


class MessageSum:
    """The sum for a fixed list of paths. ``target_rows``: components of A in all."""

    def __init__(self, paths: list[MessagePath], target_rows: int) -> None:
        self.paths, self.target_rows = paths, target_rows
        self.table = torch.tensor([list(path.__dict__.values()) for path in paths], dtype=torch.int64)

    def __call__(self, G: Tensor, P: Tensor, Q: Tensor | None, H: Tensor, senders: Tensor, real: Tensor) -> Tensor:
        """``G`` [E,nG], ``P`` [E,nP,K], ``Q`` [E,nQ,K] or None (ones), ``H`` [N,S,K], ``senders`` and ``real`` [N,M].

        Returns A [target_rows, N, K], twice differentiable in G, P, Q, H.
        """
        if G.device.type == "cpu" and library() is not None:
            return apply(_Sum(self, senders.contiguous(), real.contiguous()), G, P, Q, H)[0]
        return self.reference(G, P, Q, H, senders)

    def reference(self, G: Tensor, P: Tensor, Q: Tensor | None, H: Tensor, senders: Tensor) -> Tensor:
        """The same in plain torch: per block a batched matrix product over neighbours, paths and components.

        Padding adds nothing because G carries the envelope, which is zero there.
        """
        nodes, width = senders.shape
        channels = P.shape[2]
        sent = H.index_select(0, senders.reshape(-1))
        position, moment = P.unbind(1), Q.unbind(1) if Q is not None else None
        blocks: dict[int, list[MessagePath]] = {}
        for path in self.paths:
            blocks.setdefault(path.target, []).append(path)
        out = []
        for target in sorted(blocks):
            geometry, weighted = [], []
            for path in blocks[target]:
                weight = position[path.position] * moment[path.moment] if moment else position[path.position]
                rows = sent[:, path.source : path.source + path.source_dim]
                weighted.append(weight.unsqueeze(1) * rows)
                entries = G[:, path.geometry : path.geometry + path.source_dim * path.target_dim]
                geometry.append(entries.reshape(-1, path.source_dim, path.target_dim))
            left = torch.cat(geometry, dim=1)
            left = left.reshape(nodes, width * left.shape[1], left.shape[2]).transpose(1, 2)
            right = torch.cat(weighted, dim=1)
            out.append(torch.bmm(left, right.reshape(nodes, width * right.shape[1], channels)))
        return torch.cat(out, dim=1).transpose(0, 1)


NOTHING = (None, None, None, None)


class _Sum:
    """The native pass for one graph: inputs G, P, Q, H."""

    parameters: tuple[int, ...] = ()

    def __init__(self, owner: MessageSum, senders: Tensor, real: Tensor) -> None:
        self.owner, self.senders, self.real = owner, senders, real

    def forward(self, x: Tensors) -> tuple[Tensor, ...]:
        A = self._sums(x)
        self._run(0, x, NOTHING, None, A, NOTHING)
        return (A,)

    def backward(self, x: Tensors, g: Tensors, wanted: Sequence[bool]) -> Tensors:
        results = self._results(x, wanted)
        self._run(1, x, NOTHING, g[0], None, results)
        return [*results[:3], total(results[3])]

    def second(self, x: Tensors, g: Tensors, v: Tensors, wanted: Sequence[bool]) -> tuple[Tensors, Tensors]:
        A, results = self._sums(x), self._results(x, wanted)
        self._run(2, x, v, g[0], A, results)
        return (A,), [*results[:3], total(results[3])]

    def _sums(self, x: Tensors) -> Tensor:
        P = x[1]
        assert P is not None
        return P.new_empty(self.owner.target_rows, self.senders.shape[0], P.shape[2])

    def _results(self, x: Tensors, wanted: Sequence[bool]) -> list[Any]:
        """Per edge as empty tensors, for H as one accumulator per thread."""
        edges = [
            torch.empty_like(each) if want and each is not None else None
            for each, want in zip(x[:3], wanted[:3], strict=True)
        ]
        H = x[3]
        assert H is not None
        return [*edges, accumulators(H, self.senders.shape[0]) if wanted[3] else None]

    def _run(
        self, mode: int, x: Tensors, v: Tensors, D: Tensor | None, A: Tensor | None, results: Sequence[Any]
    ) -> None:
        G, P, Q, H = x
        assert G is not None and P is not None and H is not None
        owner = self.owner
        nodes, width = self.senders.shape
        call = kernel("message", P)

        def work(part: int, low: int, high: int) -> None:
            sizes = (ctypes.c_int64 * 10)(
                high - low,
                width,
                P.shape[2],
                P.shape[1],
                Q.shape[1] if Q is not None else 0,
                G.shape[1],
                H.shape[1],
                owner.target_rows,
                len(owner.paths),
                nodes,
            )
            edges = slice(low * width, high * width)

            def per_edge(tensors: Sequence[Any]) -> list[Tensor | None]:
                return [None if each is None else cut(each, edges) for each in tensors[:3]]

            problem = pointers(
                ctypes.addressof(sizes),
                owner.table,
                self.senders[low:high],
                self.real[low:high],
                *per_edge(x),
                H,
                *per_edge(v),
                v[3],
                None if D is None else D[:, low:],
                None if A is None else A[:, low:],
                *per_edge(results),
                None if results[3] is None else results[3][part],
            )
            call(ctypes.c_int64(mode), problem)

        run_parts(work, nodes)
