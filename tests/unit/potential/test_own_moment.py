"""The native own-moment step against plain torch, with first and second derivatives."""

import pytest
import torch
from kernels import assert_same_derivatives, threads

import mmace.own_moment
from mmace.harmonics import wigner_3j
from mmace.native import library
from mmace.own_moment import OwnMomentPath, OwnMomentSum

needs_compiler = pytest.mark.skipif(library() is None, reason="no C++ compiler")

# R of degrees 0 and 1 meets a scalar and a vector of μ; the results are a scalar and a vector.
PATHS = [
    OwnMomentPath(0, 0, 0, wigner_3j(0, 0, 0)),
    OwnMomentPath(1, 1, 0, wigner_3j(1, 1, 0)),
    OwnMomentPath(0, 1, 1, wigner_3j(0, 1, 1)),
    OwnMomentPath(1, 0, 1, wigner_3j(1, 0, 1)),
]


def problem(nodes: int, channels: int):
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    inputs = random(nodes, 4), random(nodes, len(PATHS), channels), random(nodes, 4, channels)
    return OwnMomentSum(PATHS, 4, torch.float64), inputs


@needs_compiler
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("channels", [5, 16])
def test_native_equals_reference(channels, number):
    own, inputs = problem(21, channels)
    with threads(number):
        assert_same_derivatives([lambda: own(*inputs), lambda: own.reference(*inputs)], inputs)


@needs_compiler
def test_derivatives_of_the_native_kernel():
    own, inputs = problem(3, 3)
    assert torch.autograd.gradcheck(own, inputs)
    assert torch.autograd.gradgradcheck(own, inputs)


def test_plain_torch_is_taken_without_the_library(monkeypatch):
    monkeypatch.setattr(mmace.own_moment, "library", lambda: None)
    own, inputs = problem(3, 3)
    torch.testing.assert_close(own(*inputs), own.reference(*inputs))
