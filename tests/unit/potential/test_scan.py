"""Rigid rotations of all moments: the same energies as one evaluation each."""

import numpy as np
import pytest
import torch
from ase.build import bulk
from scipy.spatial.transform import Rotation

from mmace import Potential, PotentialConfig, build_graph
from mmace.errors import UserError
from mmace.harmonics import SolidHarmonics, rotation_matrices
from mmace.spins.directions import RotationFunctions, from_few
from mmace.spins.polynomials import polynomials
from mmace.spins.scan import rotation_energies


def cell():
    atoms = bulk("Fe", cubic=True).repeat((2, 1, 1))
    atoms.numbers[1:3] = 28
    atoms.rattle(0.1, seed=2)
    atoms.arrays.pop("initial_magmoms", None)
    atoms.set_initial_magnetic_moments(np.random.default_rng(0).normal(size=(4, 3)))
    return atoms


@pytest.mark.parametrize("elements", [["Fe", "Ni"], ["Ni", "Co", "Fe"]])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("symmetry", ["soc", "nonsoc", "paper"])
def test_scan_equals_single_evaluations(symmetry, layers, elements):
    config = PotentialConfig(
        elements=elements, symmetry=symmetry, r_max=3.6, num_layers=layers, hidden="6x0e+6x1o", l_pos=2,
        l_mag=1 if symmetry == "nonsoc" else 2, seed=1, m_max=dict.fromkeys(elements, 3.0), heads=("a", "b"),
    )  # fmt: skip
    model, atoms = Potential(config), cell()
    rotations = Rotation.random(5, random_state=1).as_matrix()
    rotations[-1] *= -1.0
    energies = rotation_energies(model, atoms, rotations, head=1, batch_nodes=8)
    single = []
    for rotation in rotations:
        turned = atoms.copy()
        turned.set_initial_magnetic_moments(atoms.get_initial_magnetic_moments() @ rotation.T)
        single.append(float(model(build_graph(turned, elements, 3.6, head=1))["energy"]))
    np.testing.assert_allclose(energies, single, atol=1e-9)
    spread = np.ptp(single[:-1])
    assert spread < 1e-9 if symmetry == "nonsoc" else spread > 1e-6


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_rotation_matrices_turn_harmonics(degree):
    rotations = torch.tensor(Rotation.random(4, random_state=0).as_matrix())
    vectors = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    block = slice(degree**2, (degree + 1) ** 2)
    harmonics = SolidHarmonics(3, torch.float64)
    turned = harmonics(torch.einsum("bij,bj->bi", rotations, vectors))[:, block]
    expected = torch.einsum("bij,bj->bi", rotation_matrices(degree, rotations), harmonics(vectors)[:, block])
    torch.testing.assert_close(turned, expected)


def test_what_cannot_be_scanned_is_said():
    none = Potential(PotentialConfig(elements=["Fe", "Ni"], symmetry="none", hidden="4x0e", r_max=3.6))
    with pytest.raises(UserError, match="no moments"):
        rotation_energies(none, cell(), np.eye(3)[None])
    model = Potential(PotentialConfig(elements=["Fe", "Ni"], hidden="4x0e", r_max=3.6))
    with pytest.raises(UserError, match="orthogonal"):
        rotation_energies(model, cell(), 2.0 * np.eye(3)[None])


@pytest.mark.parametrize(("collinear", "layers", "l_mag"), [(True, 1, 2), (True, 2, 1), (False, 1, 1)])
@pytest.mark.parametrize("symmetry", ["soc", "paper"])
def test_many_rotations_from_a_few(symmetry, collinear, layers, l_mag):
    """More rotations than the space has functions: interpolated, and still the same numbers."""
    config = PotentialConfig(
        elements=["Fe", "Ni"], symmetry=symmetry, r_max=3.6, num_layers=layers, hidden="4x0e", l_pos=2, l_mag=l_mag,
        correlation=2 if layers == 2 else 3, seed=1,
    )  # fmt: skip
    model, atoms = Potential(config), cell()
    if collinear:
        atoms.set_initial_magnetic_moments(np.outer([2.0, 0.5, -0.4, 2.2], [0.6, 0.0, 0.8]))
    rotations = Rotation.random(560, random_state=3).as_matrix()
    energies = rotation_energies(model, atoms, rotations)
    few = rotation_energies(model, atoms, rotations[:20])  # too few to interpolate: one by one
    np.testing.assert_allclose(energies[:20], few, atol=1e-8)
    assert np.ptp(few) > 1e-6


def test_turning_onto_the_opposite_direction():
    atoms = cell()
    atoms.set_initial_magnetic_moments(np.outer(np.ones(4), [0.0, 0.0, -2.0]))
    model = Potential(PotentialConfig(elements=["Fe", "Ni"], hidden="4x0e", r_max=3.6, l_pos=2))
    rotations = np.concatenate([np.eye(3)[None], Rotation.random(99, random_state=1).as_matrix()])
    energies = rotation_energies(model, atoms, rotations)
    assert energies[0] == pytest.approx(float(model(build_graph(atoms, ["Fe", "Ni"], 3.6))["energy"]), abs=1e-8)


def values_and_count(magmoms, rotations, function, even=True, noise=0.0):
    """What `from_few` makes of a function of the rotation, and how often it asked for it."""
    asked = []

    def evaluate(numbers):
        asked.extend(numbers.tolist())
        return function(rotations[numbers]) if len(numbers) else np.empty(0)

    values = from_few(RotationFunctions(magmoms, rotations), evaluate, even, noise)
    assert len(asked) == len(set(asked))
    return values, len(asked)


def test_smooth_functions_need_few_values():
    rotations = Rotation.random(1500, random_state=0).as_matrix()
    noncollinear = np.eye(3)
    matrix = np.random.default_rng(0).normal(size=(3, 3))

    def smooth(turns):
        product = np.einsum("bij,ij->b", turns, matrix)
        return product**2 + 0.02 * product**4

    values, count = values_and_count(noncollinear, rotations, smooth)
    np.testing.assert_allclose(values, smooth(rotations), atol=1e-6 * np.ptp(values))
    assert count < len(rotations)

    def axial(turns):
        return np.exp(turns[:, 2, 2] ** 2)

    values, count = values_and_count(np.outer([1.0, -2.0], [0.0, 0.0, 1.0]), rotations, axial)
    np.testing.assert_allclose(values, axial(rotations), atol=1e-6 * np.ptp(values))
    assert count < 200


def test_rough_functions_are_evaluated_everywhere():
    rotations = Rotation.random(400, random_state=0).as_matrix()

    def rough(turns):
        return np.sign(turns[:, 0, 0])

    values, count = values_and_count(np.eye(3), rotations, rough)
    np.testing.assert_array_equal(values, rough(rotations))
    assert count == 400


def test_rotations_about_one_axis():
    """They leave most functions undecided: what is asked for must come out right all the same."""
    turns = Rotation.from_rotvec(np.outer(np.linspace(0, 2 * np.pi, 700), [0.0, 0.0, 1.0])).as_matrix()

    def smooth(turns):
        return turns[:, 0, 0] ** 2 * turns[:, 0, 1] ** 2 + 0.1 * turns[:, 0, 0] ** 2

    values, count = values_and_count(np.eye(3), turns, smooth)
    np.testing.assert_allclose(values, smooth(turns), atol=1e-6 * np.ptp(values))
    assert count < 700


def test_large_cells_go_atom_by_atom(monkeypatch):
    config = PotentialConfig(elements=["Fe", "Ni"], r_max=3.6, num_layers=2, hidden="4x0e+4x1o", l_pos=2, l_mag=2)
    model, rotations = Potential(config), Rotation.random(6, random_state=1).as_matrix()
    expected = rotation_energies(model, cell(), rotations)
    monkeypatch.setattr("mmace.spins.pairs.SMALL_CELL", 0)
    monkeypatch.setattr("mmace.spins.pairs.KEPT_NUMBERS", 0)
    np.testing.assert_allclose(rotation_energies(model, cell(), rotations), expected, atol=1e-10)


def test_a_head_that_the_model_does_not_have():
    model = Potential(PotentialConfig(elements=["Fe", "Ni"], hidden="4x0e", r_max=3.6))
    with pytest.raises(UserError, match=r"head = 1; the model has head 0 \(default\) only"):
        model(build_graph(cell(), ["Fe", "Ni"], 3.6, head=1))
    with pytest.raises(UserError, match="head = 1"):
        rotation_energies(model, cell(), np.eye(3)[None], head=1)


@pytest.mark.parametrize("collinear", [False, True])
def test_polynomials_of_the_rotation_are_exact_from_few(collinear):
    rotations = Rotation.random(400, random_state=0).as_matrix()
    magmoms = np.outer([1.0, -2.0], [0.0, 0.6, 0.8]) if collinear else np.eye(3)
    turned = np.einsum("bij,nj->bni", rotations, magmoms)
    matrix = np.random.default_rng(1).normal(size=(turned[0].size, 5))
    truth = torch.tensor((turned.reshape(len(turned), -1) @ matrix) ** 2)  # degree 2
    asked = []

    def compute(numbers):
        asked.append(len(numbers))
        return truth[torch.as_tensor(numbers)]

    functions = RotationFunctions(magmoms, rotations)
    found = polynomials(functions, 2, True, 5, compute)
    assert found is not None and sum(asked) < 100
    torch.testing.assert_close(found(np.arange(400)), truth)
    assert polynomials(functions, 1, False, 5, compute) is None, "too low a degree is noticed"
    before = sum(asked)
    assert polynomials(functions, 12, False, 5, compute) is None or collinear, "more functions than rotations"
    assert collinear or sum(asked) == before
    before = sum(asked)
    assert polynomials(functions, 2, True, 2**26, compute) is None and sum(asked) == before, "more than memory holds"


@pytest.mark.parametrize("symmetry", ["soc", "nonsoc", "paper"])
def test_energies_of_one_layer_are_exact_from_few(symmetry):
    config = PotentialConfig(
        elements=["Fe", "Ni"], symmetry=symmetry, r_max=3.6, hidden="4x0e", l_pos=2, l_mag=1, correlation=2, seed=1
    )
    model, atoms = Potential(config), cell()
    rotations = Rotation.random(300, random_state=3).as_matrix()
    energies = rotation_energies(model, atoms, rotations)
    np.testing.assert_allclose(energies[:20], rotation_energies(model, atoms, rotations[:20]), atol=1e-12)
