"""Relaxation of moments: modes, bounds, many structures at once, honest reports."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mmace import MagneticCalculator, Potential, PotentialConfig
from mmace.errors import UserError
from mmace.one_body import OneBodyCurve
from mmace.spins.minimise import Problem, minimise
from mmace.spins.relax import relax_moments

MODEL = Potential(
    PotentialConfig(elements=["Fe", "Ni"], hidden="8x0e", r_max=4.0, m_max={"Fe": 3.0, "Ni": 1.5}, seed=3)
)


def cell(seed: int = 0, scale: float = 1.0) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = Atoms("FeNi", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=bulk("Fe", cubic=True).cell, pbc=True)
    atoms.positions += rng.normal(0, 0.05, (2, 3))
    atoms.set_initial_magnetic_moments(scale * rng.uniform(-1, 1, (2, 3)))
    return atoms


def energy(atoms: Atoms, moments: np.ndarray) -> float:
    copy = atoms.copy()
    copy.set_initial_magnetic_moments(moments)
    copy.calc = MagneticCalculator(MODEL)
    return copy.get_potential_energy()


@pytest.mark.parametrize("mode", ["full", "collinear", "directions", "magnitudes"])
def test_every_mode_ends_at_a_minimum_of_its_own_variables(mode):
    atoms = cell(1)
    before = atoms.get_initial_magnetic_moments()
    (result,) = relax_moments(MODEL, atoms, mode=mode, gradient_tolerance=1e-4)
    assert result.converged and result.max_gradient <= 1e-4 and result.message == "converged"
    assert energy(atoms, result.magmoms) == pytest.approx(result.energy, abs=1e-9)
    lengths = np.linalg.norm(result.magmoms, axis=1)
    if mode == "collinear":
        assert np.abs(result.magmoms[:, :2]).max() == 0.0
        start = np.column_stack([np.zeros((2, 2)), before[:, 2]])
    else:
        start = before
    assert result.energy <= energy(atoms, start) + 1e-9
    if mode == "directions":
        np.testing.assert_allclose(lengths, np.linalg.norm(before, axis=1))
    if mode == "magnitudes":
        np.testing.assert_allclose(np.cross(result.magmoms, before), 0.0, atol=1e-9)
    assert (lengths <= [3.0 * np.sqrt(3) + 1e-9, 1.5 * np.sqrt(3) + 1e-9]).all()


def test_frozen_sites_keep_their_moments():
    atoms = cell(2)
    (result,) = relax_moments(MODEL, atoms, frozen=[0])
    np.testing.assert_array_equal(result.magmoms[0], atoms.get_initial_magnetic_moments()[0])
    assert not np.allclose(result.magmoms[1], atoms.get_initial_magnetic_moments()[1])


def test_zero_moments_stay_zero():
    (result,) = relax_moments(MODEL, cell(0, scale=0.0))
    assert result.converged and result.evaluations == 1
    np.testing.assert_array_equal(result.magmoms, 0.0)


def test_together_equals_one_by_one_and_random_starts_end_without_nan():
    starts = [cell(seed, scale=2.0) for seed in range(30)]
    seen = []
    together = relax_moments(MODEL, starts, batch_atoms=24, progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (30, 30) and len(seen) == 3
    limits = np.array([3.0, 1.5])
    beyond = [(np.linalg.norm(result.magmoms, axis=1) >= limits).any() for result in together]
    assert [not result.converged for result in together] == beyond
    assert all(np.isfinite(result.magmoms).all() for result in together)
    for number in (0, 13, 29):
        (alone,) = relax_moments(MODEL, starts[number])
        # turning everything together costs little in a soc model: that soft direction ends where the tolerance allows,
        # at most 1e-3 eV/μB times 0.1 μB above the minimum
        assert alone.energy == pytest.approx(together[number].energy, abs=1e-4)
        np.testing.assert_allclose(alone.magmoms, together[number].magmoms, atol=0.1)


def test_a_relaxation_that_leaves_the_range_of_the_model_has_not_converged():
    model = Potential(replace(MODEL.config, m_max={"Fe": 1.0, "Ni": 1.5}))
    # atoms of iron gain 4 eV up to 2 μB, well behind the end of the range
    model.set_one_body({"Fe": OneBodyCurve.sample(lambda squared: -squared, 2.0)})
    (result,) = relax_moments(model, cell(1), mode="collinear")
    assert not result.converged
    assert abs(result.magmoms[0, 2]) == 1.0 and abs(result.magmoms[1, 2]) < 1.5
    assert "m_max of Fe 1 μB" in result.message and "Ni" not in result.message


def test_too_few_evaluations_are_reported():
    (result,) = relax_moments(MODEL, cell(4), max_evaluations=2, gradient_tolerance=1e-8)
    assert not result.converged and "not converged after 2 evaluations" in result.message


def test_warm_start_of_the_calculator():
    atoms = cell(5)
    atoms.calc = MagneticCalculator(MODEL, moments="relaxed", gradient_tolerance=1e-5)
    atoms.get_potential_energy()
    first = atoms.calc.last_relaxation.evaluations
    atoms.positions[0, 0] += 0.002
    atoms.get_potential_energy()
    assert atoms.calc.last_relaxation.evaluations < first
    assert np.abs(atoms.calc.results["magnetic_forces"]).max() < 1e-4


def test_unknown_mode_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'collinear'"):
        relax_moments(MODEL, cell(), mode="colinear")


def test_minimiser_on_quadratic_valleys_with_bounds():
    stiffness = np.array([1.0, 30.0, 0.1])
    target = np.array([0.3, -2.0, 5.0])

    def evaluate(x, active):
        gap = x[:, 0] - target
        return 0.5 * stiffness * gap**2, (stiffness * gap)[:, None]

    problem = Problem(np.zeros((3, 1)), np.full((3, 1), -1.0), np.full((3, 1), 10.0), np.arange(3), 3, evaluate)
    end = minimise(problem, 1e-8, 200, 0.5)
    assert end.converged.all()
    np.testing.assert_allclose(end.x[:, 0], [0.3, -1.0, 5.0], atol=1e-6)
