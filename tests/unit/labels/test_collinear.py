"""Vector moments to GPAW's signed numbers and back."""

import numpy as np
import pytest

from mmace.errors import UserError
from mmace_flows.labels.gpaw_engine import collinear_moments


@pytest.mark.parametrize("axis", [[0, 0, 1], [1, 0, 0], [0.6, 0, -0.8], [1, 2, 3]])
def test_moments_along_any_axis_come_back(axis):
    axis = np.array(axis) / np.linalg.norm(axis)
    vectors = np.outer([2.2, 0.6, -2.2, -0.6], axis)
    along, found = collinear_moments(vectors)
    assert np.outer(along, found) == pytest.approx(vectors)
    assert np.linalg.norm(found) == pytest.approx(1.0)
    assert abs(along) == pytest.approx([2.2, 0.6, 2.2, 0.6])


def test_moments_along_z_keep_their_exact_values_and_signs():
    values = np.array([2.2, 0.6, -2.2, -0.6])
    along, axis = collinear_moments(np.column_stack([np.zeros((4, 2)), values]))
    assert np.array_equal(along, values) and np.array_equal(axis, [0, 0, 1])
    along, axis = collinear_moments([[0, 0, -1.0], [0, 0, -2.0]])
    assert np.array_equal(along, [-1, -2]) and np.array_equal(axis, [0, 0, 1])


def test_no_moments_lie_along_z():
    along, axis = collinear_moments(np.zeros((3, 3)))
    assert not along.any() and np.array_equal(axis, [0, 0, 1])


def test_canted_moments_and_nan_are_refused_in_one_line():
    with pytest.raises(UserError, match=r"not along one axis.*collinear") as caught:
        collinear_moments([[0, 0, 2.0], [0.1, 0, 2.0]])
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="NaN"):
        collinear_moments([[0, 0, float("nan")]])
