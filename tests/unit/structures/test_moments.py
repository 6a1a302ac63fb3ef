"""Patterns, changes and classes of moments."""

import numpy as np
import pytest

from mmace.errors import UserError
from mmace_flows.structures import moments as m


@pytest.mark.parametrize(
    ("magmoms", "state"),
    [
        ([0, 0, 0, 0], "NM"),
        ([0.05, -0.09, 0, 0], "NM"),
        ([2.2, 0.6, 2.2, 0.6], "FM"),
        ([-2.2, -0.6, -2.2, -0.6], "FM"),
        ([2.2, 0.6, -2.2, -0.6], "AFM"),
        ([2.19, 0.02, -2.19, -0.01], "AFM"),  # Ni between antiparallel layers
        ([2.2, -0.15, 2.2, -0.15], "FM"),  # an induced moment flips nothing
        ([2.2, -0.6, 2.2, -0.6], "FiM"),
        ([2.2, 0.6, -1.2, -0.2], "FiM"),
    ],
)
def test_states_along_z(magmoms, state):
    assert m.magnetic_state(magmoms) == state


def test_the_axis_does_not_matter_and_canting_does():
    axis = np.array([1.0, 2.0, -2.0]) / 3.0
    assert m.magnetic_state(np.outer([2.2, 0.6, -2.2, -0.6], axis)) == "AFM"
    assert m.magnetic_state([[2, 0, 0], [0, 2, 0]]) == "non-collinear"
    tilt = np.deg2rad(4.0)
    assert m.magnetic_state([[0, 0, 2], [0, 2 * np.sin(tilt), 2 * np.cos(tilt)]]) == "FM"


def test_common_axis_points_along_its_largest_component():
    assert m.common_axis([[0, 0, -2], [0, 0, 1]]) == pytest.approx([0, 0, 1])
    assert m.common_axis(np.zeros((2, 3))) == pytest.approx([0, 0, 1])
    assert m.common_axis([[2, 0, 0], [0, 2, 0]]) is None


def test_states_agree_with_the_branches_that_errors_are_reported_by():
    configuration = pytest.importorskip("mmace.train.configuration")
    assert configuration.NONMAGNETIC_BELOW == m.NONMAGNETIC_BELOW
    assert configuration.INDUCED_FRACTION == m.INDUCED_FRACTION
    assert configuration.COLLINEAR_WITHIN == m.COLLINEAR_WITHIN
    generator = np.random.default_rng(3)
    for number in range(300):
        size = generator.choice([0.02, 0.2, 2.0], size=(4, 1))
        vectors = generator.normal(size=(4, 3)) * size
        if number % 2:
            vectors = np.outer(vectors[:, 2], vectors[0] / np.linalg.norm(vectors[0]))
        state, branch = m.magnetic_state(vectors), configuration.magnetic_branch(vectors)
        assert state == branch or (state == "FiM" and branch in ("FM", "AFM"))


def test_flips_and_scales_are_what_they_say():
    start = m.pattern_moments("FM", 8)
    generator = np.random.default_rng(0)
    assert np.array_equal(m.flip_spins(start, generator, 0.0), start)
    assert np.array_equal(m.flip_spins(start, generator, 1.0), -start)
    flipped = np.vstack([m.flip_spins(start, generator, 0.5) for _ in range(200)])
    assert np.array_equal(np.abs(flipped), np.vstack([start] * 200))
    assert (flipped[:, 2] < 0).mean() == pytest.approx(0.5, abs=0.05)
    scaled = np.vstack([m.scale_moments(start, generator) for _ in range(200)]) / np.vstack(
        [np.abs(start) + 1e-12] * 200
    )
    factors = scaled[:, 2]
    assert factors.min() >= 0 and factors.max() <= 1
    assert factors.mean() == pytest.approx(0.5, abs=0.05) and factors.std() == pytest.approx(12**-0.5, abs=0.03)


def test_wrong_shapes_and_sizes_are_refused():
    with pytest.raises(UserError, match="not a multiple"):
        m.pattern_moments("FM", 6)
    with pytest.raises(ValueError, match="shape"):
        m.as_vectors(np.zeros((4, 2)))
