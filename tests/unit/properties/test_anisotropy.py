"""The fit on the sphere against energies that are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mmace.errors import UserError
from mmace_flows.properties.anisotropy import EV_PER_CUBIC_ANGSTROM, analyse, even_harmonics
from mmace_flows.structures.directions import directions


def uniaxial(vectors: np.ndarray, axis: np.ndarray, k1: float, k2: float) -> np.ndarray:
    squared = 1.0 - (vectors @ axis) ** 2
    return -3.0 + k1 * squared + k2 * squared**2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(-2e-3, 2e-3), st.floats(-1e-3, 1e-3))
def test_uniaxial_constants_about_any_axis(seed, k1, k2):
    axis = Rotation.random(random_state=seed).as_matrix()[2]
    vectors = directions("lebedev:50")
    found = analyse(vectors, uniaxial(vectors, axis, k1, k2), volume=27.0, num_atoms=4, formula_units=2, axis=axis)
    assert found.degree == 4
    assert found.k1 == pytest.approx(k1 / 27.0 * EV_PER_CUBIC_ANGSTROM, abs=1e-8)
    assert found.k2 == pytest.approx(k2 / 27.0 * EV_PER_CUBIC_ANGSTROM, abs=1e-8)
    assert found.k1_mev_per_atom == pytest.approx(250 * k1, abs=1e-8)
    assert found.k1_mev_per_formula == pytest.approx(500 * k1, abs=1e-8)
    assert found.fit_error < 1e-12


def test_ends_of_an_easy_axis_an_easy_plane_and_a_cubic_crystal():
    vectors = directions("lebedev:50")
    z = np.array([0.0, 0.0, 1.0])
    easy_axis = analyse(vectors, uniaxial(vectors, z, 1e-3, 2e-4), 10.0, 1)
    assert easy_axis.easy == pytest.approx([0, 0, 1]) and abs(easy_axis.hard[2]) < 0.02
    assert easy_axis.strength == pytest.approx(1.2e-3, rel=1e-4)
    easy_plane = analyse(vectors, uniaxial(vectors, z, -1e-3, 0.0), 10.0, 1)
    assert easy_plane.hard == pytest.approx([0, 0, 1]) and abs(easy_plane.easy[2]) < 0.02
    x, y, c = (vectors**2).T
    cubic = analyse(vectors, 1e-4 * (x * y + y * c + c * x), 10.0, 1)
    assert max(cubic.easy) == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(np.abs(cubic.hard), 3**-0.5, atol=0.02)
    assert cubic.strength == pytest.approx(1e-4 / 3, rel=1e-3)


def test_the_error_of_the_fit_tells_what_harmonics_cannot_describe():
    vectors = directions("lebedev:50")
    smooth = uniaxial(vectors, np.array([0.0, 0.0, 1.0]), 1e-3, 0.0)
    noise = 1e-5 * np.random.default_rng(0).normal(size=len(vectors))
    assert analyse(vectors, smooth + noise, 10.0, 1).fit_error == pytest.approx(1e-5, rel=0.5)


def test_harmonics_are_orthonormal_on_a_lebedev_set():
    from scipy.integrate import lebedev_rule

    points, weights = lebedev_rule(17)
    values = even_harmonics(points.T, 8)
    gram = values.T @ (values * weights[:, None]) / (4 * np.pi)
    np.testing.assert_allclose(gram, np.eye(45), atol=1e-10)


def test_more_coefficients_than_directions_are_refused():
    vectors = directions("lebedev:6")
    with pytest.raises(UserError, match="3 directions cannot tell 6 harmonics"):
        analyse(vectors, np.zeros(6), 10.0, 1)
