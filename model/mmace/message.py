"""The edge message summed over neighbours [15–18]: the arithmetic, native on the CPU and in plain torch elsewhere.

    A[n,M,k] = Σ_e Σ_paths Σ_s G[e,path,s,M] · P[e,p,k] · Q[e,q,k] · H[sender(e),s,k]

The sum is linear in each of G, P, Q and H; kernels exist for the sum, its first and its second derivatives.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmace.native import accumulators, kernel, library, pointer, run_parts, total


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

        Returns A [N, target_rows, K], twice differentiable in G, P, Q, H.
        """
        if G.device.type == "cpu" and library() is not None:
            return _Sum.apply(self, senders.contiguous(), real.contiguous(), G, P, Q, H)  # type: ignore[no-untyped-call]
        return self.reference(G, P, Q, H, senders)

    def reference(self, G: Tensor, P: Tensor, Q: Tensor | None, H: Tensor, senders: Tensor) -> Tensor:
        """The same in plain torch: per block a batched matrix product over neighbours, paths and components.

        Padding adds nothing because P carries the envelope, which is zero there.
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
        return torch.cat(out, dim=1)

    def _run(
        self, name: str, inputs: tuple[Tensor, Tensor, Tensor | None, Tensor], graph: tuple[Tensor, Tensor], rest: Any
    ) -> None:
        """One kernel, nodes split among threads. ``rest(part, low, high)`` gives the further pointers."""
        G, P, Q, H = inputs
        senders, real = graph
        nodes, width = senders.shape
        call = kernel(f"message_{name}", P)

        def work(part: int, low: int, high: int) -> None:
            sizes = (ctypes.c_int64 * 9)(
                high - low,
                width,
                P.shape[2],
                P.shape[1],
                Q.shape[1] if Q is not None else 0,
                G.shape[1],
                H.shape[1],
                self.target_rows,
                len(self.paths),
            )
            edges = slice(low * width, high * width)
            call(
                sizes,
                pointer(self.table),
                pointer(senders[low:high]),
                pointer(real[low:high]),
                pointer(G[edges]),
                pointer(P[edges]),
                pointer(Q[edges] if Q is not None else None),
                pointer(H),
                *[pointer(x) for x in rest(part, slice(low, high), edges)],
            )

        run_parts(work, nodes)

    def forward_kernel(self, inputs: Any, graph: Any) -> Tensor:
        """A, without a graph."""
        P = inputs[1]
        A = P.new_empty(graph[0].shape[0], self.target_rows, P.shape[2])
        self._run("forward", inputs, graph, lambda part, nodes, edges: [A[nodes]])
        return A

    def backward_kernel(self, inputs: Any, graph: Any, D: Tensor, wanted: list[bool]) -> list[Tensor | None]:
        """Derivatives of Σ D·A by G, P, Q, H; None where not wanted."""
        dG, dP, dQ = (
            torch.empty_like(x) if want and x is not None else None
            for x, want in zip(inputs[:3], wanted[:3], strict=True)
        )
        dH = accumulators(inputs[3], graph[0].shape[0]) if wanted[3] else None

        def rest(part: int, nodes: slice, edges: slice) -> list[Tensor | None]:
            pieces = [x[edges] if x is not None else None for x in (dG, dP, dQ)]
            return [D[nodes], *pieces, dH[part] if dH else None]

        self._run("backward", inputs, graph, rest)
        return [dG, dP, dQ, total(dH)]

    def double_backward_kernel(
        self, inputs: Any, graph: Any, D: Tensor, directions: Any, wanted: list[bool]
    ) -> list[Tensor | None]:
        """Derivatives by D, G, P, Q, H of the first derivatives' product with ``directions`` (None: zero)."""
        eD = torch.empty_like(D)
        eG, eP, eQ = (
            torch.empty_like(x) if want and x is not None else None
            for x, want in zip(inputs[:3], wanted[:3], strict=True)
        )
        eH = accumulators(inputs[3], graph[0].shape[0]) if wanted[3] else None

        def rest(part: int, nodes: slice, edges: slice) -> list[Tensor | None]:
            along = [x[edges] if x is not None else None for x in directions[:3]]
            pieces = [x[edges] if x is not None else None for x in (eG, eP, eQ)]
            return [D[nodes], *along, directions[3], eD[nodes], *pieces, eH[part] if eH else None]

        self._run("double_backward", inputs, graph, rest)
        return [eD, eG, eP, eQ, total(eH)]


def _contiguous(tensors: Any) -> tuple[Any, ...]:
    return tuple(None if tensor is None else tensor.contiguous() for tensor in tensors)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, owner: MessageSum, senders: Tensor, real: Tensor, *inputs: Tensor | None) -> Tensor:
        inputs = _contiguous(inputs)
        ctx.owner = owner
        ctx.save_for_backward(senders, real, *inputs)
        return owner.forward_kernel(inputs, (senders, real))

    @staticmethod
    def backward(ctx: Any, D: Tensor) -> Any:
        senders, real, *inputs = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[3:])
        gradients = _SumBackward.apply(ctx.owner, wanted, senders, real, D, *inputs)  # type: ignore[no-untyped-call]
        return None, None, None, *gradients


class _SumBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, owner: MessageSum, wanted: list[bool], senders: Tensor, real: Tensor, D: Tensor, *inputs: Tensor
    ) -> Any:
        D = D.contiguous()
        ctx.owner = owner
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(senders, real, D, *inputs)
        return tuple(owner.backward_kernel(inputs, (senders, real), D, wanted))

    @staticmethod
    def backward(ctx: Any, *directions: Tensor | None) -> Any:
        senders, real, D, *inputs = ctx.saved_tensors
        gradients = ctx.owner.double_backward_kernel(
            tuple(inputs), (senders, real), D, _contiguous(directions), list(ctx.needs_input_grad[5:])
        )
        return None, None, None, None, *gradients
