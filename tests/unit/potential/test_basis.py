"""Native edge and moment features against their plain torch versions: values, gradients, second gradients."""

import numpy as np
import pytest
import torch
from ase.build import bulk

from mmace.edges import EdgeBasis
from mmace.graph import build_graph
from mmace.moments import MomentBasis
from mmace.native import library
from mmace.radial import AgnesiTransform

needs_native = pytest.mark.skipif(library() is None, reason="no native kernels here")
DTYPE = torch.float64


def small_graph():
    atoms = bulk("Fe", cubic=True).repeat((2, 1, 1))
    atoms.numbers[1] = 28
    atoms.rattle(0.1, seed=3)
    return build_graph(atoms, ["Fe", "Ni"], 3.4, dtype=DTYPE)


def compare(functions, inputs):
    """Same outputs, same gradients of a random sum, same gradients of a random sum of those."""
    results = []
    for function in functions:
        generator = torch.Generator().manual_seed(1)

        def weights(like, generator=generator):
            return torch.randn(like.shape, generator=generator, dtype=DTYPE)

        x = [each.clone().requires_grad_() for each in inputs]
        outputs = function(*x)
        loss = sum((out * weights(out)).sum() + 0.3 * (out * out * weights(out)).sum() for out in outputs)
        first = torch.autograd.grad(loss, x, create_graph=True)
        second = torch.autograd.grad(sum((g * g * weights(g)).sum() for g in first), x)
        results.append([*outputs, *first, *second])
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)


@needs_native
@pytest.mark.parametrize("agnesi", [False, True])
@pytest.mark.parametrize("moments", [0, 1, 4, 16])
def test_edges_native_is_reference(agnesi, moments):
    graph = small_graph()
    rng = np.random.default_rng(0)
    rows = 16 * max(moments, 1)
    geometry = [np.where(rng.random((rows, n)) < 0.2, rng.normal(size=(rows, n)), 0.0) for n in (5, 7)]
    transform = AgnesiTransform(["Fe", "Ni"], DTYPE) if agnesi else None
    basis = EdgeBasis(3.4, 3, moments, 6, geometry, transform, DTYPE)
    inputs = [graph.positions, graph.cell]
    if moments:
        inputs.append(torch.tensor(rng.normal(size=(len(graph.positions), moments))))

    def run(call):
        def function(positions, cell, solid=None):
            if solid is not None:  # R_0 is one, always
                solid = torch.cat([torch.ones_like(solid[:, :1]), solid[:, 1:]], dim=1)
            edges = call(graph, positions, cell, solid)
            return [edges.lengths, edges.cut, edges.bessel, *edges.geometry]

        return function

    compare([run(basis), run(basis.reference)], inputs)


@needs_native
@pytest.mark.parametrize("l_mag", [0, 1, 3])
def test_moments_native_is_reference(l_mag):
    rng = np.random.default_rng(1)
    magmoms = torch.tensor(rng.normal(size=(21, 3)))
    magmoms[0] = 0.0
    magmoms[1] *= 40.0
    magmoms[2] *= 1.6005 / magmoms[2].norm()
    species = torch.tensor([0, 1] * 10 + [1])
    basis = MomentBasis(torch.tensor([2.0, 1.6], dtype=DTYPE), 20.0, l_mag, 6)
    compare([lambda m: basis(m, species), lambda m: basis.reference(m, basis.m_max[species])], [magmoms])
