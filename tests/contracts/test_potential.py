"""What every potential must satisfy, on random weights in float64: physics, derivatives, smoothness, batching."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal as spacegroup_crystal
from scipy.spatial.transform import Rotation

from mmace import Potential, PotentialConfig, build_graph

MAGNETIC = ("soc", "nonsoc", "paper")
SIZES = {
    "one layer": {"num_layers": 1, "hidden": "4x0e", "l_mag": 1},
    "two layers": {"num_layers": 2, "hidden": "4x0e+4x1o", "l_mag": 1},
    "extras": {
        "num_layers": 1,
        "hidden": "4x0e",
        "correlation": 2,
        "distance_transform": "agnesi",
        "pair_repulsion": True,
        "density_normalization": False,
    },
    "l_mag 2": {"num_layers": 1, "hidden": "4x0e", "l_mag": 2, "correlation": 2},
}
CASES = [(symmetry, size) for symmetry in (*MAGNETIC, "none") for size in SIZES]
R_MAX = 4.0


@cache
def potential(symmetry: str, size: str = "one layer", dtype: str = "float64", **changes) -> Potential:
    config = PotentialConfig(
        elements=["Fe", "Ni"],
        symmetry=symmetry,
        r_max=R_MAX,
        m_max={"Fe": 3.0, "Ni": 2.0},
        radial_hidden=(16, 16),
        seed=7,
        dtype=dtype,
        **{**SIZES[size], **changes},
    )
    return Potential(config)


def crystal(seed: int = 0) -> Atoms:
    """A distorted four-atom cell with random vector moments."""
    rng = np.random.default_rng(seed)
    atoms = Atoms(bulk("Fe", cubic=True).repeat((2, 1, 1)).symbols, bulk("Fe", cubic=True).repeat((2, 1, 1)).positions)
    atoms.set_cell(np.diag([5.74, 2.87, 2.87]) + rng.normal(0, 0.05, (3, 3)), scale_atoms=False)
    atoms.pbc = True
    atoms.symbols[1] = atoms.symbols[3] = "Ni"
    atoms.positions += rng.normal(0, 0.1, (4, 3))
    atoms.set_initial_magnetic_moments(rng.normal(0, 1.0, (4, 3)).clip(-1.1, 1.1))
    return atoms


def moments_of(atoms: Atoms) -> np.ndarray:
    return atoms.get_initial_magnetic_moments()


def evaluate(model: Potential, atoms: Atoms | list[Atoms], **options) -> dict[str, np.ndarray]:
    config = model.config
    out = model(build_graph(atoms, config.elements, config.r_max, dtype=config.torch_dtype), **options)
    return {name: tensor.numpy() for name, tensor in out.items()}


def energy(model: Potential, atoms: Atoms) -> float:
    return float(evaluate(model, atoms, forces=False, stress=False, magnetic_forces=False)["energy"][0])


def turned(atoms: Atoms, lattice: np.ndarray | None = None, moments: np.ndarray | None = None) -> Atoms:
    """Copy with positions and cell, or moments, multiplied by 3×3 matrices."""
    copy = atoms.copy()
    if lattice is not None:
        copy.set_cell(atoms.cell.array @ lattice.T)
        copy.positions = atoms.positions @ lattice.T
    if moments is not None:
        copy.set_initial_magnetic_moments(moments_of(atoms) @ moments.T)
    return copy


Q = Rotation.from_euler("xyz", [0.3, 1.1, -0.7]).as_matrix()
INVERSION = -np.eye(3)


@pytest.mark.parametrize(("symmetry", "size"), CASES)
def test_translation_and_permutation(symmetry, size):
    model, atoms = potential(symmetry, size), crystal()
    reference = evaluate(model, atoms)
    shifted = atoms.copy()
    shifted.positions += [0.3, -1.7, 12.0]
    assert energy(model, shifted) == pytest.approx(float(reference["energy"][0]), abs=1e-10)
    order = np.array([2, 0, 3, 1])
    permuted = evaluate(model, atoms[order])
    assert permuted["energy"] == pytest.approx(reference["energy"], abs=1e-10)
    np.testing.assert_allclose(permuted["forces"], reference["forces"][order], atol=1e-9)
    np.testing.assert_allclose(permuted["magnetic_forces"], reference["magnetic_forces"][order], atol=1e-9)


def spiral(atoms: Atoms, handedness: int) -> Atoms:
    """Copy with moments of iron that turn about x once along the cell, to the right (1) or to the left (−1)."""
    angle = handedness * 2 * np.pi * atoms.get_scaled_positions()[:, 0]
    moments = 1.1 * np.stack([0 * angle, np.cos(angle), np.sin(angle)], axis=1)
    copy = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)
    copy.set_initial_magnetic_moments(np.where((atoms.symbols == "Fe")[:, None], moments, 0.0))
    return copy


@pytest.mark.parametrize(("symmetry", "size"), [case for case in CASES if case[0] != "none"])
def test_right_and_left_spirals(symmetry, size):
    """Antisymmetric exchange (Dzyaloshinskii, Moriya): in a chiral crystal, and by spin-orbit coupling alone."""
    model = potential(symmetry, size)
    sites = {"spacegroup": 198, "cellpar": [4.2] * 3 + [90] * 3}
    chiral = spacegroup_crystal(["Fe", "Ni"], [(0.137,) * 3, (0.843,) * 3], **sites).repeat((4, 1, 1))
    right, left = (energy(model, spiral(chiral, sense)) for sense in (1, -1))
    if symmetry == "nonsoc":
        assert right == pytest.approx(left, abs=1e-10)
    else:
        assert abs(right - left) > 1e-5
    image = chiral.copy()
    image.positions *= -1
    image.wrap()
    assert energy(model, spiral(image, -1)) == pytest.approx(right, abs=1e-9)
    straight = bulk("Fe", cubic=True).repeat((4, 1, 1))
    assert energy(model, spiral(straight, 1)) == pytest.approx(energy(model, spiral(straight, -1)), abs=1e-9)


@pytest.mark.parametrize(("symmetry", "size"), CASES)
def test_joint_rotation(symmetry, size):
    model, atoms = potential(symmetry, size), crystal()
    reference, rotated = evaluate(model, atoms), evaluate(model, turned(atoms, Q, Q))
    assert rotated["energy"] == pytest.approx(reference["energy"], abs=1e-10)
    np.testing.assert_allclose(rotated["forces"], reference["forces"] @ Q.T, atol=1e-9)
    np.testing.assert_allclose(rotated["magnetic_forces"], reference["magnetic_forces"] @ Q.T, atol=1e-9)
    np.testing.assert_allclose(rotated["stress"][0], Q @ reference["stress"][0] @ Q.T, atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("symmetry", ["soc", "nonsoc"])
def test_inversion_and_time_reversal(symmetry, size):
    model, atoms = potential(symmetry, size), crystal()
    reference = energy(model, atoms)
    assert energy(model, turned(atoms, INVERSION)) == pytest.approx(reference, abs=1e-10)
    assert energy(model, turned(atoms, None, INVERSION)) == pytest.approx(reference, abs=1e-10)


@pytest.mark.parametrize("size", SIZES)
def test_paper_form_has_only_the_joint_inversion(size):
    model, atoms = potential("paper", size), crystal()
    reference = energy(model, atoms)
    assert energy(model, turned(atoms, INVERSION, INVERSION)) == pytest.approx(reference, abs=1e-10)
    assert abs(energy(model, turned(atoms, None, INVERSION)) - reference) > 1e-4


@pytest.mark.parametrize("size", SIZES)
def test_separate_rotations(size):
    atoms = crystal()
    exact = potential("nonsoc", size)
    reference = energy(exact, atoms)
    assert energy(exact, turned(atoms, Q)) == pytest.approx(reference, abs=1e-10)
    assert energy(exact, turned(atoms, None, Q)) == pytest.approx(reference, abs=1e-10)
    coupled = potential("soc", size)
    assert abs(energy(coupled, turned(atoms, Q)) - energy(coupled, atoms)) > 1e-5


@pytest.mark.parametrize(("symmetry", "size"), CASES)
def test_size_consistency_and_isolated_atoms(symmetry, size):
    model = potential(symmetry, size)
    pair = Atoms("FeNi", [[0, 0, 0], [0, 0, 2.2]])
    pair.set_initial_magnetic_moments([[0.1, 0.2, 1.5], [0.5, 0.0, -0.3]])
    other = pair.copy()
    other.positions += [0, 3 * R_MAX, 0]
    assert energy(model, pair + other) == pytest.approx(2 * energy(model, pair), abs=1e-10)
    atom = Atoms("Fe", [[0, 0, 0]])
    atom.set_initial_magnetic_moments([[0.0, 0.0, 2.0]])
    assert energy(model, atom) == 0.0  # no E0 set, and messages are the only source of interaction energy


@pytest.mark.parametrize(("symmetry", "size"), CASES)
def test_smooth_at_the_cutoff(symmetry, size):
    model = potential(symmetry, size)

    def pair(distance: float) -> dict[str, np.ndarray]:
        atoms = Atoms("FeNiFe", [[0, 0, 0], [0, 0, 2.2], [distance, 0, 0]])
        atoms.set_initial_magnetic_moments([[0.1, 0.2, 1.5], [0.5, 0.0, -0.3], [1.0, 0.4, 0.2]])
        return evaluate(model, atoms, stress=False)

    step = 1e-3
    inside, outside = pair(R_MAX - step), pair(R_MAX + step)
    assert inside["energy"] == pytest.approx(outside["energy"], abs=1e-5)
    np.testing.assert_allclose(inside["forces"], outside["forces"], atol=1e-4)
    # and it did feel the atom well inside
    assert abs(pair(R_MAX - 1.0)["energy"] - outside["energy"])[0] > 1e-4


@pytest.mark.parametrize("symmetry", MAGNETIC)
def test_dimer_angle_curve_is_not_flat(symmetry):
    model = potential(symmetry)
    energies = []
    for angle in np.linspace(0, np.pi, 7):
        atoms = Atoms("Fe2", [[0, 0, 0], [0, 0, 2.2]])
        atoms.set_initial_magnetic_moments([[2.0, 0, 0], [2.0 * np.cos(angle), 2.0 * np.sin(angle), 0]])
        energies.append(energy(model, atoms))
    assert np.ptp(energies) > 1e-3


@pytest.mark.parametrize(("symmetry", "size"), CASES)
def test_derivatives_against_central_differences(symmetry, size):
    model, atoms = potential(symmetry, size), crystal(3)
    out = evaluate(model, atoms)
    step = 1e-4

    def slope(change) -> float:
        return (energy(model, change(step)) - energy(model, change(-step))) / (2 * step)

    def move(h: float) -> Atoms:
        copy = atoms.copy()
        copy.positions[1, 0] += h
        return copy

    def turn(h: float) -> Atoms:
        copy, moments = atoms.copy(), moments_of(atoms).copy()
        moments[2, 1] += h
        copy.set_initial_magnetic_moments(moments)
        return copy

    def strain(h: float) -> Atoms:
        deformation = np.eye(3)
        deformation[0, 1] = deformation[1, 0] = h / 2
        copy = atoms.copy()
        copy.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
        return copy

    assert out["forces"][1, 0] == pytest.approx(-slope(move), rel=1e-4, abs=1e-6)
    assert out["magnetic_forces"][2, 1] == pytest.approx(-slope(turn), rel=1e-4, abs=1e-6)
    assert out["stress"][0, 0, 1] == pytest.approx(slope(strain) / atoms.get_volume(), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("symmetry", MAGNETIC)
def test_second_derivatives(symmetry):
    model = potential(symmetry, "one layer", correlation=2)
    atoms = crystal(1)[:2]
    atoms.pbc = False
    graph = build_graph(atoms, model.config.elements, R_MAX)

    def function(positions: torch.Tensor, magmoms: torch.Tensor) -> torch.Tensor:
        return model.node_energies(type(graph)(**{**graph.__dict__, "positions": positions, "magmoms": magmoms})).sum()

    inputs = (graph.positions.clone().requires_grad_(), graph.magmoms.clone().requires_grad_())
    assert torch.autograd.gradgradcheck(function, inputs, atol=1e-5)
    zero = (inputs[0], torch.zeros_like(graph.magmoms).requires_grad_())
    assert torch.autograd.gradgradcheck(function, zero, atol=1e-5)


@pytest.mark.parametrize("symmetry", MAGNETIC)
def test_zero_moments_are_smooth_and_force_free(symmetry):
    model, atoms = potential(symmetry), crystal()
    atoms.set_initial_magnetic_moments(np.zeros((4, 3)))
    out = evaluate(model, atoms)
    assert np.isfinite(out["forces"]).all()
    if symmetry != "paper":  # the paper's form breaks time reversal: it pulls on zero moments
        np.testing.assert_allclose(out["magnetic_forces"], 0.0, atol=1e-12)
    small = atoms.copy()
    small.set_initial_magnetic_moments(np.full((4, 3), 1e-6))
    assert energy(model, small) == pytest.approx(float(out["energy"][0]), abs=1e-5)


@pytest.mark.parametrize("symmetry", MAGNETIC)
def test_beyond_m_max_the_energy_is_smooth_and_rises(symmetry):
    model = potential(symmetry)

    def at(length: float) -> dict[str, np.ndarray]:
        atoms = crystal()
        moments = np.zeros((4, 3))
        moments[:, 2] = 0.5
        moments[0] = [0.0, 0.0, length]
        atoms.set_initial_magnetic_moments(moments)
        return evaluate(model, atoms)

    below, edge, above = at(3.0 - 1e-6), at(3.0), at(3.0 + 1e-6)
    assert below["energy"] == pytest.approx(above["energy"], abs=1e-3)
    np.testing.assert_allclose(below["magnetic_forces"], above["magnetic_forces"], rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(edge["magnetic_forces"], above["magnetic_forces"], rtol=1e-2, atol=1e-2)
    far = [float(at(length)["energy"][0]) for length in (5.0, 6.0, 10.0, 50.0)]
    assert np.isfinite(far).all()
    assert all(a < b for a, b in itertools.pairwise(far))
    assert far[0] > float(edge["energy"][0])


@pytest.mark.parametrize(("symmetry", "size"), CASES)
def test_batch_equals_single(symmetry, size):
    model = potential(symmetry, size)
    structures = [crystal(0), crystal(5), crystal(2)[:2], Atoms("Ni", [[0, 0, 0]], magmoms=[1.0])]
    structures[2].pbc = False
    together = evaluate(model, structures)
    begin = 0
    for number, atoms in enumerate(structures):
        alone = evaluate(model, atoms)
        end = begin + len(atoms)
        assert together["energy"][number] == pytest.approx(alone["energy"][0], abs=1e-10)
        for name in ("forces", "magnetic_forces"):
            np.testing.assert_allclose(together[name][begin:end], alone[name], atol=1e-10)
        np.testing.assert_allclose(together["stress"][number], alone["stress"][0], atol=1e-10)
        begin = end


@pytest.mark.parametrize(("symmetry", "size"), CASES)
def test_float32_is_close_to_float64(symmetry, size):
    single, double = potential(symmetry, size, "float32"), potential(symmetry, size)
    single.load_state_dict({name: tensor.float() for name, tensor in double.state_dict().items()})
    atoms = crystal()
    a, b = evaluate(single, atoms), evaluate(double, atoms)
    for name in ("energy", "forces", "stress", "magnetic_forces"):
        assert a[name].dtype == np.float32
        np.testing.assert_allclose(a[name], b[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("symmetry", MAGNETIC)
def test_forces_depend_on_moments(symmetry):
    model, atoms = potential(symmetry), crystal()
    flipped = atoms.copy()
    moments = moments_of(atoms).copy()
    moments[0] *= -1
    flipped.set_initial_magnetic_moments(moments)
    assert np.abs(evaluate(model, flipped)["forces"] - evaluate(model, atoms)["forces"]).max() > 1e-4
