"""Errors per branch, parity points, leftover symmetry error."""

from __future__ import annotations

import numpy as np
import pytest

from mmace import Potential
from mmace.errors import UserError
from mmace.train import evaluate_configurations, moment_rotation_error, parity, predict
from mmace.train.evaluate import ErrorSums, batch_errors

from .conftest import isolated_atom, random_structures, small_config

BRANCHES = ["all", "NM", "FM", "AFM", "non-collinear"]


@pytest.fixture
def mixed(make_data):
    """One configuration of each branch but NM, with labels of the teacher's for its random moments."""
    data = make_data(3)
    data[0].magmoms = np.array([[0, 0, 2.0], [0, 0, 0.6]])
    data[1].magmoms = np.array([[0, 0, 1.0], [0, 0, -1.0]])
    data[2].magmoms = np.array([[0, 0, 1.0], [1.0, 0, 0]])
    return data


def test_errors_are_those_of_numpy(teacher, mixed):
    errors = evaluate_configurations(teacher, mixed, batch_size=2)
    assert list(errors) == BRANCHES
    assert [errors[branch]["count"] for branch in BRANCHES] == [3, 0, 1, 1, 1]
    predictions = predict(teacher, mixed)
    energy = np.array([(p.energy - c.energy) / 2 for p, c in zip(predictions, mixed, strict=True)])
    assert errors["all"]["energy_mae"] == pytest.approx(np.abs(energy).mean())
    assert errors["all"]["energy_rmse"] == pytest.approx(np.sqrt((energy**2).mean()))
    for name in ("forces", "stress", "magnetic_forces"):
        difference = np.array([getattr(p, name) - getattr(c, name) for p, c in zip(predictions, mixed, strict=True)])
        assert errors["all"][f"{name}_mae"] == pytest.approx(np.abs(difference).mean())
        assert errors["AFM"][f"{name}_rmse"] == pytest.approx(np.sqrt((difference[1] ** 2).mean()))
        assert errors["all"][f"{name}_rmse"] > 1e-3
    assert errors["NM"]["energy_mae"] is None


def test_no_labels_no_errors(teacher):
    errors = evaluate_configurations(teacher, [*random_structures(2), isolated_atom()])
    assert errors["all"]["energy_mae"] is not None  # of the atom
    assert errors["non-collinear"] == {"count": 2, **dict.fromkeys(list(errors["all"])[1:])}
    assert predict(teacher, [isolated_atom()])[0].stress is None


def test_the_teacher_makes_no_errors(teacher, make_data):
    errors = evaluate_configurations(teacher, make_data(5), batch_size=2)["all"]
    assert max(value for key, value in errors.items() if key != "count") < 1e-12


def test_batches_do_not_change_predictions(teacher):
    data = [*random_structures(5), isolated_atom()]
    for one, other in zip(predict(teacher, data, 1), predict(teacher, data, 6), strict=True):
        assert one.energy == pytest.approx(other.energy, abs=1e-10)
        np.testing.assert_allclose(one.forces, other.forces, atol=1e-10)


def test_validation_errors_are_the_same_errors(teacher, mixed):
    import torch

    from mmace.train.batches import join, prepare

    mixed[1].forces = mixed[2].energy = None
    batch, sums = join(prepare(mixed, ["Fe", "Ni"], 3.5, torch.float64)), ErrorSums()
    batch_errors(teacher(batch.graph), batch, sums)
    assert sums.result() == pytest.approx(evaluate_configurations(teacher, mixed)["all"])


def test_parity_points(teacher, mixed):
    mixed[0].stress = None
    points = parity(teacher, mixed)
    assert {name: len(point["label"]) for name, point in points.items()} == {
        "energy": 3,
        "forces": 18,
        "stress": 12,
        "magnetic_forces": 18,
    }
    errors = evaluate_configurations(teacher, mixed)["all"]
    for name in ("energy", "forces", "magnetic_forces"):
        difference = points[name]["prediction"] - points[name]["label"]
        assert np.abs(difference).mean() == pytest.approx(errors[f"{name}_mae"])
    assert points["energy"]["branch"] == ["FM", "AFM", "non-collinear"]
    assert len(points["stress"]["branch"]) == 12


def test_leftover_symmetry_error():
    data = random_structures(6)
    leftover = moment_rotation_error(Potential(small_config(symmetry="soc")), data, seed=1, batch_size=4)
    assert leftover > 1e-4
    assert moment_rotation_error(Potential(small_config(symmetry="nonsoc")), data, seed=1) < 1e-10
    for configuration in data:
        configuration.magmoms = np.zeros((2, 3))
    assert moment_rotation_error(Potential(small_config(symmetry="soc")), data) == 0.0


def test_unknown_element(teacher):
    data = random_structures(1)
    data[0].numbers = np.array([26, 8])
    with pytest.raises(UserError, match="element O is not known to the model"):
        evaluate_configurations(teacher, data)
