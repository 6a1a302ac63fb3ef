"""The native perceptron against plain torch, with first and second derivatives."""

import itertools

import pytest
import torch
from kernels import assert_same_derivatives, threads

import mmace.perceptron
from mmace.native import library, plain_torch
from mmace.perceptron import perceptron

needs_compiler = pytest.mark.skipif(library() is None, reason="no C++ compiler")

CASES = {  # rows, widths, whether rows share a part of the first layer, whether silu comes last
    "radial": (107, [10, 64, 64, 64], True, True),
    "density": (53, [10, 16, 1], False, False),
    "one layer": (7, [3, 5], False, True),
    "own moment": (9, [4, 7, 3], True, False),
}


def problem(rows: int, widths: list[int], shared: bool, activated: bool):
    """Inputs that can have gradients, and the perceptron as their function."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    x, weights = random(rows, widths[0]), [random(a, b) for a, b in itertools.pairwise(widths)]
    places = torch.randint(0, 5, (rows,), generator=generator)
    if not shared:
        return [x, *weights], lambda x, *weights: perceptron(x, weights, activated=activated)
    return [x, random(5, widths[1]), *weights], lambda x, share, *weights: perceptron(
        x, weights, share, places, widths[0] + 2, activated
    )


@needs_compiler
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_native_equals_reference(case, number, monkeypatch):
    monkeypatch.setattr(mmace.perceptron, "ROWS_PER_UNIT", 2)
    inputs, function = problem(*CASES[case])

    def plain() -> torch.Tensor:
        with plain_torch():
            return function(*inputs)

    with threads(number):
        assert_same_derivatives([lambda: function(*inputs), plain], inputs)


@needs_compiler
@pytest.mark.parametrize("case", ["density", "one layer", "own moment"])
def test_derivatives_of_the_native_kernel(case):
    inputs, function = problem(4, *CASES[case][1:])
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_silu_over_the_whole_range(dtype):
    x = torch.cat([torch.linspace(-30, 30, 601), torch.tensor([-1e4, -200.0, -90.0, 0.0, 90.0, 200.0, 1e4])]).to(dtype)
    y = perceptron(x.unsqueeze(1), [torch.ones(1, 1, dtype=dtype)], activated=True).squeeze(1)
    expected = mmace.perceptron.GAIN * torch.nn.functional.silu(x)
    torch.testing.assert_close(y, expected, rtol=4 * torch.finfo(dtype).eps, atol=1e-30)


def test_plain_torch_is_taken_without_the_library(monkeypatch):
    monkeypatch.setattr(mmace.perceptron, "library", lambda: None)
    inputs, function = problem(*CASES["own moment"])
    assert torch.autograd.gradcheck(function, inputs)
