"""The native message of the first layer against plain torch, with first and second derivatives."""

import pytest
import torch
from ase import Atoms

import mmace.element_sum
from mmace import build_graph
from mmace.element_sum import ElementSum
from mmace.graph import ElementSlots
from mmace.native import library

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
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_native_equals_reference(case, threads, monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        message, inputs, slots, real = problem(*CASES[case])
        results = []
        for use in (library, lambda: None):
            monkeypatch.setattr(mmace.element_sum, "library", use)
            A = message(*inputs, slots)
            first = torch.autograd.grad((A**2).sum(), inputs, create_graph=True)
            # what padding receives does not matter: its inputs are constants
            kept = [x[real] if x.shape[0] == len(real) else x for x in first]
            second = torch.autograd.grad(sum((x**2).sum() for x in kept), inputs)
            results.append([A, *kept, *(x[real] if x.shape[0] == len(real) else x for x in second)])
        for native, plain in zip(*results, strict=True):
            torch.testing.assert_close(native, plain)
    finally:
        torch.set_num_threads(before)


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
