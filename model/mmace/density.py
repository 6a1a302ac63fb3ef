"""The density normalisation of A: the arithmetic, native on the CPU and in plain torch elsewhere.

factor[n] = 1/(1 + Σ_e tanh(y[n,e]²) cut[n,e])
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from mmace.native import cut as part_of
from mmace.native import kernel, library, pointer, pointers, run_parts
from mmace.native.function import Tensors, apply


def density_factor(y: Tensor, cut: Tensor) -> Tensor:
    """Of an edge network's results ``y`` and the envelope ``cut``, both [N,M] → [N]. Twice differentiable."""
    if y.device.type == "cpu" and library() is not None:
        return apply(_Density(), y, cut)[0]
    return reference(y, cut)


def reference(y: Tensor, cut: Tensor) -> Tensor:
    """The same in plain torch."""
    return 1.0 / (1.0 + (torch.tanh(y * y) * cut).sum(1))


class _Density:
    """The native pass: inputs y and cut."""

    parameters: tuple[int, ...] = ()

    def forward(self, x: Tensors) -> tuple[Tensor, ...]:
        factor = self._new(x)
        self._run(x, None, None, factor, [None, None])
        return (factor,)

    def backward(self, x: Tensors, g: Tensors, wanted: Sequence[bool]) -> Tensors:
        results = self._results(x, wanted)
        self._run(x, None, g[0], None, results)
        return results

    def second(self, x: Tensors, g: Tensors, v: Tensors, wanted: Sequence[bool]) -> tuple[Tensors, Tensors]:
        factor, results = self._new(x), self._results(x, wanted)
        self._run(x, v, g[0], factor, results)
        return (factor,), results

    @staticmethod
    def _new(x: Tensors) -> Tensor:
        assert x[0] is not None
        return x[0].new_empty(len(x[0]))

    @staticmethod
    def _results(x: Tensors, wanted: Sequence[bool]) -> Tensors:
        return [
            torch.empty_like(each) if want and each is not None else None for each, want in zip(x, wanted, strict=True)
        ]

    @staticmethod
    def _run(x: Tensors, v: Tensors | None, g: Tensor | None, factor: Tensor | None, results: Tensors) -> None:
        y = x[0]
        assert y is not None
        nodes, width = y.shape
        call = kernel("density", y)

        def work(part: int, low: int, high: int) -> None:
            here = slice(low, high)

            def rows(tensors: Tensors) -> ctypes.Array[ctypes.c_void_p]:
                return pointers(*(None if each is None else part_of(each, here) for each in tensors))

            call(
                (ctypes.c_int64 * 2)(high - low, width),
                rows(x),
                None if v is None else rows(v),
                pointer(None if g is None else part_of(g, here)),
                pointer(None if factor is None else part_of(factor, here)),
                rows(results),
            )

        run_parts(work, nodes)
