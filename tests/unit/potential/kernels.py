"""What the tests of every native kernel share: it must give what plain torch gives, and so must its derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def threads(number: int) -> Iterator[None]:
    """torch with ``number`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def assert_same_derivatives(
    functions: Sequence[Callable[[], Tensor]], inputs: Sequence[Tensor], real: Tensor | None = None
) -> None:
    """Values, gradients and gradients of gradients of both ``functions`` of ``inputs`` agree.

    ``real`` marks the rows that are no padding: what padding receives does not matter, for its inputs are constants.
    """

    def kept(tensors: Sequence[Tensor]) -> list[Tensor]:
        return [x if real is None or x.shape[0] != real.shape[0] else x[real] for x in tensors]

    results = []
    for function in functions:
        value = function()
        first = kept(torch.autograd.grad((value**2).sum(), inputs, create_graph=True))
        second = torch.autograd.grad(sum((x**2).sum() for x in first), inputs)
        results.append([value, *first, *kept(second)])
    for native, plain in zip(*results, strict=True):
        torch.testing.assert_close(native, plain)
