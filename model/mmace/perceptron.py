"""Perceptrons without biases: the arithmetic, native on the CPU and in plain torch elsewhere.

    x_1 = (x W_0 + share[places])/√inputs,    x_{l+1} = GAIN silu(x_l) W_l/√inputs of W_l

Weights of unit variance then keep the variance of what goes through.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmace.native import accumulators, cut, kernel, library, pointer, pointers, run_parts, total
from mmace.native.function import Tensors, apply

GAIN = 1.6765  # makes SiLU keep a unit second moment for normal inputs
ROWS_PER_UNIT = 64  # of the work that threads share out: eight units at least for each


def perceptron(
    x: Tensor,
    weights: Sequence[Tensor],
    share: Tensor | None = None,
    places: Tensor | None = None,
    inputs: int | None = None,
    activated: bool = False,
) -> Tensor:
    """``x`` [M, widths 0] through ``weights`` [widths l, widths l+1] → [M, widths −1], twice differentiable.

    ``share`` [R, widths 1] is what many rows have in common, added by ``places`` [M] to the first layer's product.
    ``inputs``: number of the first layer in all, where ``share`` stands for some. ``activated``: GAIN silu comes last.
    """
    scales = [1.0 / math.sqrt(inputs or x.shape[1])]
    scales += [GAIN / math.sqrt(weight.shape[0]) for weight in weights[1:]]
    if x.device.type == "cpu" and library() is not None:
        kept = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, share, *weights))
        operation = _Perceptron([*scales, GAIN if activated else 1.0], places, activated, kept)
        return apply(operation, x, share, *weights)[0]
    return reference(x, weights, scales, share, places, activated)


def reference(
    x: Tensor,
    weights: Sequence[Tensor],
    scales: Sequence[float],
    share: Tensor | None,
    places: Tensor | None,
    activated: bool,
) -> Tensor:
    """The same in plain torch."""
    x = x @ (weights[0] * scales[0])
    if share is not None and places is not None:
        x = x + (share * scales[0]).index_select(0, places)
    for weight, scale in zip(weights[1:], scales[1:], strict=True):
        x = nn.functional.silu(x) @ (weight * scale)
    return GAIN * nn.functional.silu(x) if activated else x


class _Perceptron:
    """The native pass: inputs x, share and the weights."""

    def __init__(self, scales: list[float], places: Tensor | None, activated: bool, kept: bool) -> None:
        self.scales, self.places, self.activated = scales, places, activated
        self.parameters = tuple(range(2, 1 + len(scales)))
        self.kept: list[Tensor | None] | None = [] if kept else None

    def forward(self, x: Tensors) -> tuple[Tensor, ...]:
        rows, widths = self._shape(x)
        new = self._first(x).new_empty
        if self.kept is not None:
            self.kept = [new(rows, width) for width in widths[1:-1]]
            self.kept.append(new(rows, widths[-1]) if self.activated else None)
        y = new(rows, widths[-1])
        self._run(x, None, None, y, None)
        return (y,)

    def backward(self, x: Tensors, g: Tensors, wanted: Sequence[bool]) -> Tensors:
        results = self._results(x, wanted)
        self._run(x, None, g[0], None, results)
        return [results[0], *(total(each) for each in results[1:])]

    def second(self, x: Tensors, g: Tensors, v: Tensors, wanted: Sequence[bool]) -> tuple[Tensors, Tensors]:
        results = self._results(x, wanted)
        rows, widths = self._shape(x)
        y = self._first(x).new_empty(rows, widths[-1])
        self._run(x, v, g[0], y, results)
        return (y,), [results[0], *(total(each) for each in results[1:])]

    @staticmethod
    def _first(x: Tensors) -> Tensor:
        assert x[0] is not None
        return x[0]

    def _shape(self, x: Tensors) -> tuple[int, list[int]]:
        """Number of rows, and of numbers before and after each layer."""
        rows, inputs = self._first(x).shape
        return rows, [inputs, *(weight.shape[1] for weight in x[2:] if weight is not None)]

    def _results(self, x: Tensors, wanted: Sequence[bool]) -> list:
        """For x an empty tensor, for what all rows add to one accumulator per thread."""
        units = self._units(self._first(x).shape[0])
        return [torch.empty_like(self._first(x)) if wanted[0] else None] + [
            accumulators(each, units) if want and each is not None else None
            for each, want in zip(x[1:], wanted[1:], strict=True)
        ]

    @staticmethod
    def _units(rows: int) -> int:
        return -(-rows // ROWS_PER_UNIT)

    def _run(self, x: Tensors, v: Tensors | None, g: Tensor | None, y: Tensor | None, results: list | None) -> None:
        first = self._first(x)
        rows, shape = self._shape(x)
        layers = len(shape) - 1
        call = kernel("perceptron", first)
        widths = (ctypes.c_int64 * len(shape))(*shape)
        scales = ((ctypes.c_float if first.dtype == torch.float32 else ctypes.c_double) * len(shape))(*self.scales)
        places = None if x[1] is None else self.places

        def work(part: int, low: int, high: int) -> None:
            here = slice(low * ROWS_PER_UNIT, min(high * ROWS_PER_UNIT, rows))
            sizes = (ctypes.c_int64 * 3)(here.stop - here.start, layers, self.activated)
            keep: list[object] = []

            def tensors(of_rows: Tensor | None, others: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
                matrices = pointers(*others[1:])
                keep.append(matrices)
                return pointers(None if of_rows is None else cut(of_rows, here), others[0], ctypes.addressof(matrices))

            kept = None
            if self.kept is not None:
                kept = pointers(*(None if each is None else cut(each, here) for each in self.kept))
            problem = pointers(
                ctypes.addressof(sizes),
                ctypes.addressof(widths),
                None if places is None else cut(places, here),
                ctypes.addressof(scales),
                None if kept is None else ctypes.addressof(kept),
            )
            gradients = None
            if results is not None:
                gradients = tensors(results[0], [None if each is None else each[part] for each in results[1:]])
            call(
                problem,
                tensors(x[0], x[1:]),
                None if v is None else tensors(v[0], v[1:]),
                pointer(None if g is None else cut(g, here)),
                pointer(None if y is None else cut(y, here)),
                gradients,
            )

        run_parts(work, self._units(rows))
