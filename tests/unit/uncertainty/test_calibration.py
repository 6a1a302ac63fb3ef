"""Scales and power laws found again from data drawn with known ones."""

from __future__ import annotations

import numpy as np
import pytest

from mmace.errors import UserError
from mmace.uncertainty.calibration import agreement, binned, calibrate, interval, reliability


def drawn(scale: float, power: float, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    spreads = np.exp(generator.normal(-4.0, 1.0, count))
    return scale * spreads**power * generator.normal(size=count), spreads


def test_scale_is_found_again():
    errors, spreads = drawn(2.5, 1.0)
    found = calibrate(errors, spreads)
    assert found.power == 1.0
    assert found.scale == pytest.approx(2.5, rel=0.05)
    after, before = agreement(errors, found(spreads)), agreement(errors, spreads)
    assert after.coverage_68 == pytest.approx(0.683, abs=0.02)
    assert after.coverage_95 == pytest.approx(0.954, abs=0.01)
    assert after.miscalibration_area < 0.02 < before.miscalibration_area
    assert after.nll < before.nll
    assert after.rank_correlation > 0.4


def test_power_law_is_found_again_and_is_likelier():
    errors, spreads = drawn(0.3, 0.6)
    found = calibrate(errors, spreads, power_law=True)
    assert found.power == pytest.approx(0.6, abs=0.05)
    np.testing.assert_allclose(found(spreads), 0.3 * spreads**0.6, rtol=0.1)
    assert agreement(errors, found(spreads)).nll < agreement(errors, calibrate(errors, spreads)(spreads)).nll


def test_maximum_of_the_likelihood():
    errors, spreads = drawn(1.7, 0.8, 200)
    found = calibrate(errors, spreads, power_law=True)
    best = agreement(errors, found(spreads)).nll
    for factor, power in ((1.05, 0.0), (0.95, 0.0), (1.0, 0.05), (1.0, -0.05)):
        other = factor * found.scale * found.unit * (spreads / found.unit) ** (found.power + power)
        assert agreement(errors, other).nll > best


def test_reliability_and_bins():
    errors, spreads = drawn(1.0, 1.0)
    expected, observed = reliability(errors, spreads)
    np.testing.assert_allclose(observed, expected, atol=0.03)
    assert (observed[0], observed[-1]) == (pytest.approx(0.0, abs=1e-3), 1.0)
    sigma, error = binned(errors, spreads)
    assert (np.diff(sigma) > 0).all()
    np.testing.assert_allclose(error / sigma, 1.0, atol=0.2)
    assert interval(0.6827) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("errors", "spreads", "word"),
    [
        ([1.0, 2.0], [1.0, 1.0], "at least 3"),
        ([1.0, 2.0, 3.0], [1.0], "one for one"),
        ([1.0, 2.0, np.nan], [1.0, 1.0, 1.0], "finite"),
        ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], "all uncertainties are zero"),
    ],
)
def test_unusable_data_are_refused(errors, spreads, word):
    with pytest.raises(UserError, match=word):
        calibrate(errors, spreads)
