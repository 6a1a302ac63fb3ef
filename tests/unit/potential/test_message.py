"""The native message kernel against plain torch, with first and second derivatives."""

import numpy as np
import pytest
import torch
from kernels import assert_same_derivatives, threads

from mmace.message import MessagePath, MessageSum
from mmace.native import library

needs_compiler = pytest.mark.skipif(library() is None, reason="no C++ compiler")

# Two sources (one and three components), two targets (three and one), shared functions P and Q.
PATHS = [
    MessagePath(0, 0, 0, 1, 0, 3, 0),
    MessagePath(1, 1, 1, 3, 0, 3, 3),
    MessagePath(1, 0, 1, 3, 3, 1, 12),
]


def problem(nodes: int = 4, width: int = 3, moment: bool = True):
    rng = np.random.default_rng(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.tensor(rng.normal(size=shape), requires_grad=True)

    senders = torch.tensor(rng.integers(0, nodes, (nodes, width)))
    real = torch.ones(nodes, width, dtype=torch.bool)
    real[1, 2] = False
    edges = nodes * width
    G, P, Q, H = random(edges, 15), random(edges, 2, 5), random(edges, 2, 5), random(nodes, 4, 5)
    with torch.no_grad():
        G[~real.reshape(-1)] = 0.0  # as the envelope does
    return MessageSum(PATHS, 4), (G, P, Q if moment else None, H), senders, real


@needs_compiler
@pytest.mark.parametrize("moment", [True, False])
@pytest.mark.parametrize("number", [1, 2])
def test_native_equals_reference(moment, number):
    message, (G, P, Q, H), senders, real = problem(nodes=20, moment=moment)
    inputs = [x for x in (G, P, Q, H) if x is not None]
    with threads(number):
        assert_same_derivatives(
            [lambda: message(G, P, Q, H, senders, real), lambda: message.reference(G, P, Q, H, senders)],
            inputs,
            real.reshape(-1),
        )


@needs_compiler
def test_derivatives_of_the_native_kernel():
    message, inputs, senders, real = problem()
    assert torch.autograd.gradcheck(lambda *x: message(*x, senders, real), inputs)
    assert torch.autograd.gradgradcheck(lambda *x: message(*x, senders, real), inputs)
