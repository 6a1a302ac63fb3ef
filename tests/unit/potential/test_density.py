"""The native density normalisation against plain torch, with first and second derivatives."""

import pytest
import torch
from kernels import assert_same_derivatives, threads

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
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("width", [3, 19])
def test_native_equals_reference(width, number):
    inputs = problem(21, width)
    with threads(number):
        assert_same_derivatives([lambda: density_factor(*inputs), lambda: reference(*inputs)], inputs)


@needs_compiler
def test_derivatives_of_the_native_kernel():
    inputs = problem(3, 5)
    assert torch.autograd.gradcheck(density_factor, inputs)
    assert torch.autograd.gradgradcheck(density_factor, inputs)


def test_plain_torch_is_taken_without_the_library(monkeypatch):
    monkeypatch.setattr(mmace.density, "library", lambda: None)
    inputs = problem(3, 5)
    torch.testing.assert_close(density_factor(*inputs), reference(*inputs))
