"""Configurations and their magnetic branch."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from mmace.errors import UserError
from mmace.train import Configuration, magnetic_branch

from .conftest import isolated_atom


def along(axis, *lengths):
    axis = np.asarray(axis, dtype=float)
    return np.outer(lengths, axis / np.linalg.norm(axis))


@pytest.mark.parametrize(
    ("moments", "branch"),
    [
        (np.zeros((4, 3)), "NM"),
        (along([0, 0, 1], 0.05, -0.09, 0.02, 0), "NM"),
        (along([0, 0, 1], 2.2, 0.6, 2.2, 0.6), "FM"),
        (along([1, 2, 3], 2.2, 0.6, 2.2, 0.6), "FM"),
        (along([0, 0, 1], 2.2, 0, -2.2, 0), "AFM"),
        (along([1, -1, 0.3], 2.2, 0.02, -2.2, -0.02), "AFM"),
        (along([0, 0, 1], 2.2, -0.6, 2.2, -0.6), "FM"),  # ferrimagnetic, ratio 0.57
        (along([0, 0, 1], 2.2, -1.2, 2.2, -1.2), "AFM"),  # ferrimagnetic, ratio 0.29
        (np.array([[0, 0, 2.2], [2.2, 0, 0]]), "non-collinear"),
        (np.array([[0, 0, 2.2], [0, 2.2 * np.sin(0.05), 2.2 * np.cos(0.05)]]), "FM"),  # 3°
        (np.array([[0, 0, 2.2], [0, 2.2 * np.sin(0.4), 2.2 * np.cos(0.4)]]), "non-collinear"),  # 23°
        ([[2, 0, 0], [-1, 3**0.5, 0], [-1, -(3**0.5), 0]], "non-collinear"),  # triangle
    ],
)
def test_branch(moments, branch):
    assert magnetic_branch(moments) == branch


def test_branch_ignores_small_induced_moments():
    moments = along([0, 0, 1], 2.2, 2.2, -2.2, -2.2)
    with_induced = np.vstack([moments, [[0.15, 0, 0], [0.0, 0.12, 0.1]]])
    assert magnetic_branch(moments) == magnetic_branch(with_induced) == "AFM"


def test_branch_does_not_depend_on_the_frame():
    rng = np.random.default_rng(3)
    for _ in range(20):
        moments = rng.normal(size=(3, 3)) * rng.choice([0.02, 1.0])
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        assert magnetic_branch(moments) == magnetic_branch(moments @ rotation) == magnetic_branch(-moments)


def test_from_atoms_reads_every_label(iron):
    configuration = Configuration.from_atoms(iron, name="iron")
    assert configuration.energy == -16.5
    np.testing.assert_array_equal(configuration.magmoms, iron.arrays["REF_magmom"])
    np.testing.assert_array_equal(configuration.forces, iron.arrays["REF_forces"])
    np.testing.assert_array_equal(configuration.magnetic_forces, iron.arrays["REF_magforces"])
    np.testing.assert_allclose(configuration.stress, iron.info["REF_stress"].reshape(3, 3))
    np.testing.assert_array_equal(configuration.to_atoms().get_initial_magnetic_moments(), iron.arrays["REF_magmom"])


def test_voigt_stress_is_the_same_stress(iron):
    full = Configuration.from_atoms(iron).stress
    iron.info["REF_stress"] = np.array([1.0, 2.0, 3.0, 0.3, 0.2, 0.1]) * 0.01  # xx yy zz yz xz xy
    np.testing.assert_allclose(Configuration.from_atoms(iron).stress, full)


def test_initial_moments_serve_where_the_key_is_not_there(iron):
    del iron.arrays["REF_magmom"]
    iron.set_initial_magnetic_moments([2.2, -2.2])
    np.testing.assert_array_equal(Configuration.from_atoms(iron).magmoms, [[0, 0, 2.2], [0, 0, -2.2]])


def test_no_moments_are_refused():
    with pytest.raises(UserError, match=r"^structure 3: no moments under 'REF_magmom'; add REF_magmom:R:3"):
        Configuration.from_atoms(Atoms("Fe"), name="structure 3")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("energy", float("nan"), "energy contains NaN"),
        ("energy", True, "energy is not numbers"),
        ("energy", [1.0, 2.0], "energy must be one number per configuration, found 2 numbers"),
        ("forces", np.full((2, 3), np.inf), "forces contains NaN or infinity"),
        ("forces", np.zeros((3, 3)), r"forces has shape \(3, 3\), expected \(2, 3\)"),
        ("magmoms", np.zeros((2, 2)), r"magmoms has shape \(2, 2\), expected \(2, 3\)"),
        ("magnetic_forces", "text", "magnetic_forces is not numbers"),
        ("stress", np.zeros(5), r"stress has shape \(5,\)"),
        ("stress", np.array([[0.0, 1, 0], [0, 0, 0], [0, 0, 0]]), "stress is not symmetric"),
        ("weight", -1.0, "weight is -1.0"),
    ],
)
def test_wrong_values_are_refused(field, value, message):
    good = {
        "numbers": [26, 28],
        "positions": np.array([[0.0, 0, 0], [1.4, 1.4, 1.4]]),
        "cell": 2.8 * np.eye(3),
        "pbc": True,
        "magmoms": np.zeros((2, 3)),
        "name": "here:4",
    }
    Configuration(**good)
    with pytest.raises(UserError, match=f"^here:4: {message}") as caught:
        Configuration(**{**good, field: value})
    assert "\n" not in str(caught.value)


def test_stress_needs_a_periodic_cell():
    atom = isolated_atom()
    with pytest.raises(UserError, match="stress is given but the cell is not periodic"):
        Configuration(atom.numbers, atom.positions, atom.cell, False, atom.magmoms, stress=np.zeros((3, 3)))
