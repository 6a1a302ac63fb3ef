"""One-body magnetic energies in a training: set, and kept out of the fit of E0."""

from __future__ import annotations

import numpy as np
import pytest

from mmace.errors import UserError
from mmace.one_body import fit_spline
from mmace.one_body_file import curve_to_dict
from mmace.train import Configuration, TrainingConfig, train

from .conftest import small_config

MOMENTS = np.linspace(0.0, 4.0, 9)
CURVE = fit_spline(MOMENTS, -0.5 * MOMENTS**2 + 0.03 * MOMENTS**4)


def atoms_far_apart() -> list[Configuration]:
    """Iron atoms out of each other's reach: E0 = −5 eV and the curve are their whole energy."""
    found = []
    for moment in (0.5, 1.5, 2.5, 3.5):
        energy = -10.0 + 2 * float(CURVE([moment])[0])
        moments = [[0, 0, moment], [0, moment, 0]]
        positions = [[0.0, 0, 0], [0, 0, 20.0]]
        found.append(Configuration([26, 26], positions, np.zeros((3, 3)), False, moments, energy=energy))
    return found


def test_training_takes_the_curves_and_fits_only_the_rest(tmp_path):
    data = atoms_far_apart()
    config = TrainingConfig(epochs=1, one_body={"Fe": curve_to_dict(CURVE), "Co": curve_to_dict(CURVE)})
    result = train(small_config(elements=["Fe"], m_max={"Fe": 4.5}), config, data, data, tmp_path / "out")
    assert float(result.model.atomic_energies[0, 0]) == pytest.approx(-5.0, abs=1e-6)
    assert result.history[-1]["energy_rmse"] < 1e-6
    # the same settings go on, others are another run
    assert train(small_config(elements=["Fe"], m_max={"Fe": 4.5}), config, data, data, tmp_path / "out").was_finished
    with pytest.raises(UserError, match=r"one_body \(\{'Co.{,80}… there, None now"):
        train(small_config(elements=["Fe"], m_max={"Fe": 4.5}), TrainingConfig(epochs=1), data, data, tmp_path / "out")


def test_curves_of_other_elements_are_refused(tmp_path):
    data = atoms_far_apart()
    config = TrainingConfig(epochs=1, one_body={"Co": curve_to_dict(CURVE)})
    with pytest.raises(UserError, match="curves of Co, the model knows Fe"):
        train(small_config(elements=["Fe"]), config, data, data, tmp_path / "out")
    wrong = TrainingConfig(epochs=1, one_body={"Fe": {"width": 1.0}})
    with pytest.raises(UserError, match="not a one-body curve"):
        train(small_config(elements=["Fe"]), wrong, data, data, tmp_path / "out")
    with pytest.raises(UserError, match="symmetry = none"):
        train(
            small_config(elements=["Fe"], symmetry="none"),
            TrainingConfig(epochs=1, one_body={"Fe": curve_to_dict(CURVE)}),
            data,
            data,
            tmp_path / "none",
        )
