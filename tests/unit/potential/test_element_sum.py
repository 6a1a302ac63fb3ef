"""The native message of the first layer against plain torch, with first and second derivatives."""

import pytest
import torch
from ase import Atoms
from kernels import assert_same_derivatives, threads

from mmace import build_graph
from mmace.element_sum import ElementSum
from mmace.graph import ElementSlots
from mmace.native import library, plain_torch

needs_compiler = pytest.mark.skipif(library() is None, reason="no C++ compiler")

CASES = {  # atoms, neighbours, slots, elements of the batch, hidden, channels
    "one element": (9, 5, 1, 1, 6, 5),
    "two in each structure": (9, 4, 2, 2, 6, 5),
    "two of three, full registers": (20, 11, 2, 3, 16, 16),
}


def problem(nodes: int, width: int, count: int, kinds: int, hidden: int, channels: int):
    """The sum, its inputs, its slots and which edges are real."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    slot = torch.randint(0, count, (nodes, width), generator=generator)
    slot[0, -1], slot[-1, -2:] = -1, -1
    element = torch.randint(0, kinds, (nodes, count), generator=generator)
    element[: nodes // 2] = element[0]
    real = slot.reshape(-1) >= 0
    inputs = [
        random(nodes * width, 10) * real.unsqueeze(1),  # the envelope makes padding vanish
        random(nodes * width, hidden),
        random(4, hidden, channels),
        random(kinds + 1, channels),
        random(3, channels, channels),
    ]
    slots = ElementSlots(torch.arange(kinds) + 1, slot, element)
    return ElementSum([0, 0, 1, 2], [1, 3, 5]), [x.requires_grad_() for x in inputs], slots, real


@needs_compiler
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_native_equals_reference(case, number):
    message, inputs, slots, real = problem(*CASES[case])

    def plain() -> torch.Tensor:
        with plain_torch():
            return message(*inputs, slots)

    with threads(number):
        assert_same_derivatives([lambda: message(*inputs, slots), plain], inputs, real)


@needs_compiler
def test_derivatives_of_the_native_kernel():
    message, inputs, slots, _ = problem(4, 3, 2, 2, 3, 2)
    assert torch.autograd.gradcheck(lambda *x: message(*x, slots), inputs)
    assert torch.autograd.gradgradcheck(lambda *x: message(*x, slots), inputs)


def test_weights_are_joined_anew_after_a_change():
    message, inputs, slots, _ = problem(*CASES["two in each structure"])
    fixed = [x.detach() for x in inputs]
    before = message(*fixed, slots)
    torch.testing.assert_close(message(*fixed, slots), before)
    fixed[2].mul_(2.0)
    torch.testing.assert_close(message(*fixed, slots), 2.0 * before)


def test_slots_of_a_batch():
    """Elements are numbered per structure; a structure with fewer has slots without an element."""
    structures = [Atoms(pair, [[0, 0, 0], [0, 0, 1]]) for pair in (["Fe", "Ni"], ["Co", "Co"], ["Ni", "Co"])]
    slots = build_graph(structures, ["Fe", "Co", "Ni"], 1.5).element_slots(3)
    assert slots.kinds.tolist() == [0, 1, 2]
    assert slots.element.tolist() == [[0, 2], [0, 2], [1, -1], [1, -1], [1, 2], [1, 2]]
    assert slots.slot.tolist() == [[1], [0], [0], [0], [0], [1]]
