"""The message of the first layer, summed over neighbours by element and then weighed [17].

    A[M,n,:] = Σ_paths Σ_Z Σ_{e: neighbour of element Z} G[e,path,m] z[e,:] · W[Z,path]

W[Z,path] = W[path] diag(h_Z) mix joins what does not depend on the atom: the path's weights, the element's features and
the channel mix of A. Native on the CPU, plain torch elsewhere.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmace.graph import ElementSlots
from mmace.kept import Kept
from mmace.native import accumulators, cut, kernel, library, pointer, pointers, run_parts, total
from mmace.native.function import Tensors, apply


class ElementSum(nn.Module):
    """The sum for a list of paths: ``blocks`` [paths] which block of A, ``dims`` [blocks] their numbers of components.

    Columns of G are all components of all paths, in the order of the list, which is by block.
    """

    path_of_column: Tensor
    row_of_column: Tensor
    block_of_row: Tensor

    def __init__(self, blocks: Sequence[int], dims: Sequence[int]) -> None:
        super().__init__()
        self.blocks = list(blocks)
        starts = [sum(dims[:block]) for block in range(len(dims))]
        path_of_column: list[int] = []
        row_of_column: list[int] = []
        paths = []
        for number, block in enumerate(blocks):
            paths.append([len(path_of_column), dims[block], starts[block]])
            path_of_column += [number] * dims[block]
            row_of_column += range(starts[block], starts[block] + dims[block])
        self.table = torch.tensor(paths, dtype=torch.int64)
        self.rows = sum(dims)
        self.register_buffer("path_of_column", torch.tensor(path_of_column), persistent=False)
        self.register_buffer("row_of_column", torch.tensor(row_of_column), persistent=False)
        block_of_row = [block for block, dim in enumerate(dims) for _ in range(dim)]
        self.register_buffer("block_of_row", torch.tensor(block_of_row), persistent=False)
        self._kept = Kept()

    def forward(self, G: Tensor, z: Tensor, weights: Tensor, h: Tensor, mix: Tensor, slots: ElementSlots) -> Tensor:
        """``G`` [E, columns], ``z`` [E,H], ``weights`` [paths,H,K], ``h`` [elements,K], ``mix`` [blocks,K,K].

        Returns A [rows, N, K], twice differentiable.
        """
        if G.device.type != "cpu" or library() is None:
            return self.reference(G, z, weights, h, mix, slots)

        def join() -> Tensor:
            return (weights * h.index_select(0, slots.kinds)[:, None, None, :]) @ mix[self.blocks]

        W = self._kept([weights, h, mix], tuple(slots.kinds.tolist()), join)
        return apply(_ElementSum(self, slots), G, z, W)[0]

    def reference(self, G: Tensor, z: Tensor, weights: Tensor, h: Tensor, mix: Tensor, slots: ElementSlots) -> Tensor:
        """The same in plain torch, where the elements' features and the mix come after the weights."""
        sums = self.sums(G, z, slots)
        nodes, count = slots.element.shape
        by_column = sums.flatten(0, 1).transpose(0, 1)
        weighed = torch.bmm(by_column, weights.index_select(0, self.path_of_column))
        A = weighed.new_zeros(self.rows, *weighed.shape[1:]).index_add(0, self.row_of_column, weighed)
        A = (A.unflatten(1, (nodes, count)) * self.sent(h, slots)).sum(2)
        return torch.bmm(A, mix.index_select(0, self.block_of_row))

    @staticmethod
    def sums(G: Tensor, z: Tensor, slots: ElementSlots) -> Tensor:
        """Σ over the neighbours of each slot of G ⊗ z: [N, slots, columns, H]."""
        nodes, width = slots.slot.shape
        count, columns = slots.element.shape[1], G.shape[1]
        if count > 1:
            member = slots.slot.unsqueeze(2) == torch.arange(count, device=G.device)
            G = member.flatten(0, 1).to(G.dtype).unsqueeze(2) * G.unsqueeze(1)
        sums = torch.bmm(G.reshape(nodes, width, count * columns).transpose(1, 2), z.reshape(nodes, width, -1))
        return sums.reshape(nodes, count, columns, -1)

    @staticmethod
    def sent(h: Tensor, slots: ElementSlots) -> Tensor:
        """Features of each slot's element [N, slots, K]; anything where there is none: nothing is summed there."""
        return h[slots.kinds[slots.element]]


class _ElementSum:
    """The native pass for one graph: inputs G, z and W [Z,paths,H,K]."""

    parameters: tuple[int, ...] = (2,)

    def __init__(self, owner: ElementSum, slots: ElementSlots) -> None:
        self.owner, self.slot, self.element = owner, slots.slot.contiguous(), slots.element.contiguous()

    def forward(self, x: Tensors) -> tuple[Tensor, ...]:
        A = self._new(x)
        self._run(x, None, None, A, None)
        return (A,)

    def backward(self, x: Tensors, g: Tensors, wanted: Sequence[bool]) -> Tensors:
        results = self._results(x, wanted)
        self._run(x, None, g[0], None, results)
        return [*results[:2], total(results[2])]

    def second(self, x: Tensors, g: Tensors, v: Tensors, wanted: Sequence[bool]) -> tuple[Tensors, Tensors]:
        A, results = self._new(x), self._results(x, wanted)
        self._run(x, v, g[0], A, results)
        return (A,), [*results[:2], total(results[2])]

    def _new(self, x: Tensors) -> Tensor:
        W = x[2]
        assert W is not None
        return W.new_empty(self.owner.rows, len(self.slot), W.shape[3])

    def _results(self, x: Tensors, wanted: Sequence[bool]) -> list:
        """Per edge as empty tensors, for W as one accumulator per thread."""
        G, z, W = x
        assert G is not None and z is not None and W is not None
        return [
            torch.empty_like(G) if wanted[0] else None,
            torch.empty_like(z) if wanted[1] else None,
            accumulators(W, len(self.slot)) if wanted[2] else None,
        ]

    def _run(self, x: Tensors, v: Tensors | None, g: Tensor | None, A: Tensor | None, results: list | None) -> None:
        G, z, W = x
        assert G is not None and z is not None and W is not None
        nodes, width = self.slot.shape
        table, call = self.owner.table, kernel("element_sum", G)

        def work(part: int, low: int, high: int) -> None:
            here, edges = slice(low, high), slice(low * width, high * width)
            sizes = (ctypes.c_int64 * 10)(
                high - low,
                width,
                G.shape[1],
                z.shape[1],
                W.shape[3],
                len(table),
                self.element.shape[1],
                W.shape[0],
                self.owner.rows,
                nodes,
            )

            def tensors(x: Tensors) -> ctypes.Array[ctypes.c_void_p]:
                return pointers(*(None if each is None else cut(each, edges) for each in x[:2]), x[2])

            gradients = None
            if results is not None:
                gradients = tensors([*results[:2], None if results[2] is None else results[2][part]])
            call(
                pointers(ctypes.addressof(sizes), table, cut(self.slot, here), cut(self.element, here)),
                tensors(x),
                None if v is None else tensors(v),
                pointer(None if g is None else g[:, low:]),
                pointer(None if A is None else A[:, low:]),
                gradients,
            )

        run_parts(work, nodes)
