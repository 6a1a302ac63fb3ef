"""The native density normalisation against plain torch, with first and second derivatives."""

import pytest
import torch

import mmace.density
from mmace.density import density_factor, reference
from mmace.native import library

needs_compiler = pytest.mark.skipif(library() is None, reason="no C++ compiler")


def problem(nodes: int, width: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(nodes, width, generator=generator, dtype=torch.float64)
    cut = torch.rand(nodes, width, generator=generator, dtype=torch.float64)
    cut[0, -2:] = 0.0  # padding
    return [y.requires_grad_(), cut.requires_grad_()]


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("width", [3, 19])
def test_native_equals_reference(width, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        inputs = problem(21, width)
        results = []
        for function in (density_factor, reference):
            factor = function(*inputs)
            first = torch.autograd.grad((factor**2).sum(), inputs, create_graph=True)
            results.append([factor, *first, *torch.autograd.grad(sum((x**2).sum() for x in first), inputs)])
        for native, plain in zip(*results, strict=True):
            torch.testing.assert_close(native, plain)
    finally:
        torch.set_num_threads(before)


@needs_compiler
def test_derivatives_of_the_native_kernel():
    inputs = problem(3, 5)
    assert torch.autograd.gradcheck(density_factor, inputs)
    assert torch.autograd.gradgradcheck(density_factor, inputs)


def test_plain_torch_is_taken_without_the_library(monkeypatch):
    monkeypatch.setattr(mmace.density, "library", lambda: None)
    inputs = problem(3, 5)
    torch.testing.assert_close(density_factor(*inputs), reference(*inputs))
