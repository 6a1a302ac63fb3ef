"""Native kernels as functions that torch can differentiate twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

Tensors = Sequence[Tensor | None]


class Operation(Protocol):
    """Outputs f(x) of inputs x. Gradients g and directions v that are None are zero; results not wanted are None."""

    @property
    def parameters(self) -> tuple[int, ...]:
        """Which inputs come from weights."""

    def forward(self, x: Tensors) -> tuple[Tensor, ...]:
        """f(x)."""

    def backward(self, x: Tensors, g: Tensors, wanted: Sequence[bool]) -> Tensors:
        """b_i(x, g) = d(g·f)/dx_i."""

    def second(self, x: Tensors, g: Tensors, v: Tensors, wanted: Sequence[bool]) -> tuple[Tensors, Tensors]:
        """Derivatives of Σ v_i·b_i: by every g, and by the wanted x."""


_state = threading.local()


@contextmanager
def no_weight_gradients() -> Iterator[None]:
    """Backward passes of this thread leave weights out.

    torch tells a function of ours which inputs can have a gradient, not which one was asked for: without this, forces
    would cost the gradients of all weights too.
    """
    before = getattr(_state, "inputs_only", False)
    _state.inputs_only = True
    try:
        yield
    finally:
        _state.inputs_only = before


def apply(operation: Operation, *inputs: Tensor | None) -> tuple[Tensor, ...]:
    """``operation`` at contiguous ``inputs``, twice differentiable."""
    return _Forward.apply(operation, *_contiguous(inputs))  # type: ignore[no-any-return, no-untyped-call]


def _contiguous(tensors: Tensors) -> tuple[Tensor | None, ...]:
    return tuple(None if tensor is None else tensor.contiguous() for tensor in tensors)


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, operation: Operation, *x: Tensor | None) -> Any:
        ctx.operation = operation
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*x)
        return operation.forward(x)

    @staticmethod
    def backward(ctx: Any, *g: Tensor | None) -> Any:
        wanted = list(ctx.needs_input_grad[1:])
        if all(each is None for each in g):
            return None, *[None] * len(wanted)
        if getattr(_state, "inputs_only", False):
            for number in ctx.operation.parameters:
                wanted[number] = False
        if not torch.is_grad_enabled():
            return None, *ctx.operation.backward(ctx.saved_tensors, _contiguous(g), wanted)
        return None, *_Backward.apply(ctx.operation, wanted, len(g), *_contiguous(g), *ctx.saved_tensors)  # type: ignore[no-untyped-call]


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, operation: Operation, wanted: Sequence[bool], outputs: int, *tensors: Tensor | None) -> Any:
        ctx.operation, ctx.outputs = operation, outputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        return tuple(operation.backward(tensors[outputs:], tensors[:outputs], wanted))

    @staticmethod
    def backward(ctx: Any, *v: Tensor | None) -> Any:
        g, x = ctx.saved_tensors[: ctx.outputs], ctx.saved_tensors[ctx.outputs :]
        wanted = ctx.needs_input_grad[3:]
        if all(each is None for each in v):
            return None, None, None, *[None] * len(wanted)
        gradients = ctx.operation.second(x, g, _contiguous(v), wanted[ctx.outputs :])
        by_g = [value if want else None for value, want in zip(gradients[0], wanted, strict=False)]
        return None, None, None, *by_g, *gradients[1]
