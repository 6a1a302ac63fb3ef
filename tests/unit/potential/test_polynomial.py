"""The native kernels against plain torch, with first and second derivatives."""

import numpy as np
import pytest
import torch
from kernels import assert_same_derivatives, threads

from mmace.native import library
from mmace.polynomial import SparsePolynomial

needs_compiler = pytest.mark.skipif(library() is None, reason="no C++ compiler")


def problem(seed: int = 0, nodes: int = 5, channels: int = 4):
    rng = np.random.default_rng(seed)
    terms = [
        [(0, -1, -1), (0, 1, 2), (0, 2, -1), (1, 1, -1), (1, 1, 2), (2, 2, 2)],
        [(0, 0, 1), (2, -1, -1)],
    ]
    polynomial = SparsePolynomial(terms)
    a = torch.tensor(rng.normal(size=(3, nodes, channels)), requires_grad=True)
    c = torch.tensor(rng.normal(size=(2, 8, channels)), requires_grad=True)
    species = torch.tensor(rng.integers(0, 2, nodes))
    return polynomial, a, c, species


@needs_compiler
@pytest.mark.parametrize("channels", [4, 16, 21])
@pytest.mark.parametrize("number", [1, 2])
def test_native_equals_reference(number, channels):
    polynomial, a, c, species = problem(nodes=33, channels=channels)
    with threads(number):
        assert_same_derivatives(
            [lambda: polynomial(a, c, species), lambda: polynomial.reference(a, c, species)], (a, c)
        )


@needs_compiler
def test_derivatives_of_the_native_kernel():
    polynomial, a, c, species = problem()
    assert torch.autograd.gradcheck(lambda x, y: polynomial(x, y, species), (a, c))
    assert torch.autograd.gradgradcheck(lambda x, y: polynomial(x, y, species), (a, c))


def test_plain_torch_is_taken_without_the_library(monkeypatch):
    monkeypatch.setattr("mmace.polynomial.library", lambda: None)
    polynomial, a, c, species = problem()
    torch.testing.assert_close(polynomial(a, c, species), polynomial.reference(a, c, species))
